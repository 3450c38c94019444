"""CIFAR-10: training images per second of the step alone, beside the script that a PyTorch tutorial would have.

    python benchmarks/cifar10.py [--rounds 5]

Both sides train CNTK's ConvNet for CIFAR-10 (1,195,594 parameters), with and without response normalization, on one
batch of 64 random images: forward, backward, update; no data, no evaluation. The peer is written as tutorials do it
(fp32, NCHW, torch.optim.SGD, nn.LocalResponseNorm). Each side runs in a process of its own, the sides in turn, round
after round, and so does a plain matrix multiply, which says what this processor can do. Results go to
benchmarks/results/cifar10.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convolve.atomic import write_json
from convolve.environment import matmul_gflops
from convolve.models import build_model
from convolve.models.summary import summarize
from convolve.recipe import ModelSpec
from convolve.run import resolve
from rounds import Rates, conditions, in_turn, measure_apart, medians, ratio
from steps import images_per_second, our_step, parts_of_a_step, peer_step

BATCH_SIZE, STEPS, WARM_UP_STEPS = 64, 60, 10
RESULTS = Path(__file__).parent / "results" / "cifar10.json"

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


def tutorial_network(lrn: bool) -> nn.Sequential:
    """The same network in the order in which tutorials write it: convolution, ReLU, pooling."""

    def pair(channels: int) -> list[nn.Module]:
        norm = [nn.LocalResponseNorm(9, alpha=0.001, beta=0.75, k=1.0)] if lrn else []
        first, second = nn.Conv2d(channels, 64, 3, padding=1), nn.Conv2d(64, 64, 3, padding=1)
        return [first, nn.ReLU(), second, nn.ReLU(), *norm, nn.MaxPool2d(3, 2, padding=1)]

    return nn.Sequential(
        *pair(3), *pair(64), nn.Flatten(),
        nn.Linear(4096, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 128), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(128, 10),
    )  # fmt: skip


def measure(side: str) -> float:
    """Images per second of one side, in this process; of the matrix multiply, GFLOP/s."""
    who, network, precision = SIDES[side]
    if who == "matrix multiply":
        return matmul_gflops({"bf16": torch.bfloat16, "fp32": torch.float32}[precision])
    if who == "ours":
        recipe = resolve("cifar10", {"model.name": network, "run.precision": precision})
        step = our_step(recipe, 32, 10)
    else:
        step = peer_step(tutorial_network(network.endswith("lrn")), BATCH_SIZE, 32, 10, weight_decay=0.002)
    return images_per_second(step, BATCH_SIZE, STEPS, WARM_UP_STEPS)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(measure(arguments.side))
        return
    rates = in_turn(SIDES, arguments.rounds, lambda side: measure_apart(__file__, "--side", side))
    result = {"conditions": conditions(arguments.rounds, STEPS), "medians": medians(rates), **compared(rates)}
    write_json(RESULTS, result | {"all_rounds": rates})
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
