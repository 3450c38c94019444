"""Images per second from shards to augmented batches, beside class folders, WebDataset and LitData; the large index.

    python benchmarks/shards.py --data DIR --peers PYTHON [--rounds 3] [--images 1000000]

DIR holds imagenet-sample.tar (200 photographs as they are; any JPEG files in an archive of that name do), which is
written 20-fold. PYTHON is an interpreter with webdataset, litdata, torchvision and OpenCV (`shards_peers.py` says what
they do). All cut a random square of 7/8 of the shorter side, scale it to 224x224, mirror, subtract, scale, and end in
float32 batches of 32; the files are in the disk's cache. Each side runs in a process of its own, in turn, round after
round. Rates are given by the clock and for each second of a processor (all processes of a side together), which other
work on the machine disturbs less.

Then an index of so many images: bytes an image in memory, and seconds to the first batch. Results go to
benchmarks/results/PROCESSOR/shards.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from convolve.atomic import write_json
from convolve.data.open import open_data
from convolve.formats.tar_index import BLOCK, tar_header
from convolve.prepare.shards import prepare_shards
from images import our_batches
from rounds import Rates, conditions, figures_apart, in_turn, medians, ratio, results_of, settle
from shards_peers import BATCH, SIDE, rates

SECONDS, TIMES, CLASSES = 3.0, 20, 10
RESULTS = results_of("shards")
OURS = ("class folders", "shards")
PEERS = [
    f"{name}, {decoder}, {workers} workers"
    for name in ("webdataset", "litdata") for decoder in ("cv2", "torchvision") for workers in (1, 2)
]  # fmt: skip
SHARD_OF_INDEX = 10_000  # images


def lay_out(archive: Path, place: Path, peers: str) -> None:
    """The photographs, each `TIMES`, as class folders, as shards, and as LitData's chunks."""
    number = 0
    for part in ("train", "val"):
        for label in range(CLASSES):
            (place / "folders" / part / str(label)).mkdir(parents=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isreg() and member.name.lower().endswith((".jpg", ".jpeg")):
                content = tar.extractfile(member).read()  # type: ignore[union-attr]
                for copy in range(TIMES):
                    (place / "folders/train" / str(number % CLASSES) / f"{number}-{copy}.jpg").write_bytes(content)
                if number < 2 * CLASSES:
                    (place / "folders/val" / str(number % CLASSES) / f"{number}.jpg").write_bytes(content)
                number += 1
    for line in prepare_shards(place / "folders", place / "shards", shard_mb=32):
        print(line, file=sys.stderr)
    subprocess.run([peers, Path(__file__).with_name("shards_peers.py"), "prepare", place / "shards"], check=True)


def our_pairs(place: Path) -> Iterator[Any]:
    return our_batches(open_data(str(place)), SIDE, BATCH)


def measure(side: str, place: Path, peers: str) -> dict[str, float]:
    """The rates of a side, in a fresh process."""
    if side in OURS:
        return figures_apart(__file__, "--side", side, "--folder", str(place))
    script = str(Path(__file__).with_name("shards_peers.py"))
    command = [peers, script, side, str(place / "shards"), str(SECONDS)]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=300).stdout
    return dict(json.loads(found.splitlines()[-1]))


def compared(found: Rates) -> dict[str, float]:
    """Ours over each peer with its best decoder and number of workers: medians of ratios within a round."""
    figures = {"shards / class folders": ratio(found, "shards", "class folders")}
    for name in ("webdataset", "litdata"):
        of_peer = {side: rate for side, rate in medians(found).items() if side.startswith(name)}
        best = max(of_peer, key=of_peer.__getitem__)
        figures[f"shards / {best}"] = ratio(found, "shards", best)
    return figures


def write_many(place: Path, images: int) -> None:
    """Shards with one and the same small image: what counts here is how many there are."""
    content = cv2.imencode(".jpg", np.zeros((96, 128, 3), np.uint8))[1].tobytes()
    padded = content + bytes(-len(content) % BLOCK)
    place.mkdir()
    for first in range(0, images, SHARD_OF_INDEX):
        with (place / f"train-{first // SHARD_OF_INDEX:06}.tar").open("wb") as file:
            for number in range(first, min(first + SHARD_OF_INDEX, images)):
                file.write(tar_header(f"c{number % 1000:04}/{number:08}.jpg", len(content)) + padded)
                label = b"%d" % (number % 1000)
                file.write(tar_header(f"c{number % 1000:04}/{number:08}.cls", len(label)) + label.ljust(BLOCK, b"\0"))
            file.write(bytes(2 * BLOCK))


def private_bytes() -> dict[str, int]:
    """Memory of this process: its own, and what it shares through files."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()[1:]
    found = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    return {"own": found["Private_Clean"] + found["Private_Dirty"], "all": found["Rss"]}


def measure_index(place: Path) -> dict[str, float]:
    """Seconds to the first batch, and the bytes an image beyond a process with a few of them."""
    start = time.perf_counter()
    batches = our_pairs(place)
    next(batches)
    return {"seconds": time.perf_counter() - start, **private_bytes()}


def index_figures(place: Path, images: int) -> dict[str, float]:
    few, many = place / "few", place / "many"
    write_many(few, 2000)
    write_many(many, images)
    figures = {}
    figures["seconds to the first batch, index made"] = figures_apart(__file__, "--index", str(many))["seconds"]
    again, base = (figures_apart(__file__, "--index", str(each)) for each in (many, few))
    figures["seconds to the first batch, index there"] = again["seconds"]
    for kind in ("own", "all"):
        figures[f"bytes an image, {kind}"] = (again[kind] - base[kind]) / images
    cached = sum(path.stat().st_size for path in Path(os.environ["CONVOLVE_CACHE"]).rglob("*.npy"))
    return figures | {"bytes an image, index on disk": cached / (images + 2000)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder with imagenet-sample.tar")
    parser.add_argument("--peers", help="the interpreter that has webdataset and litdata")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=1_000_000, help="of the large index; 0: none")
    parser.add_argument("--side", choices=OURS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--index", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        place = asked.folder / ("folders" if asked.side == "class folders" else "shards")
        print(json.dumps(rates(our_pairs(place), SECONDS)))
        return
    if asked.index:
        print(json.dumps(measure_index(asked.index)))
        return
    if not (asked.data and asked.peers):
        parser.error("--data DIR and --peers PYTHON are missing")
    result: dict[str, Any] = {"conditions": conditions(asked.rounds, 0) | {"seconds_a_side": SECONDS}}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        os.environ["CONVOLVE_CACHE"] = str(place / "cache")
        lay_out(asked.data / "imagenet-sample.tar", place, asked.peers)
        settle(place)
        rounds: dict[str, Rates] = {}

        def both(side: str) -> float:
            found = measure(side, place, asked.peers)
            rounds.setdefault("processor second", {}).setdefault(side, []).append(found["processor second"])
            return found["second"]

        rounds["second"] = in_turn([*OURS, *PEERS], asked.rounds, both)
        for kind, found in rounds.items():
            result[f"images a {kind}"] = {"medians": medians(found), "ratios": compared(found), "all_rounds": found}
        if asked.images:
            result["index"] = {"images": asked.images, **index_figures(place, asked.images)}
    write_json(RESULTS, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
