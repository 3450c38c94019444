"""How cost grows with images, classes, the side of an image, threads and workers.

    python benchmarks/scaling.py [--short]

One thing grows at a time, from `BASE` on. Images of noise lie in memory; the network is that of `cifar10-resnet20`,
which takes any size, in minibatches of 64 up to 64 pixels, and of as many numbers beyond. Each case is a process of
its own: seconds from opening to the first batch, images per second from the loader to the update, and what its peak of
memory rises by. Workers are so many processes at once, each with its share of the images; they do not add up gradients,
which distributed.py measures.
--short: the first and the second
value of each thing.
Results go to benchmarks/results/PROCESSOR/scaling.json; `make tables` draws them.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import chain, count

import numpy as np
import torch

from convolve.atomic import write_json
from convolve.data.build import build_data
from convolve.data.loader import Loader
from convolve.data.sources.source import ArraySource
from convolve.data.splits import Splits
from convolve.recipes import resolve
from rounds import conditions, results_of
from steps import our_step_on

RESULTS = results_of("scaling")
SECONDS, WARM_UP = 4.0, 2


@dataclass(frozen=True)
class Case:
    images: int = 10_000
    classes: int = 10
    side: int = 32
    threads: int = 1
    workers: int = 1

    @property
    def batch_size(self) -> int:
        """64 small images; of large ones as many as have the numbers of 64 of 64 pixels."""
        return max(2, min(64, 64 * 64**2 // self.side**2))


BASE = Case()
# what grows -> its values
GROWS: dict[str, tuple[int, ...]] = {
    "images": (1_000, 10_000, 100_000, 1_000_000),
    "classes": (2, 100, 1_000, 10_000),
    "side": (28, 64, 128, 256, 512, 1024),
    "threads": (1, 2),
    "workers": (1, 2),
}


def cases(is_short: bool) -> list[tuple[str, Case]]:
    few = {"side": 64}  # images are then few, so that they fit into memory
    found = []
    for name, values in GROWS.items():
        for value in values[:2] if is_short else values:
            case = replace(BASE, **{name: value})
            found.append((name, replace(case, images=200) if name == "side" and value > few["side"] else case))
    return found


def measure(case: Case) -> dict[str, float]:
    """The figures of one case, in this process."""
    torch.set_num_threads(case.threads)
    random = np.random.default_rng(0)
    shape = (case.images, 3, case.side, case.side)
    images_NCHW = torch.from_numpy(random.integers(0, 256, shape, np.uint8))
    labels_N = torch.arange(case.images) % case.classes
    train = ArraySource(images_NCHW, labels_N)
    names = tuple(str(number) for number in range(case.classes))
    settings = {
        "data.image_size": case.side,
        "data.train_transforms": [],
        "run.global_batch_size": case.batch_size,
        "run.threads": case.threads,
    }
    recipe = resolve("cifar10-resnet20", settings)
    held_before = _peak_bytes()
    start, spent = time.perf_counter(), time.process_time()
    data = build_data(recipe, Splits(train, train.take(np.arange(8)), names, "noise"), case.threads)
    batches = data.loader.epoch(0)
    images, labels = next(batches)
    first = {
        "first_batch_seconds": time.perf_counter() - start,
        "first_batch_core_seconds": time.process_time() - spent,
    }
    step = our_step_on(recipe, case.side, classes=case.classes)
    for _ in range(WARM_UP):
        step(images, labels)
    rates = _rates(data.loader, step)
    return {
        **first,
        **rates,
        "memory_mib": (_peak_bytes() - held_before) / 2**20,
        "data_mib": images_NCHW.nbytes / 2**20,
    }


def _rates(loader: Loader, step: Callable[[torch.Tensor, torch.Tensor], object]) -> dict[str, float]:
    """Images per second from the loader to the update, on the wall and of the processor's time, for some seconds."""
    seen, start, spent = 0, time.perf_counter(), time.process_time()
    for images, labels in chain.from_iterable(map(loader.epoch, count())):
        step(images, labels)
        seen += len(labels)
        if time.process_time() - spent > SECONDS:
            break
    return {
        "images_per_second": seen / (time.perf_counter() - start),
        "images_per_core_second": seen / (time.process_time() - spent),
    }


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure_workers(case: Case) -> dict[str, float]:
    """As `measure`, each of several processes at once with its part of the images: what is left of a core for each."""
    alone = replace(case, workers=1, images=case.images // case.workers)
    started = [_start(alone) for _ in range(case.workers)]
    found = [json.loads(process.communicate()[0]) for process in started]
    summed = {name: sum(each[name] for each in found) for name in found[0]}
    summed["images_per_core_second"] /= case.workers
    return summed | {"first_batch_seconds": max(each["first_batch_seconds"] for each in found)}


def _start(case: Case) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, __file__, "--case", json.dumps(asdict(case))], stdout=subprocess.PIPE, text=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measure(Case(**json.loads(arguments.case)))))
        return
    rows = []
    for name, case in cases(arguments.short):
        rows.append({"grows": name, **asdict(case), **measure_workers(case)})
        print(rows[-1], file=sys.stderr)
    write_json(RESULTS, {"conditions": conditions(rounds=1, steps=0), "seconds": SECONDS, "rows": rows})


if __name__ == "__main__":
    main()
