"""The figures of docs/explanation/cifar10.md, on the official files: one command, for days, resumable.

    python benchmarks/cifar10_official.py --data DIR [--runs runs/cifar10] [--threads 1] [--only NAME ...]
                                          [--cntk-python PATH]

One training after another, in the order of `JOBS`, each seed a run folder in RUNS; what is finished is not trained
again. After each seed docs/results has the figures so far, after the last one also those over six views. With the
Python of CNTK 2.7 (`--cntk-python`; PATH may be a script that sets its environment) CNTK itself trains on the same
images by cifar10_cntk.py, and its figures go to docs/results/cntk. `make tables` then writes pages and plots.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convolve.atomic import write_json
from convolve.data.cifar10 import load_cifar10
from convolve.environment import hardware

RESULTS = Path(__file__).parents[1] / "docs" / "results"
VIEWS = 6
NARROW = ("model.variant=narrow",)


@dataclass(frozen=True)
class Job:
    """A recipe with other settings and so many seeds, as `convolve reproduce` takes them; or a training by CNTK."""

    name: str
    recipe: str
    seeds: int = 1
    settings: tuple[str, ...] = ()
    cntk_epochs: int = 0


JOBS = (
    Job("cifar10", "cifar10", 3),
    Job("cifar10-fast-4", "cifar10-fast", 3, ("run.epochs=4", *NARROW)),
    Job("cifar10-fast-6", "cifar10-fast", 3, ("run.epochs=6", *NARROW)),
    Job("cifar10-fast", "cifar10-fast", 3),
    Job("cntk-cifar10", "cifar10", cntk_epochs=30),
    Job("cntk-cifar10-aug", "cifar10-aug", cntk_epochs=10),
    Job("cifar10-aug", "cifar10-aug", 2),
    Job("cifar10-aug-lrn", "cifar10-aug-lrn", 2),
    Job("cifar10-resnet20-short", "cifar10-resnet20-short"),
    Job("cifar10-resnet20", "cifar10-resnet20"),
)


def reproduce(job: Job, data: str, runs: Path, threads: int) -> None:
    """Seed by seed, so that the figures so far are there however long the next one takes."""
    settings = [word for setting in job.settings for word in ("--set", setting)]
    where = ["--data", data, "--runs", str(runs / job.name), "--out", str(RESULTS / f"{job.name}.json")]
    for seeds in range(1, job.seeds + 1):
        views = ["--views", str(VIEWS)] if seeds == job.seeds else []
        words = ["reproduce", job.recipe, *settings, *views, "--seeds", str(seeds), "--threads", str(threads), *where]
        subprocess.run([sys.executable, "-m", "convolve", *words], check=True)


def train_cntk(job: Job, data: str, runs: Path, threads: int, python: str) -> None:
    images, folder = runs / "images.npz", runs / job.name
    if not images.exists():
        _write_images(images, data)
    program = str(Path(__file__).with_name("cifar10_cntk.py"))
    words = [python, program, job.recipe, str(images), str(folder), "--epochs", str(job.cntk_epochs)]
    subprocess.run(words, check=True, env=os.environ | {"OMP_NUM_THREADS": str(threads)})
    write_json(
        RESULTS / "cntk" / f"{job.recipe}.json",
        {
            "recipe": job.recipe,
            "by": "CNTK 2.7",
            "threads": threads,
            "data_note": load_cifar10(data).note,
            "hardware": hardware(),
            "curve": json.loads((folder / "curve.json").read_text(encoding="utf-8")),
        },
    )


def _write_images(path: Path, data: str) -> None:
    """What the recipes train on, for a Python that reads numpy's files."""
    splits = load_cifar10(data)
    train, test = splits.arrays
    part = path.with_name("part.npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        part,
        train_images=train.images_NCHW.numpy(),
        train_labels=train.labels_N.numpy(),
        test_images=test.images_NCHW.numpy(),
        test_labels=test.labels_N.numpy(),
    )
    part.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the official files, in any form that `convolve train` takes")
    parser.add_argument("--runs", type=Path, default=Path("runs") / "cifar10")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=[job.name for job in JOBS], help="some of the trainings")
    parser.add_argument("--cntk-python", help="the Python 3.6 of CNTK 2.7; without it, CNTK's trainings are left out")
    arguments = parser.parse_args()
    for job in JOBS:
        if arguments.only and job.name not in arguments.only:
            continue
        print(f"=== {job.name}", file=sys.stderr, flush=True)
        if not job.cntk_epochs:
            reproduce(job, arguments.data, arguments.runs, arguments.threads)
        elif arguments.cntk_python:
            train_cntk(job, arguments.data, arguments.runs, arguments.threads, arguments.cntk_python)


if __name__ == "__main__":
    main()
