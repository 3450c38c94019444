"""What a person sees while images go through a network: a bar on a terminal, a plain line now and then otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from convolve.cli.progress import stderr_console
from convolve.data.dataset import Batch

_SECONDS = 30.0  # between two plain lines


def watched(batches: Iterator[Batch], count: int, what: str) -> Iterator[Batch]:
    """The `batches` of `count` images, whose number and time left are shown as they come; `what` is done to them."""
    console = stderr_console()
    columns = TextColumn(what), BarColumn(bar_width=None), MofNCompleteColumn(), TimeRemainingColumn()
    bar = Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty())
    done, began = 0, time.monotonic()
    told = began
    with bar:
        task = bar.add_task("", total=count)
        for images_NCHW, labels_N in batches:
            yield images_NCHW, labels_N
            done, now = done + len(labels_N), time.monotonic()
            bar.advance(task, len(labels_N))
            if bar.disable and now - told > _SECONDS:
                told, left = now, (now - began) / done * (count - done)
                console.print(f"{what}: {done:,} of {count:,} images, {left:.0f} s left")
