"""Damages PyTorch checkpoints at random and opens them: each must give a named error or an intact model, quickly.

    python tests/importers/fuzz_checkpoints.py COUNT [SEED]

Exits with 1 for anything but an error of convolve's own, or more than 2 seconds of processor time for a file; memory is
limited to 2 GiB beyond what torch takes.
"""

from __future__ import annotations

import argparse
import io
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import save

from convolve.errors import ConvolveError
from convolve.importers import pytorch
from convolve.importers.loader import PreprocessOverrides
from convolve.importers.pytorch.architectures import OWN
from convolve.importers.refused import refuse
from convolve.models import build_model

SECONDS, MEMORY = 2.0, 2 << 30
EDGE = 1 << 14  # bytes at either end, where headers, pickles and directories are


def originals() -> list[bytes]:
    network = build_model(OWN["resnet20"].spec, (3, 32, 32), 3)
    value = {"state_dict": network.state_dict(), "arguments": argparse.Namespace(lr=0.1), "epoch": 3}
    made = [save(network.state_dict())]
    for zipped in (True, False):
        for content in (value, network, network.state_dict()):
            buffer = io.BytesIO()
            torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
            made.append(buffer.getvalue())
    return made


def damaged(rng: random.Random, original: bytes) -> bytes:
    data = bytearray(original)
    for _ in range(rng.randint(1, 6)):
        start = rng.choice([0, max(0, len(data) - EDGE)])
        at = start + rng.randrange(min(EDGE, len(data)))
        if at >= len(data):
            continue
        kind = rng.randrange(5)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, ord("0"), ord("9"), ord("}"), rng.randrange(256)])
        elif kind == 2:
            data[at : at + rng.choice([0, 4, 8])] = rng.choice([b"\xff" * 8, b"\0" * 8, b"\xff\xff\xff\x7f", b"9" * 12])
        elif kind == 3:
            del data[at : at + rng.randint(1, 40)]
        else:
            other = rng.randrange(len(data))
            data[at:at] = data[other : other + rng.randint(1, 40)]
    return bytes(data[: rng.randrange(len(data))] if rng.random() < 0.05 else data)


def open_once(path: Path, arch: str | None) -> str:
    try:
        refuse(path)
        if not pytorch.is_pytorch(path):
            return "not recognized"
        pytorch.read(path, PreprocessOverrides(arch=arch))
    except ConvolveError as error:
        return type(error).__name__
    return "intact"


def main(count: int, seed: int) -> int:
    made = originals()
    taken = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.pth"
        for number in range(count):
            rng = random.Random(f"{seed} {number}")
            path.write_bytes(damaged(rng, rng.choice(made)))
            began = time.process_time()
            try:
                outcomes[open_once(path, rng.choice([None, "resnet20"]))] += 1
            except Exception as error:
                print(f"file {number} of seed {seed}: {type(error).__name__}: {error}")
                return 1
            if time.process_time() - began > SECONDS:
                print(f"file {number} of seed {seed} took {time.process_time() - began:.1f} s")
                return 1
    print(dict(outcomes))
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0))
