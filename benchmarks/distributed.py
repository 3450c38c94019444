"""Two workers on two cores, beside one process with both cores and two independent processes ("strangers").

    python benchmarks/distributed.py [--rounds 5] [--steps 150]

Each side trains CNTK's recipe on noise and reports its rate in the second of two epochs, with data and without
evaluation. Workers and strangers are bound to a core each, as Open MPI binds them; strangers start together, and their
rates are added. A stranger has batches of the recipe's size; one "with shares" has half batches, and does what a worker
does except for the all-reduce. Then the all-reduce of the gradients of ConvNet_MNIST (0.4 MB), ConvNet_CIFAR10 (4.8 MB)
and AlexNet (248 MB), through shared memory and over gloo's connections, in MB/s of gradient, beside a copy in memory,
in MB/s read and written. Last, for cost_model.py: AlexNet's step on one core with two batch sizes, and one-bit coding
of a gradient and decoding of two, as a worker does in a step. Every side runs in processes of its own, the sides in
turn, round after round. Results go to benchmarks/results/PROCESSOR/distributed.json.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from convolve.atomic import write_json
from convolve.data.sources.source import ArraySource
from convolve.data.splits import Splits
from convolve.distributed.launcher import rank_info
from convolve.distributed.process_group import join
from convolve.distributed.quantized import decode, encode
from convolve.models import build_model
from convolve.recipe import Recipe
from convolve.recipes import resolve
from convolve.run import train
from convolve.training.precision import has_bf16_instructions
from convolve.training.workers import SINGLE_PROCESS, Workers
from rounds import Rates, conditions, in_turn, measure_apart, medians, ratio, results_of
from steps import images_per_second, our_step

RESULTS = results_of("distributed")
SHAPES = {"mnist": (1, 28, 28), "cifar10-aug": (3, 32, 32)}
MEGABYTES = (0.4, 4.8, 248.0)
REPEATS = {0.4: 300, 4.8: 60, 248.0: 4}

ALEXNET_BATCHES = (16, 32)

# side -> how many processes it has
SIDES = {f"{recipe}, {how}": 1 if how == "one process" else 2 for recipe in SHAPES
         for how in ("one process", "two workers", "two strangers", "two strangers with shares")}  # fmt: skip
SIDES |= {f"{how} {size:g} MB": 2 for size in MEGABYTES for how in ("all-reduce", "gloo's all-reduce")}
SIDES |= {f"alexnet, batches of {size}": 1 for size in ALEXNET_BATCHES} | {"one-bit coding": 1, "memory copy": 1}


def measure(side: str, steps: int) -> float:
    """The rate of one side: the sum of what its processes print."""
    arguments = ("--side", side, "--steps", f"{steps}")
    if SIDES[side] == 1:
        return measure_apart(__file__, *arguments)
    job = {"WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": secrets.token_hex(8)}
    command = [sys.executable, __file__, *arguments]
    processes = [
        subprocess.Popen(command, env=os.environ | job | {"RANK": f"{rank}"}, stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    printed = [process.communicate()[0] for process in processes]
    return sum(map(float, printed))


def measure_here(side: str, steps: int) -> float:
    """What this process adds to the rate of its side."""
    place, cores = rank_info(os.environ), sorted(os.sched_getaffinity(0))[:2]
    if side.endswith("one process"):
        return _training_rate(side.partition(",")[0], SINGLE_PROCESS, len(cores), steps)
    if place.size == 1:
        torch.set_num_threads(1)
        return _coding_rate() if "coding" in side else _copy_rate() if "copy" in side else _alexnet_rate(side)
    os.sched_setaffinity(0, {cores[place.rank % len(cores)]})
    torch.set_num_threads(1)
    workers = join(place, os.environ)
    workers.barrier()
    recipe, _, how = side.partition(", ")
    if how:
        shares = 2 if how.endswith("shares") else 1
        rate = _training_rate(recipe, workers if how == "two workers" else SINGLE_PROCESS, 1, steps, shares)
    else:
        add_up = dist.all_reduce if side.startswith("gloo") else workers.sum
        rate = _all_reduce_rate(add_up, float(side.split()[-2])) / workers.size  # both tell of the same
    workers.close()
    return rate


def _training_rate(name: str, workers: Workers, threads: int, steps: int, shares: int = 1) -> float:
    """Images per second, with batches of one of so many shares; 0 for a worker that is not the first."""
    recipe: Recipe = resolve(name, {
        "run.epochs": 2, "run.threads": threads, "run.precision": "bf16" if has_bf16_instructions() else "fp32",
    })  # fmt: skip
    batch_size = int(recipe.run.global_batch_size) // shares
    recipe, count = resolve(recipe, {"run.global_batch_size": batch_size}), steps * batch_size
    images_NCHW = torch.randint(0, 256, (count, *SHAPES[name]), dtype=torch.uint8, generator=torch.Generator())
    table = ArraySource(images_NCHW, torch.arange(count) % 10)
    dataset = Splits(table, ArraySource(images_NCHW[:64], table.labels_N[:64]), tuple("0123456789"), "noise")
    with tempfile.TemporaryDirectory() as folder:
        finished = train(recipe, data=dataset, out=Path(folder) / "run", workers=workers)
        if finished.rank:
            return 0.0
        return finished.folder.epochs()[-1].images_per_second


def _all_reduce_rate(add_up: Callable[[torch.Tensor], object], megabytes: float) -> float:
    """MB/s of gradient: its bytes by the time after which all workers have the sum."""
    gradient, repeats = torch.ones(round(megabytes * 1e6 / 4)), REPEATS[megabytes]
    for _ in range(2):
        add_up(gradient)
    start = time.perf_counter()
    for _ in range(repeats):
        add_up(gradient)
    return repeats * megabytes / (time.perf_counter() - start)


def _copy_rate() -> float:
    source = torch.ones(round(MEGABYTES[-1] * 1e6 / 4))
    target = source.clone()
    start = time.perf_counter()
    for _ in range(REPEATS[MEGABYTES[-1]]):
        target.copy_(source)
    return REPEATS[MEGABYTES[-1]] * 2 * MEGABYTES[-1] / (time.perf_counter() - start)


def _alexnet_rate(side: str) -> float:
    batch_size = int(side.rpartition(" ")[2])
    precision = "bf16" if has_bf16_instructions() else "fp32"
    settings = {"run.precision": precision, "run.global_batch_size": batch_size, "data.train_transforms": "[]"}
    return images_per_second(our_step(resolve("alexnet", settings), 227, 1000), batch_size, 6, 2)


def _coding_rate() -> float:
    """MB/s of gradient, 4.2 MB in rows of 4,096 elements."""
    gradient_RL, repeats = torch.randn(256, 4096), 20
    start = time.perf_counter()
    for _ in range(repeats):
        coded_RB = encode(gradient_RL, 1)
        decode(coded_RB, 4096, 1), decode(coded_RB, 4096, 1)
    return repeats * gradient_RL.nbytes / 1e6 / (time.perf_counter() - start)


def compared(rates: Rates) -> dict[str, Any]:
    """What is claimed: each a median of ratios within a round, but for the parts of a step, which are of medians."""
    middle, parts = medians(rates), {}
    for name, shape in SHAPES.items():
        recipe = resolve(name, {})
        parameters = sum(p.numel() for p in build_model(recipe.model, shape, 10).parameters())
        size = min(MEGABYTES, key=lambda megabytes: abs(megabytes * 1e6 - 4 * parameters))
        step_seconds = recipe.run.global_batch_size / middle[f"{name}, two workers"]
        parts[name] = 4 * parameters / 1e6 / middle[f"all-reduce {size:g} MB"] / step_seconds
    return {
        "two_workers_to_one_process": {n: ratio(rates, f"{n}, two workers", f"{n}, one process") for n in SHAPES},
        "two_workers_to_two_strangers": {n: ratio(rates, f"{n}, two workers", f"{n}, two strangers") for n in SHAPES},
        "two_workers_to_two_strangers_with_shares": {
            n: ratio(rates, f"{n}, two workers", f"{n}, two strangers with shares") for n in SHAPES
        },
        "all_reduce_part_of_a_step_of_two_workers": parts,
        "all_reduce_to_gloo's": {
            f"{size:g} MB": ratio(rates, f"all-reduce {size:g} MB", f"gloo's all-reduce {size:g} MB")
            for size in MEGABYTES
        },
        "all_reduce_to_memory_copy": {
            f"{size:g} MB": ratio(rates, f"all-reduce {size:g} MB", "memory copy") for size in MEGABYTES
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=150, help="in each of the two epochs")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(measure_here(arguments.side, arguments.steps))
        return
    rates = in_turn(SIDES, arguments.rounds, lambda side: measure(side, arguments.steps))
    result = {"conditions": conditions(arguments.rounds, arguments.steps), "medians": medians(rates), **compared(rates)}
    write_json(arguments.out, result | {"all_rounds": rates})
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
