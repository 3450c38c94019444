"""Images per second from a map file of JPEG files to augmented batches, beside the loaders that people use.

    python benchmarks/images.py --data DIR [--rounds 3] [--case 32px|64px|photos]

DIR holds CIFAR-10 (32x32 pixels, written as JPEG), ilsvrc2012-tiny.tar (64x64) and imagenet-sample.tar (200
photographs as they are): any JPEG files in archives of these names do. 32 and 64 pixels: pad by 4, cut at random,
mirror half of the images, subtract a mean, scale; photographs: cut a random square of 7/8 of the shorter side, scale to
227x227, mirror, subtract, scale. All sides do the same work and end in float32 batches in memory; the files are in the
disk's cache.

Ours is what `convolve train` does: small images are decoded once ("first pass", opening the set included) and are then
in memory ("later passes"); photographs are decoded in every pass. The peers are Pillow in PyTorch's DataLoader, with
torchvision's steps written out and each number of workers, and, where they are installed, DALI's CPU pipeline and
tf.data, both of which decode only the part of a photograph that is cut out. Each side runs in a process of its own, the
sides in turn, round after round. Results go to benchmarks/results/PROCESSOR/images.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

import image_peers
from convolve.atomic import write_json
from convolve.data.build import build_data
from convolve.data.lists import open_lists
from convolve.data.splits import Splits
from convolve.environment import usable_cores
from convolve.formats.image_map import read_image_map
from convolve.recipes import resolve
from convolve.training.memory import keep_freed_memory
from image_peers import Case, lay_out
from rounds import Rates, conditions, in_turn, measure_apart, medians, ratio, results_of, settle

SECONDS, WARM_UP_BATCHES = 2.0, 4
RESULTS = results_of("images")

CASES = {
    "32px": Case("", images=50_000, side=32, pad=4, batch_size=128),
    "64px": Case("ilsvrc2012-tiny.tar", images=25_000, side=64, pad=4, batch_size=128),
    "photos": Case("imagenet-sample.tar", images=1000, side=227, pad=0, batch_size=32),
}
WORKERS = (1, 2, 3)
# name -> the package that it needs
PEERS = {
    **{f"Pillow + DataLoader, {workers} workers": "PIL" for workers in WORKERS},
    "DALI": "nvidia.dali",
    "tf.data": "tensorflow",
}


def sides(case: str) -> list[str]:
    """Ours, and the peers that are installed."""
    ours = ["ours"] if case == "photos" else ["ours, first pass", "ours, later passes"]
    return ours + [name for name, package in PEERS.items() if is_installed(package)]


def is_installed(package: str) -> bool:
    return find_spec(package.partition(".")[0]) is not None


def our_batches(
    splits: Splits, side: int, batch_size: int, pad: int = 0, settings: Mapping[str, Any] | None = None
) -> Iterator[tuple[Any, Any]]:
    """What the loop of a training sees, images and labels, pass after pass; cut as `Case` says."""
    keep_freed_memory()  # as every training does
    transforms: list[dict[str, Any]]
    if pad:
        transforms = [
            {"kind": "pad", "pixels": pad, "value": 128},
            {"kind": "crop", "crop_type": "randomside", "crop_width": side, "crop_height": side},
        ]
    else:
        transforms = [
            {"kind": "crop", "crop_type": "randomside", "side_ratio": image_peers.SIDE_RATIO},
            {"kind": "scale", "width": side, "height": side},
        ]
    recipe = resolve(
        "cifar10-aug",
        {
            "data.train_transforms": json.dumps(transforms), "data.image_size": side,
            "data.mean_image": "", "data.mean": image_peers.MEAN, "data.scale": 1 / image_peers.DEVIATION,
            "data.order": "shuffled", "run.global_batch_size": batch_size, **(settings or {}),
        },
    )  # fmt: skip
    loader = build_data(recipe, splits, usable_cores()).loader
    epoch = 0
    while True:
        yield from loader.epoch(epoch)
        epoch += 1


def _our_counts(case: Case, folder: Path) -> Iterator[int]:
    """The number of images of each batch."""
    return (len(labels_N) for _, labels_N in our_batches(open_lists(folder), case.side, case.batch_size, case.pad))


def measure(side: str, case: Case, folder: Path) -> float:
    """Images per second of one side, in this process."""
    torch.set_num_threads(usable_cores())
    start = time.perf_counter()
    batches = _our_counts(case, folder) if side.startswith("ours") else peer_batches(side, case, folder)
    if side == "ours, first pass":
        return _rate(batches, start, case.images)
    skipped = case.images if side == "ours, later passes" else WARM_UP_BATCHES * case.batch_size
    _rate(batches, start, skipped)
    start = time.perf_counter()
    return _rate(batches, start, 0)


def peer_batches(side: str, case: Case, folder: Path) -> Iterator[int]:
    images = read_image_map(folder / "train_map.txt")
    files = [images.location(index).file for index in range(len(images))]
    labels = images.labels_N.tolist()
    if side == "DALI":
        return image_peers.dali(files, labels, case)
    if side == "tf.data":
        return image_peers.tf_data(files, labels, case)
    return image_peers.pillow(files, labels, case, workers=int(side.split()[-2]))


def _rate(batches: Iterator[int], start: float, least_images: int) -> float:
    """Images per second since `start`, at the end of so many images; 0: of `SECONDS`."""
    images = 0
    while images < least_images or (not least_images and time.perf_counter() - start < SECONDS):
        images += next(batches)
    return images / (time.perf_counter() - start)


def compared(case: str, rates: Rates) -> dict[str, Any]:
    """What is claimed: each a median of ratios within a round, Pillow at its best number of workers."""
    pillow = {name: value for name, value in medians(rates).items() if name.startswith("Pillow")}
    best = max(pillow, key=pillow.__getitem__)
    others = [name for name in rates if not name.startswith(("ours", "Pillow"))]
    return {
        "best_pillow": best,
        **{
            f"{side} / {other}": ratio(rates, side, other)
            for side in rates if side.startswith("ours") for other in [best, *others]
        },
    }  # fmt: skip


def _measure_apart(case: str, folder: str, side: str) -> float:
    return measure_apart(__file__, "--case", case, "--side", side, "--folder", folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder with the archives")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--case", choices=CASES, action="append", help="one of them only; repeatable")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    cases: list[str] = arguments.case or list(CASES)
    if arguments.side:
        print(measure(arguments.side, CASES[cases[0]], arguments.folder))
        return
    if not arguments.data:
        parser.error("--data DIR is missing: the folder with the archives")
    result: dict[str, Any] = {"conditions": conditions(arguments.rounds, 0) | {"seconds_a_side": SECONDS}}
    for name in cases:
        with tempfile.TemporaryDirectory() as place:
            lay_out(arguments.data, CASES[name], Path(place))
            settle(Path(place))
            rates = in_turn(sides(name), arguments.rounds, partial(_measure_apart, name, place))
        result[name] = {"medians": medians(rates), "ratios": compared(name, rates), "all_rounds": rates}
    write_json(RESULTS, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
