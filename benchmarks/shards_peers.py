"""WebDataset and LitData on the shards of `shards.py`, each as its documentation writes it: images a second.

    python shards_peers.py SIDE FOLDER SECONDS

SIDE is "webdataset, DECODER, N workers" or "litdata, ..."; it is run by an interpreter that has these packages, and
needs nothing of convolve. `prepare FOLDER` writes LitData's own form of the shards there.
"""

from __future__ import annotations

import json
import os
import random
import resource
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

SIDE, SIDE_RATIO, MEAN, DEVIATION, BATCH = 224, 0.875, 114.0, 64.0, 32
CHUNK = "64MB"


def by_cv2(encoded: bytes) -> torch.Tensor:
    """A random square of 7/8 of the shorter side, scaled, mirrored half the time, normalized."""
    image_HWC = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert image_HWC is not None
    top, left, side = square(image_HWC.shape[0], image_HWC.shape[1])
    cut_HWC = cv2.resize(image_HWC[top : top + side, left : left + side], (SIDE, SIDE))
    cut_HWC = cut_HWC[:, ::-1] if random.random() < 0.5 else cut_HWC
    return normalized(torch.from_numpy(np.ascontiguousarray(cut_HWC)).permute(2, 0, 1))


def by_torchvision(encoded: bytes) -> torch.Tensor:
    from torchvision.io import ImageReadMode, decode_jpeg
    from torchvision.transforms.v2 import functional

    image_CHW = decode_jpeg(torch.frombuffer(bytearray(encoded), dtype=torch.uint8), mode=ImageReadMode.RGB)
    top, left, side = square(image_CHW.shape[1], image_CHW.shape[2])
    cut_CHW = functional.resized_crop(image_CHW, top, left, side, side, [SIDE, SIDE], antialias=False)
    return normalized(functional.horizontal_flip(cut_CHW) if random.random() < 0.5 else cut_CHW)


def square(height: int, width: int) -> tuple[int, int, int]:
    side = round(SIDE_RATIO * min(height, width))
    return random.randint(0, height - side), random.randint(0, width - side), side


def normalized(image_CHW: torch.Tensor) -> torch.Tensor:
    return image_CHW.to(torch.float32).sub_(MEAN).div_(DEVIATION)


DECODERS: dict[str, Callable[[bytes], torch.Tensor]] = {"cv2": by_cv2, "torchvision": by_torchvision}


class Prepare:
    """What a sample of a shard becomes: the image and its class number."""

    def __init__(self, decoder: str) -> None:
        self.decode = DECODERS[decoder]

    def __call__(self, sample: tuple[bytes, bytes]) -> tuple[torch.Tensor, int]:
        cv2.setNumThreads(0)
        return self.decode(sample[0]), int(sample[1])


def webdataset(folder: Path, decoder: str, workers: int) -> Iterator[Any]:
    import webdataset as wds

    shards = [str(path) for path in sorted(folder.glob("train-*.tar"))]
    data = wds.WebDataset(shards, resampled=True, shardshuffle=False).shuffle(1000).to_tuple("jpg", "cls")
    loader = wds.WebLoader(data.map(Prepare(decoder)).batched(BATCH), batch_size=None, num_workers=workers)
    yield from loader


def litdata(folder: Path, decoder: str, workers: int) -> Iterator[Any]:
    from litdata import StreamingDataLoader, StreamingDataset

    prepare = Prepare(decoder)

    class Pictures(StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, index: Any) -> tuple[torch.Tensor, int]:
            return prepare(super().__getitem__(index))

    data = Pictures(str(folder / "litdata"), shuffle=True, seed=0)
    loader = StreamingDataLoader(data, batch_size=BATCH, num_workers=workers, persistent_workers=True)
    while True:
        yield from loader


def write_for_litdata(folder: Path) -> None:
    from litdata.streaming import Cache

    cache = Cache(str(folder / "litdata"), chunk_bytes=CHUNK)
    number = 0
    for path in sorted(folder.glob("train-*.tar")):
        with tarfile.open(path) as tar:
            members = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        for name in [name for name in members if name.endswith(".jpg")]:
            cache[number] = (members[name], members[f"{name[:-4]}.cls"])
            number += 1
    cache.done()
    cache.merge()


def processor_seconds() -> float:
    """Of this process and of those that it has waited for; workers are among them once they are stopped."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def alive_seconds() -> float:
    """Of the workers that are alive."""
    ticks = os.sysconf("SC_CLK_TCK")
    total = 0.0
    for task in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = task.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            total += (int(fields[11]) + int(fields[12])) / ticks
    return total


def rates(batches: Iterator[Any], seconds: float) -> dict[str, float]:
    """Images a second, and for each second of a processor, once the first batches are there."""
    for _ in range(8):
        next(batches)
    start, used, images = time.perf_counter(), processor_seconds() + alive_seconds(), 0
    while time.perf_counter() - start < seconds:
        images += len(next(batches)[1])
    spent = processor_seconds() + alive_seconds() - used
    return {"second": images / (time.perf_counter() - start), "processor second": images / spent}


def main() -> None:
    side, folder = sys.argv[1], Path(sys.argv[2])
    torch.set_num_threads(1)
    if side == "prepare":
        write_for_litdata(folder)
        return
    library, decoder, workers = side.split(", ")
    open_side = {"webdataset": webdataset, "litdata": litdata}[library]
    print(json.dumps(rates(open_side(folder, decoder, int(workers.split()[0])), float(sys.argv[3]))), flush=True)
    os._exit(0)  # some workers never end by themselves


if __name__ == "__main__":
    main()
