"""CIFAR-10: training images per second, of the step alone and of whole trainings, beside what people would write.

    python benchmarks/cifar10.py [--rounds 5] [--data DIR]

The step: both sides train CNTK's ConvNet for CIFAR-10 (1,195,594 parameters), with and without response normalization,
on one batch of 64 random images: forward, backward, update; no data, no evaluation. The peer is as tutorials do it
(fp32, NCHW, torch.optim.SGD, nn.LocalResponseNorm). Each side runs in a process of its own, the sides in turn, round
after round, and so does a plain matrix multiply, which says what this processor can do.

Whole trainings, where DIR holds CIFAR-10, which is written as JPEG: from 50,000 files in a map file to updates, shifted
and mirrored as `cifar10-aug` does it; without the first pass, warm-up and evaluation. The peers: PyTorch with Pillow in
a DataLoader (its best number of workers), Keras on TensorFlow where that is installed. All train the same network, so
that with the recipe's schedule the error of 30 epochs of `cifar10` and of 80 of `cifar10-aug` would be theirs too,
after the seconds that are given.
Results go to benchmarks/results/PROCESSOR/cifar10.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import torch

import cifar10_peers
from convolve.atomic import write_json
from convolve.environment import matmul_gflops, usable_cores
from convolve.formats.image_map import read_image_map
from convolve.models import build_model
from convolve.models.summary import summarize
from convolve.recipes import resolve
from convolve.specs.model import ModelSpec
from image_peers import lay_out
from rounds import Rates, conditions, in_turn, measure_apart, medians, ratio, results_of
from steps import images_per_second, our_step, parts_of_a_step, peer_step

BATCH_SIZE, STEPS, WARM_UP_STEPS, SECONDS = cifar10_peers.BATCH_SIZE, 60, 10, 8.0
RESULTS = results_of("cifar10")

# name -> (who, network, precision)
SIDES = {
    "ours bf16": ("ours", "convnet-cifar10", "bf16"),
    "ours fp32": ("ours", "convnet-cifar10", "fp32"),
    "peer": ("peer", "convnet-cifar10", "fp32"),
    "ours bf16 with LRN": ("ours", "convnet-cifar10-lrn", "bf16"),
    "ours fp32 with LRN": ("ours", "convnet-cifar10-lrn", "fp32"),
    "peer with LRN": ("peer", "convnet-cifar10-lrn", "fp32"),
    "matrix multiply bf16": ("matrix multiply", "", "bf16"),
    "matrix multiply fp32": ("matrix multiply", "", "fp32"),
}
# name -> (who, how)
TRAININGS = {
    "ours, whole training, bf16": ("ours", "bf16"),
    "ours, whole training, fp32": ("ours", "fp32"),
    "PyTorch, Pillow, 1 worker": ("PyTorch", "1"),
    "PyTorch, Pillow, 2 workers": ("PyTorch", "2"),
    "Keras, fp32": ("Keras", "float32"),
    "Keras, bf16": ("Keras", "mixed_bfloat16"),
}
EPOCHS = {"cifar10": 30, "cifar10-aug": 80}


def measure(side: str) -> float:
    """Images per second of one side, in this process; of the matrix multiply, GFLOP/s."""
    who, network, precision = SIDES[side]
    if who == "matrix multiply":
        return matmul_gflops({"bf16": torch.bfloat16, "fp32": torch.float32}[precision])
    if who == "ours":
        recipe = resolve("cifar10", {"model.name": network, "run.precision": precision})
        step = our_step(recipe, 32, 10)
    else:
        step = peer_step(
            cifar10_peers.tutorial_network(network.endswith("lrn")), BATCH_SIZE, 32, 10, weight_decay=0.002
        )
    return images_per_second(step, BATCH_SIZE, STEPS, WARM_UP_STEPS)


def measure_training(side: str, folder: Path) -> float:
    """Images per second of a whole training, in this process."""
    who, how = TRAININGS[side]
    torch.set_num_threads(usable_cores())
    listed = read_image_map(folder / "train_map.txt")
    files, labels = [listed.location(index).file for index in range(len(listed))], listed.labels_N.tolist()
    if who == "ours":
        counts = cifar10_peers.ours(folder, how)
    elif who == "PyTorch":
        counts = cifar10_peers.pytorch(files, labels, int(how))
    else:
        counts = cifar10_peers.keras(files, labels, how)
    for _ in islice(counts, WARM_UP_STEPS):
        pass
    images, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        images += next(counts)
    return images / (time.perf_counter() - start)


def _peer_of(side: str) -> str:
    return "peer with LRN" if side.endswith("with LRN") else "peer"


def compared(rates: Rates) -> dict[str, Any]:
    """What is claimed: each a median of ratios within a round."""
    network = build_model(ModelSpec("convnet-cifar10"), (3, 32, 32), 10)
    gflop = summarize(network, (3, 32, 32)).training_flops_per_image / 1e9
    return {
        "training_gflop_per_image": gflop,
        "ratio_to_peer": {side: ratio(rates, side, _peer_of(side)) for side in SIDES if "ours" in side},
    } | parts_of_a_step(rates, gflop)


def whole_trainings(data: Path, rounds: int) -> dict[str, Any]:
    sides = [side for side, (who, _) in TRAININGS.items() if who != "Keras" or find_spec("tensorflow")]
    with tempfile.TemporaryDirectory() as folder:
        lay_out(data, cifar10_peers.CASE, Path(folder))
        rates = in_turn(sides, rounds, lambda side: measure_apart(__file__, "--side", side, "--folder", folder))
    best = max((side for side in sides if side.startswith("PyTorch")), key=medians(rates).__getitem__)
    return {
        "medians": medians(rates),
        "ratio_to_pytorch": {side: ratio(rates, side, best) for side in sides if side.startswith("ours")},
        "seconds_of_a_training": {
            side: {recipe: epochs * 50_000 / rate for recipe, epochs in EPOCHS.items()}
            for side, rate in medians(rates).items()
        },
        "all_rounds": rates,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", type=Path, help="the folder with CIFAR-10, for whole trainings")
    parser.add_argument("--side", choices=[*SIDES, *TRAININGS], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        whole = arguments.side in TRAININGS
        print(measure_training(arguments.side, arguments.folder) if whole else measure(arguments.side))
        return
    rates = in_turn(SIDES, arguments.rounds, lambda side: measure_apart(__file__, "--side", side))
    result = {"conditions": conditions(arguments.rounds, STEPS), "medians": medians(rates), **compared(rates)}
    result["all_rounds"] = rates
    if arguments.data:
        result["whole_training"] = whole_trainings(arguments.data, arguments.rounds)
    write_json(RESULTS, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
