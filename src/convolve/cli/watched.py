"""What a person sees while images go through a network: a bar on a terminal, a plain line now and then otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from convolve.cli.progress import stderr_console
from convolve.data.pictures import Batch, Samples

_SECONDS = 30.0  # between two plain lines


@dataclass(frozen=True)
class Watched:
    """`samples`, whose number and time left are shown as they are taken; `what` says what happens to them."""

    samples: Samples
    what: str

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def labels_N(self) -> torch.Tensor:
        return self.samples.labels_N

    @property
    def chunk_N(self) -> NDArray[np.int64] | None:
        return self.samples.chunk_N

    def batches(self, order_N: NDArray[np.int64], batch_size: int, epoch: int = 0) -> Iterator[Batch]:
        """As `Samples` has it."""
        console = stderr_console()
        columns = TextColumn(self.what), BarColumn(bar_width=None), MofNCompleteColumn(), TimeRemainingColumn()
        bar = Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty())
        done, began = 0, time.monotonic()
        told = began
        with bar:
            task = bar.add_task("", total=len(order_N))
            for images_NCHW, labels_N in self.samples.batches(order_N, batch_size, epoch):
                yield images_NCHW, labels_N
                done, now = done + len(labels_N), time.monotonic()
                bar.advance(task, len(labels_N))
                if bar.disable and now - told > _SECONDS:
                    told, left = now, (now - began) / done * (len(order_N) - done)
                    console.print(f"{self.what}: {done:,} of {len(order_N):,} images, {left:.0f} s left")
