"""Photographs at 224 pixels, the loader alone: the packed cache's first epoch and later ones, beside others' loaders.

    python benchmarks/packed_cache.py --data DIR [--rounds 3] [--images 1000]

DIR holds imagenet-sample.tar or JPEG files, at any depth, which are copied under other names until there are enough.
Each crop is a random square of 7/8 of the shorter side, scaled to 224x224, mirrored half of the time, less a mean,
scaled; batches of 32 end in float32 in memory. Files are in the disk's cache, and so is what is packed.

Ours is what `convolve train` does with `data.cache=DIR`, and without it. DALI decodes the crop alone, in each epoch,
and has no cache; tf.data decodes once, scales to the size that ours packs (the shorter side at 256) and keeps that by
`cache(FILE)`. Each side runs in a process of its own, in turn. Where the machine is busy, images per processor second
say more than those per second. Results go to benchmarks/results/PROCESSOR/packed_cache.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

import image_peers
from convolve.atomic import write_json
from convolve.data.lists import open_lists
from convolve.environment import usable_cores
from image_peers import DEVIATION, MEAN, SIDE_RATIO, Case
from images import is_installed, our_batches
from rounds import conditions, figures_apart, medians, ratio, results_of, settle

SIDE, BATCH, SECONDS = 224, 32, 4.0
ROOM = round(SIDE / SIDE_RATIO)  # of which 7/8 are SIDE
ARCHIVE = "imagenet-sample.tar"  # as images.py has it
RESULTS = results_of("packed_cache")
FIRST, LATER, PLAIN = "ours, first epoch", "ours, later epochs", "ours, no cache"
PEERS = {"DALI, no cache": "nvidia.dali", "tf.data, cache(FILE), later epochs": "tensorflow"}
CLAIMS = ((LATER, FIRST), (LATER, PLAIN), *((LATER, peer) for peer in PEERS))


def lay_out(source: Path, count: int, folder: Path) -> None:
    """So many photographs in a folder for each of two classes, and one for the test part."""
    files = sorted([*source.rglob("*.jpg"), *source.rglob("*.jpeg")])
    random.Random(0).shuffle(files)
    for number in range(count):
        place = folder / "train" / "ab"[number % 2] / f"{number:05}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(files[number % len(files)].read_bytes())
    for name in "ab":
        (folder / "val" / name).mkdir(parents=True)
        (folder / "val" / name / "0.jpg").write_bytes(files[0].read_bytes())


def our_counts(folder: Path, cache: str) -> Iterator[int]:
    """The number of images of each batch."""
    batches = our_batches(open_lists(folder), SIDE, BATCH, settings={"data.cache": cache})
    return (len(labels_N) for _, labels_N in batches)


def tf_cached(files: Sequence[str], labels: Sequence[int], cache: str) -> Iterator[int]:
    """Decoded and scaled once, then cut at random, with every number left to tf.data."""
    import tensorflow as tf

    def decode(file: Any, label: Any) -> Any:
        image = tf.image.decode_jpeg(tf.io.read_file(file), channels=3)
        size = tf.cast(tf.shape(image)[:2], tf.float32)
        smaller = tf.cast(tf.round(size * (ROOM / tf.reduce_min(size))), tf.int32)
        return tf.cast(tf.image.resize(image, smaller, method="area"), tf.uint8), label

    def cut(image: Any, label: Any) -> Any:
        side = tf.cast(SIDE_RATIO * tf.cast(tf.reduce_min(tf.shape(image)[:2]), tf.float32), tf.int32)
        cropped = tf.image.resize(tf.image.random_crop(image, tf.stack([side, side, 3])), (SIDE, SIDE))
        return (tf.image.random_flip_left_right(cropped) - MEAN) / DEVIATION, label

    auto = tf.data.AUTOTUNE
    kept = tf.data.Dataset.from_tensor_slices((list(files), list(labels))).map(decode, num_parallel_calls=auto)
    endless = kept.cache(cache).shuffle(len(files)).repeat()
    for _, batch_labels in endless.map(cut, num_parallel_calls=auto).batch(BATCH).prefetch(auto):
        yield len(batch_labels)


def measure(side: str, folder: Path, scratch: Path) -> dict[str, float]:
    """Rates of one side, in this process. What is cached is kept for the side behind it."""
    torch.set_num_threads(usable_cores())
    files = sorted(map(str, (folder / "train").rglob("*.jpg")))
    labels, count = [0] * len(files), len(files)
    if side.startswith("ours"):
        batches = our_counts(folder, "none" if side == PLAIN else str(scratch / "packed"))
    elif side.startswith("DALI"):
        batches = image_peers.dali(files, labels, Case("", count, SIDE, 0, BATCH))
    else:
        batches = tf_cached(files, labels, str(scratch / "tf"))
    if side != FIRST:
        _rates(batches, count if "later" in side else 4 * BATCH, count)
    return _rates(batches, count if side == FIRST else 0, count)


def _rates(batches: Iterator[int], least_images: int, count: int) -> dict[str, float]:
    """Of so many images; 0: of whole epochs for `SECONDS`."""
    images, start, start_cpu = 0, time.perf_counter(), time.process_time()
    while images < (least_images or count) or (not least_images and time.perf_counter() - start < SECONDS):
        images += next(batches)
    return {
        "images_per_second": images / (time.perf_counter() - start),
        "images_per_processor_second": images / (time.process_time() - start_cpu),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder with photographs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(measure(arguments.side, arguments.folder, arguments.scratch)), flush=True)
        return
    if not arguments.data:
        parser.error("--data DIR is missing: a folder with photographs")
    sides = [FIRST, LATER, PLAIN, *(name for name, package in PEERS.items() if is_installed(package))]
    found: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as place:
        folder, source = Path(place) / "photos", arguments.data
        if (source / ARCHIVE).exists():
            source = Path(place) / "unpacked"
            source.mkdir()
            image_peers.lay_out(arguments.data, Case(ARCHIVE, arguments.images, SIDE, 0, BATCH), source)
        lay_out(source, arguments.images, folder)
        settle(folder)
        for number in range(arguments.rounds):
            scratch = Path(place) / f"round{number}"  # each round begins with nothing packed
            scratch.mkdir()
            apart = partial(figures_apart, __file__, "--folder", str(folder), "--scratch", str(scratch))
            for side in sides:
                rates = apart("--side", side)
                for unit, value in rates.items():
                    found.setdefault(unit, {}).setdefault(side, []).append(value)
                print(f"round {number + 1}  {side:<36}", *(f"{value:>8.0f}" for value in rates.values()), flush=True)
    result: dict[str, Any] = {
        "conditions": conditions(arguments.rounds, 0) | {"images": arguments.images, "load": os.getloadavg()[0]},
        **{
            unit: {
                "medians": medians(rates), "all_rounds": rates,
                "ratios": {f"{a} / {b}": ratio(rates, a, b) for a, b in CLAIMS if b in rates},
            }
            for unit, rates in found.items()
        },
    }  # fmt: skip
    write_json(RESULTS, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
