"""Which files of convolve the updates enter, from one backward pass to another: how far a reader has to walk.

    python benchmarks/files_of_a_step.py

Prefetching threads and progress are included. One training is of digits in memory, one of photographs that are decoded
on demand; both are tiny, and made here.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import cv2
import numpy as np
import torch

import convolve

ROOT = str(Path(convolve.__file__).parent)
FIRST_STEP, LAST_STEP = 6, 16  # by then every part is at work; threads decode ahead, so one step alone may miss some
TINY = {"model.variant": "tiny", "run.threads": 1, "run.precision": "fp32", "run.epochs": 1}


def files_of_a_step(recipe: str, data: str, **settings: Any) -> list[str]:
    """The files entered between the backward passes of `FIRST_STEP` and `LAST_STEP`, in any thread."""
    entered: set[str] = set()
    steps = 0
    backward: Callable[..., None] = torch.Tensor.backward

    def enter(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(ROOT):
            entered.add(str(Path(frame.f_code.co_filename).relative_to(ROOT)))

    def counted(*arguments: Any, **options: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == FIRST_STEP:
            entered.clear()
            sys.setprofile(enter)
        elif steps == LAST_STEP:
            sys.setprofile(None)
            result.extend(sorted(entered))
        backward(*arguments, **options)

    result: list[str] = []
    torch.Tensor.backward = counted  # type: ignore[method-assign]
    threading.setprofile(enter)  # in each thread from its start on
    try:
        with tempfile.TemporaryDirectory() as out:
            from convolve.recipes import resolve

            spec = resolve(recipe, TINY | settings)
            convolve.train(spec, data=data, out=Path(out) / "run", progress=lambda event, values: None)
    finally:
        torch.Tensor.backward = backward  # type: ignore[method-assign]
        threading.setprofile(None)
    return result


def write_photographs(folder: Path) -> None:
    """Two classes of noise, of many sizes."""
    rng = np.random.default_rng(0)
    for number in range(150):
        place = folder / ("left", "right")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        image_HWC = rng.integers(0, 256, (300 + number, 400, 3), dtype=np.uint8)
        cv2.imwrite(str(place / f"{number}.jpg"), image_HWC)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_photographs(Path(folder))
        for name, files in (
            ("mnist-fast, in memory", files_of_a_step("mnist-fast", "sample")),
            ("alexnet, decoded on demand", files_of_a_step("alexnet", folder, **{"run.global_batch_size": 4})),
        ):
            print(f"{len(files)} files: {name}", *files, sep="\n    ")


if __name__ == "__main__":
    main()
