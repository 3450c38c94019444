"""MNIST: training images per second and time to 0.5 % error, beside the script that a PyTorch tutorial would have.

    python benchmarks/mnist.py --data DIR [--rounds 5] [--time-to-error]

Both sides train the same network (ConvNet_MNIST, 98,778 parameters). The peer is written as tutorials do it (Dataset,
DataLoader, fp32, NCHW, torch.optim.SGD) and gets the best of 0, 1 and 2 workers. Throughput is from data to update;
warm-up and evaluation are left out. Every side runs in a process of its own, the sides in turn, round after round; the
warm-up and evaluation are left out. Each side runs in a process of its own, the sides in turn, round after round; the
same run: it says what this processor can do. Results go to benchmarks/results/mnist.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import convolve
from convolve.assemble import assemble
from convolve.atomic import write_json
from convolve.data.sources import open_data
from convolve.data.table import DataSet, Table
from convolve.environment import hardware, matmul_gflops, versions
from convolve.models import build_model
from convolve.models.summary import summarize
from convolve.recipe import ModelSpec
from convolve.run import resolve
from convolve.training.precision import has_bf16_instructions
from convolve.training.run_folder import RunFolder

STEPS, WARM_UP_STEPS = 150, 20
RESULTS = Path(__file__).parent / "results" / "mnist.json"

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
}


class Digits(Dataset[tuple[torch.Tensor, int]]):
    """The peer's data set: one sample at a time, converted on the way, as torchvision's ToTensor does."""

    def __init__(self, table: Table) -> None:
        self.images, self.labels = table.images_NCHW.numpy(), table.labels_N.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(self.images[index]).float().div(255), self.labels[index]


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


def peer_steps(dataset: DataSet, batch_size: int, workers: int) -> Iterator[int]:
    """The tutorial's loop, without end; yields the number of images of each step."""
    loader = DataLoader(Digits(dataset.train), batch_size, shuffle=True, num_workers=workers)
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


def our_steps_seconds(dataset: DataSet, batch_size: int, precision: str) -> list[tuple[float, int]]:
    """(clock, samples seen) after each step of the product's own loop, logging and progress included."""
    marks: list[tuple[float, int]] = []

    def listen(event: str, values: dict[str, Any]) -> None:
        if event == "step":
            marks.append((time.perf_counter(), values["samples_seen"]))
        if len(marks) > WARM_UP_STEPS + STEPS:
            raise EnoughStepsError

    recipe = resolve("mnist-fast", {"run.global_batch_size": batch_size, "run.precision": precision})
    with tempfile.TemporaryDirectory() as folder, suppress(EnoughStepsError):
        assemble(recipe, dataset, RunFolder(Path(folder)), None, listen).loop.train()
    return marks


def measure(side: str, data: str) -> float:
    """Images per second of one side, in this process."""
    who, batch_size, setting = SIDES[side]
    dataset = open_data("mnist", data)
    if who == "ours":
        marks = our_steps_seconds(dataset, batch_size, setting)
        (start, before), (end, after) = marks[WARM_UP_STEPS], marks[-1]
        return (after - before) / (end - start)
    steps = peer_steps(dataset, batch_size, int(setting))
    for _ in islice(steps, WARM_UP_STEPS):
        pass
    start = time.perf_counter()
    return sum(islice(steps, STEPS)) / (time.perf_counter() - start)


def measure_apart(side: str, data: str) -> float:
    """The same in a process of its own, so that no side inherits another's memory or threads."""
    command = [sys.executable, __file__, "--data", data, "--side", side]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def time_to_error(data: str, error: float) -> dict[str, object]:
    """Training seconds of `mnist-fast` (seed 0) at the end of the first epoch with a test error of at most `error`."""
    with tempfile.TemporaryDirectory() as folder:
        run = convolve.train("mnist-fast", data=data, out=folder)
        epochs = [event for event in run.folder.metrics() if event["event"] == "epoch"]
    seconds = 0.0
    for event in epochs:
        seconds += event["seconds"]
        if event["test_error"] <= error:
            return {"seconds": seconds, "epoch": event["epoch"], "test_error": event["test_error"]}
    return {"seconds": None, "epoch": len(epochs), "test_error": epochs[-1]["test_error"]}


def peer_time_to_error(dataset: DataSet, error: float, epochs: int = 40) -> dict[str, object]:
    """The same for the peer (one worker, batch 128) with a one-cycle rate over `epochs`, seed 0."""
    torch.manual_seed(0)
    loader = DataLoader(Digits(dataset.train), 128, shuffle=True, num_workers=1)
    model, loss_function = TutorialNet(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=epochs * len(loader))
    test_images, seconds, test_error = dataset.test.images_NCHW.float().div(255), 0.0, 1.0
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
    rates: dict[str, list[float]] = {side: [] for side in SIDES}
    for number in range(rounds):
        for side, values in rates.items():
            values.append(measure_apart(side, data))
            print(f"round {number + 1}  {side:<28}{values[-1]:>8.0f} images/s", file=sys.stderr)
    best_peer = max(
        (side for side in SIDES if "peer, batch 128" in side), key=lambda side: statistics.median(rates[side])
    )
    return {
        "images_per_second": {side: statistics.median(values) for side, values in rates.items()},
        "best_peer": best_peer,
        "ratio_to_best_peer": {
            side: statistics.median(a / b for a, b in zip(rates[side], rates[best_peer], strict=True))
            for side in SIDES
            if "ours" in side and "128" in side
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
        "conditions": {"hardware": hardware(), "versions": versions(), "rounds": arguments.rounds, "steps": STEPS},
        "matmul_gflops": {"fp32": matmul_gflops(torch.float32)}
        | ({"bf16": matmul_gflops(torch.bfloat16)} if has_bf16_instructions() else {}),
        "training_gflop_per_image": summary.training_flops_per_image / 1e9,
    }
    result |= throughput(arguments.data, arguments.rounds)
    if arguments.time_to_error:
        result["seconds_to_half_a_percent"] = {
            "ours": time_to_error(arguments.data, 0.005),
            "peer": peer_time_to_error(open_data("mnist", arguments.data), 0.005),
        }
    write_json(RESULTS, result)
    print(json.dumps({key: value for key, value in result.items() if key != "all_rounds"}, indent=2))


if __name__ == "__main__":
    main()
