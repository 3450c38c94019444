"""Progress on stderr, of a training, an evaluation, a download: a live bar on a terminal, plain lines otherwise."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from convolve.recipe import Recipe
from convolve.report.tensorboard import TensorBoard

if TYPE_CHECKING:
    from convolve.data.dataset import Batch

_LINE_SECONDS = 30.0  # between two lines where there is no bar


def stderr_console() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


class Pace:
    """Says whether `seconds` have passed since it last said so; the first time, whether they have since it was made."""

    def __init__(self, seconds: float, *, at_once: bool = False) -> None:
        self.seconds, self.last = seconds, -math.inf if at_once else time.monotonic()

    def __call__(self) -> bool:
        is_due = time.monotonic() - self.last > self.seconds
        self.last = time.monotonic() if is_due else self.last
        return is_due


def download_lines(console: Console) -> Callable[[str, int, int], None]:
    """A callback for a download (see `data.download.Progress`): a line every two seconds, and one at its end."""
    is_due = Pace(2, at_once=True)

    def show(file: str, done_bytes: int, size_bytes: int) -> None:
        if done_bytes == size_bytes or is_due():
            console.print(f"downloading {file}: {done_bytes / 1e6:.1f} of {size_bytes / 1e6:.1f} MB")

    return show


def check_lines() -> Callable[[str, int, int], None]:
    """A callback for `checking.check`: a line every ten seconds."""
    console, is_due = stderr_console(), Pace(10)

    def show(part: str, done: int, count: int) -> None:
        if is_due():
            console.print(f"{part} part: {done:,} of {count:,} images")

    return show


def with_progress(batches: Iterator[Batch], count: int, what: str) -> Iterator[Batch]:
    """The `batches` of `count` images. While they are taken, a bar or lines show how many, and the time left."""
    console = stderr_console()
    columns = TextColumn(what), BarColumn(bar_width=None), MofNCompleteColumn(), TimeRemainingColumn()
    bar = Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty())
    done, began, is_due = 0, time.monotonic(), Pace(_LINE_SECONDS)
    with bar:
        task = bar.add_task("", total=count)
        for images_NCHW, labels_N in batches:
            yield images_NCHW, labels_N
            done += len(labels_N)
            bar.advance(task, len(labels_N))
            if bar.disable and is_due():
                left = (time.monotonic() - began) / done * (count - done)
                console.print(f"{what}: {done:,} of {count:,} images, {left:.0f} s left")


class Display:
    """A callback for the events of a run (see `run.Progress`), to be used in a `with` block."""

    def __init__(self, recipe: Recipe, tensorboard: Path | None) -> None:
        self.epochs, self.epoch_samples = recipe.run.epochs, recipe.run.epoch_samples
        self.console = stderr_console()
        self.tensorboard = TensorBoard(tensorboard) if tensorboard else None
        self.task: TaskID | None = None
        self.download_lines = download_lines(self.console)
        self.is_due = Pace(_LINE_SECONDS, at_once=True)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not sys.stderr.isatty(),
            refresh_per_second=5,
        )

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()
        if self.tensorboard:
            self.tensorboard.close()

    def __call__(self, event: str, values: dict[str, Any]) -> None:
        handler = getattr(self, f"_{event}", None)
        if handler:
            handler(values)
        if self.tensorboard:
            self.tensorboard(event, values)

    def _start(self, values: dict[str, Any]) -> None:
        action = f"resuming at step {values['step']}" if values["step"] else "training"
        many = f"{values['workers']} workers, each on " if values["workers"] > 1 else ""
        self.console.print(
            f"{action}: {values['recipe']}, {values['parameters']:,} parameters, {values['train_samples']:,} images "
            f"from {values['data']}\n{many}{values['device']}, {values['threads']} threads, {values['precision']} "
            f"({values['precision_reason']})"
        )
        self.bar.start()  # here, since only the first of several workers gets the event
        total = (self.epoch_samples or values["train_samples"]) * self.epochs
        self.task = self.bar.add_task(
            f"epoch 1/{self.epochs}", total=total, completed=values["samples_seen"], figures=""
        )

    def _download(self, values: dict[str, Any]) -> None:
        self.download_lines(values["file"], values["done_bytes"], values["size_bytes"])

    def _note(self, values: dict[str, Any]) -> None:
        self.console.print(values["message"])

    def _warning(self, values: dict[str, Any]) -> None:
        self.console.print(f"warning: {values['message']}")

    def _step(self, values: dict[str, Any]) -> None:
        if self.task is not None and not self.bar.disable:
            self.bar.update(self.task, completed=values["samples_seen"])

    def _progress(self, values: dict[str, Any]) -> None:
        if self.task is None:
            return
        figures = f"loss {values['loss']:.4f}  error {values['error']:.2%}  {values['images_per_second']:.0f} images/s"
        self.bar.update(self.task, description=f"epoch {values['epoch']}/{self.epochs}", figures=figures)
        if self.bar.disable and self.is_due():
            self.console.print(f"epoch {values['epoch']}/{self.epochs}  {figures}")

    def _epoch(self, values: dict[str, Any]) -> None:
        name = "test" if "test_error" in values else "validation"
        epoch = f"{values['epoch']:>{len(str(self.epochs))}}/{self.epochs}"
        self.is_due.last = time.monotonic()
        self.console.print(
            f"epoch {epoch}  train loss {values['train_loss']:.4f} error {values['train_error']:6.2%}"
            f"  {name} error {values[f'{name}_error']:6.2%}  {values['images_per_second']:.0f} images/s"
            f"  waiting {values['data_wait_fraction']:.1%}"
        )
