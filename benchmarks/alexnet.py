"""AlexNet: training images per second of the step alone, and memory, beside the script of a PyTorch tutorial.

    python benchmarks/alexnet.py [--rounds 3] [--batch-size 64]

Both sides train CNTK's AlexNet (62,003,496 parameters, 3x227x227), with and without response normalization, on one
batch of noise: forward, backward, update; no data, no evaluation. The peer is written as tutorials do it (fp32, NCHW,
torch.optim.SGD, nn.LocalResponseNorm). Each side runs in a process of its own, the sides in turn, round after round,
and so does a plain matrix multiply, which says what this processor can do. The most memory of each side is that of a
process that does nothing else. Results go to benchmarks/results/PROCESSOR/alexnet.json.
"""

from __future__ import annotations

import argparse
import json
import resource
from typing import Any

import torch
from torch import nn

from convolve.atomic import write_json
from convolve.environment import matmul_gflops
from convolve.models import bare_model
from convolve.models.lrn import LocalResponseNorm
from convolve.models.summary import summarize
from convolve.recipes import resolve
from convolve.specs.model import ModelSpec
from rounds import Rates, conditions, in_turn, measure_apart, medians, ratio, results_of
from steps import Step, images_per_second, our_step, parts_of_a_step, peer_step

SIDE, CLASSES, STEPS, WARM_UP_STEPS = 227, 1000, 8, 2
RESULTS = results_of("alexnet")

# name -> (who, precision)
SIDES = {
    "ours bf16": ("ours", "bf16"),
    "ours fp32": ("ours", "fp32"),
    "peer": ("peer", "fp32"),
    "ours bf16 with LRN": ("ours", "bf16"),
    "ours fp32 with LRN": ("ours", "fp32"),
    "peer with LRN": ("peer", "fp32"),
    "matrix multiply bf16": ("matrix multiply", "bf16"),
    "matrix multiply fp32": ("matrix multiply", "fp32"),
}
TRAINED = [side for side in SIDES if not side.startswith("matrix")]


def step_of(side: str, batch_size: int) -> Step:
    who, precision = SIDES[side]
    lrn = side.endswith("with LRN")
    if who == "peer":
        return peer_step(tutorial_network(lrn), batch_size, SIDE, CLASSES, weight_decay=0.0005)
    settings = {"run.precision": precision, "run.global_batch_size": batch_size, "data.train_transforms": "[]"}
    return our_step(resolve("alexnet", settings), SIDE, CLASSES, without=None if lrn else LocalResponseNorm)


def tutorial_network(lrn: bool) -> nn.Sequential:
    """The same network in the order in which tutorials write it: convolution, ReLU, normalization, pooling."""

    def norm() -> list[nn.Module]:
        return [nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)] if lrn else []

    return nn.Sequential(
        nn.Conv2d(3, 96, 11, stride=4), nn.ReLU(), *norm(), nn.MaxPool2d(3, 2),
        nn.Conv2d(96, 192, 5, padding=2), nn.ReLU(), *norm(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Flatten(),
        nn.Linear(9216, 4096), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(4096, CLASSES),
    )  # fmt: skip


def measure(side: str, batch_size: int) -> float:
    """Images per second of one side, in this process; of the matrix multiply, GFLOP/s."""
    who, precision = SIDES[side]
    if who == "matrix multiply":
        return matmul_gflops({"bf16": torch.bfloat16, "fp32": torch.float32}[precision])
    return images_per_second(step_of(side, batch_size), batch_size, STEPS, WARM_UP_STEPS)


def peak_mib(side: str, batch_size: int) -> float:
    """The most memory that this process had, after three steps."""
    step = step_of(side, batch_size)
    for _ in range(3):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def compared(rates: Rates, memory_mib: dict[str, float]) -> dict[str, Any]:
    """What is claimed: each a median of ratios within a round."""
    network = bare_model(ModelSpec("alexnet"), (3, SIDE, SIDE), CLASSES)
    gflop = summarize(network, (3, SIDE, SIDE)).training_flops_per_image / 1e9
    ours = [side for side in TRAINED if "ours" in side]
    peers = {side: "peer with LRN" if side.endswith("LRN") else "peer" for side in ours}
    return {
        "training_gflop_per_image": gflop,
        "ratio_to_peer": {side: ratio(rates, side, peer) for side, peer in peers.items()},
        "memory_beside_peer": {side: memory_mib[side] / memory_mib[peer] for side, peer in peers.items()},
    } | parts_of_a_step(rates, gflop)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rate", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--peak", choices=TRAINED, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    size = arguments.batch_size
    if arguments.rate or arguments.peak:
        print(measure(arguments.rate, size) if arguments.rate else peak_mib(arguments.peak, size))
        return
    words = "--batch-size", str(size)
    rates = in_turn(SIDES, arguments.rounds, lambda side: measure_apart(__file__, *words, "--rate", side))
    memory_mib = {side: measure_apart(__file__, *words, "--peak", side) for side in TRAINED}
    result = {"conditions": conditions(arguments.rounds, STEPS), "batch_size": size, "medians": medians(rates)}
    result |= {"memory_mib": memory_mib, **compared(rates, memory_mib)}
    write_json(RESULTS, result | {"all_rounds": rates})
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
