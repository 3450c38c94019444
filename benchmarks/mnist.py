"""MNIST: training images per second and time to 0.5 % error, beside the script that a PyTorch tutorial would have.

    python benchmarks/mnist.py --data DIR [--rounds 5] [--time-to-error]

Both sides train the same network (ConvNet_MNIST, 98,778 parameters). The peer is PyTorch's own MNIST example
(DataLoader, fp32, NCHW, torch.optim.SGD), with the steps of torchvision's MNIST, ToTensor and Normalize written out;
the lean peer does without pictures and normalization. Both get their best number of workers.
Throughput is from data to update; warm-up and evaluation are left out. Each side runs in a process of its own, the
sides in turn, round after round; a plain matrix multiply in the same run says what this processor can do. Results go
to benchmarks/results/PROCESSOR/mnist.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

import convolve
from convolve.atomic import write_json
from convolve.data.mnist import load_mnist
from convolve.data.sources.source import ArraySource
from convolve.data.splits import Splits
from convolve.environment import matmul_gflops
from convolve.models import build_model
from convolve.models.summary import summarize
from convolve.recipes import resolve
from convolve.run import build_training
from convolve.specs.model import ModelSpec
from convolve.training.precision import has_bf16_instructions
from convolve.training.run_folder import RunFolder
from rounds import conditions, in_turn, measure_apart, medians, ratio, results_of

STEPS, WARM_UP_STEPS = 150, 20
RESULTS = results_of("mnist")

# name -> (who, batch size, precision or number of loader workers)
SIDES = {
    "ours bf16, batch 128": ("ours", 128, "bf16"),
    "ours fp32, batch 128": ("ours", 128, "fp32"),
    "ours bf16, batch 64": ("ours", 64, "bf16"),
    "ours fp32, batch 64": ("ours", 64, "fp32"),
    "peer, batch 128, 0 workers": ("peer", 128, "0"),
    "peer, batch 128, 1 worker": ("peer", 128, "1"),
    "peer, batch 128, 2 workers": ("peer", 128, "2"),
    "peer, batch 64, 1 worker": ("peer", 64, "1"),
    "lean peer, batch 128, 0 workers": ("lean peer", 128, "0"),
    "lean peer, batch 128, 1 worker": ("lean peer", 128, "1"),
}
_MEAN_AND_DEVIATION = (0.1307,), (0.3081,)  # of MNIST's training pixels, as the example has them


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """torchvision.datasets.MNIST with ToTensor and Normalize, step by step (datasets/mnist.py and
    transforms/functional.py there), as pytorch/examples/mnist/main.py has it.
    """

    def __init__(self, table: ArraySource) -> None:
        self.images_NHW, self.labels = table.images_NCHW[:, 0], table.labels_N

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        picture = Image.fromarray(self.images_NHW[index].numpy())
        image_HWC = torch.from_numpy(np.array(picture, np.uint8, copy=True)).view(*picture.size[::-1], 1)
        image_CHW = image_HWC.permute(2, 0, 1).contiguous().to(torch.get_default_dtype()).div(255)
        mean, deviation = (
            torch.as_tensor(value, dtype=image_CHW.dtype).view(-1, 1, 1) for value in _MEAN_AND_DEVIATION
        )
        return image_CHW.clone().sub_(mean).div_(deviation), int(self.labels[index])


class Digits(Pictures):
    """The lean peer's: the least that one sample at a time can cost."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.images_NHW[index][None].float().div(255), int(self.labels[index])


class TutorialNet(nn.Module):
    """The same network in the order in which tutorials write it: convolution, ReLU, pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(32, 48, 3), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(48, 64, 3), nn.ReLU(), nn.Flatten(),
            nn.Linear(576, 96), nn.ReLU(), nn.Dropout(0.5), nn.Linear(96, 10),
        )  # fmt: skip

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        return self.features(images_NCHW)  # type: ignore[no-any-return]


def peer_steps(digits: Dataset[tuple[torch.Tensor, int]], batch_size: int, workers: int) -> Iterator[int]:
    """The example's loop, without end; yields the number of images of each step."""
    loader = DataLoader(digits, batch_size, shuffle=True, num_workers=workers)
    model, loss_function = TutorialNet(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    while True:
        for images, labels in loader:
            optimizer.zero_grad()
            loss = loss_function(model(images), labels)
            loss.backward()
            optimizer.step()
            yield len(labels)


class EnoughStepsError(Exception):
    """Ends a loop that would go on for long."""


def our_steps_seconds(dataset: Splits, batch_size: int, precision: str) -> list[tuple[float, int]]:
    """(clock, samples seen) after each step of the product's own loop, logging and progress included."""
    marks: list[tuple[float, int]] = []

    def listen(event: str, values: dict[str, Any]) -> None:
        if event == "step":
            marks.append((time.perf_counter(), values["samples_seen"]))
        if len(marks) > WARM_UP_STEPS + STEPS:
            raise EnoughStepsError

    recipe = resolve("mnist-fast", {"run.global_batch_size": batch_size, "run.precision": precision})
    with tempfile.TemporaryDirectory() as folder, suppress(EnoughStepsError):
        build_training(recipe, dataset, RunFolder(Path(folder)), listen).trainer.fit()
    return marks


def measure(side: str, data: str) -> float:
    """Images per second of one side, in this process."""
    who, batch_size, setting = SIDES[side]
    dataset = load_mnist(data)
    if who == "ours":
        marks = our_steps_seconds(dataset, batch_size, setting)
        (start, before), (end, after) = marks[WARM_UP_STEPS], marks[-1]
        return (after - before) / (end - start)
    digits = Pictures(dataset.arrays[0]) if who == "peer" else Digits(dataset.arrays[0])
    steps = peer_steps(digits, batch_size, int(setting))
    for _ in islice(steps, WARM_UP_STEPS):
        pass
    start = time.perf_counter()
    return sum(islice(steps, STEPS)) / (time.perf_counter() - start)


def time_to_error(data: str, error: float) -> dict[str, object]:
    """Training seconds of `mnist-fast` (seed 0) at the end of the first epoch with a test error of at most `error`."""
    with tempfile.TemporaryDirectory() as folder:
        run = convolve.train("mnist-fast", data=data, out=folder)
        epochs = run.folder.epochs()
    seconds = 0.0
    for event in epochs:
        seconds += event.seconds
        if event.test_error is not None and event.test_error <= error:
            return {"seconds": seconds, "epoch": event.epoch, "test_error": event.test_error}
    return {"seconds": None, "epoch": len(epochs), "test_error": epochs[-1].test_error}


def peer_time_to_error(dataset: Splits, error: float, epochs: int = 40) -> dict[str, object]:
    """The same for the peer (one worker, batch 128) with a one-cycle rate over `epochs`, seed 0."""
    torch.manual_seed(0)
    loader = DataLoader(Pictures(dataset.arrays[0]), 128, shuffle=True, num_workers=1)
    model, loss_function = TutorialNet(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=epochs * len(loader))
    (mean,), (deviation,) = _MEAN_AND_DEVIATION
    test_images = (dataset.arrays[1].images_NCHW.float().div(255) - mean) / deviation
    seconds, test_error = 0.0, 1.0
    for epoch in range(epochs):
        start = time.perf_counter()
        for images, labels in loader:
            optimizer.zero_grad()
            loss_function(model(images), labels).backward()
            optimizer.step()
            scheduler.step()
        seconds += time.perf_counter() - start
        with torch.no_grad():
            wrong = model.eval()(test_images).argmax(1) != dataset.test.labels_N
        model.train()
        test_error = wrong.float().mean().item()
        print(f"peer epoch {epoch + 1}: {test_error:.2%} after {seconds:.0f} s", file=sys.stderr)
        if test_error <= error:
            return {"seconds": seconds, "epoch": epoch + 1, "test_error": test_error}
    return {"seconds": None, "epoch": epochs, "test_error": test_error}


def throughput(data: str, rounds: int) -> dict[str, object]:
    rates = in_turn(SIDES, rounds, lambda side: measure_apart(__file__, "--data", data, "--side", side))
    images_per_second = medians(rates)
    best_peer, best_lean_peer = (
        max(
            (side for side, (name, size, _) in SIDES.items() if (name, size) == (who, 128)),
            key=images_per_second.__getitem__,
        )
        for who in ("peer", "lean peer")
    )
    ours = [side for side in SIDES if "ours" in side and "128" in side]
    return {
        "images_per_second": images_per_second,
        "ratio": {
            f"{side} to {peer}": ratio(rates, side, peer) for side in ours for peer in (best_peer, best_lean_peer)
        },
        "all_rounds": rates,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--time-to-error", action="store_true", help="also train both sides to 0.5 %% (about a quarter of an hour)"
    )
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(measure(arguments.side, arguments.data))
        return
    summary = summarize(build_model(ModelSpec(), (1, 28, 28), 10), (1, 28, 28))
    result: dict[str, object] = {
        "conditions": conditions(arguments.rounds, STEPS),
        "matmul_gflops": {"fp32": matmul_gflops(torch.float32)}
        | ({"bf16": matmul_gflops(torch.bfloat16)} if has_bf16_instructions() else {}),
        "training_gflop_per_image": summary.training_flops_per_image / 1e9,
    }
    result |= throughput(arguments.data, arguments.rounds)
    if arguments.time_to_error:
        result["seconds_to_half_a_percent"] = {
            "ours": time_to_error(arguments.data, 0.005),
            "peer": peer_time_to_error(load_mnist(arguments.data), 0.005),
        }
    write_json(RESULTS, result)
    print(json.dumps({key: value for key, value in result.items() if key != "all_rounds"}, indent=2))


if __name__ == "__main__":
    main()
