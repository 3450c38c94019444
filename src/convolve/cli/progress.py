"""What a person sees while a run goes on: a live bar on a terminal, plain lines otherwise. Always on stderr."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from convolve.recipe import Recipe
from convolve.report.tensorboard import TensorBoard


def stderr_console() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


class DownloadLines:
    """A callback for a download (see `data.download.Progress`): a line every two seconds, and one at its end."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.last_line_seconds = 0.0

    def __call__(self, file: str, done_bytes: int, size_bytes: int) -> None:
        if done_bytes == size_bytes or time.monotonic() - self.last_line_seconds > 2:
            self.last_line_seconds = time.monotonic()
            self.console.print(f"downloading {file}: {done_bytes / 1e6:.1f} of {size_bytes / 1e6:.1f} MB")


class Display:
    """A callback for the events of a run (see `run.Progress`), to be used in a `with` block."""

    def __init__(self, recipe: Recipe, tensorboard: Path | None) -> None:
        self.epochs, self.epoch_samples = recipe.run.epochs, recipe.run.epoch_samples
        self.console = stderr_console()
        self.tensorboard = TensorBoard(tensorboard) if tensorboard else None
        self.task: TaskID | None = None
        self.download_lines = DownloadLines(self.console)
        self.last_line_seconds = 0.0
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
        self.download_lines(**values)

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
        if self.bar.disable and time.monotonic() - self.last_line_seconds > 30:
            self._line(f"epoch {values['epoch']}/{self.epochs}  {figures}")

    def _epoch(self, values: dict[str, Any]) -> None:
        name = "test" if "test_error" in values else "validation"
        epoch = f"{values['epoch']:>{len(str(self.epochs))}}/{self.epochs}"
        self._line(
            f"epoch {epoch}  train loss {values['train_loss']:.4f} error {values['train_error']:6.2%}"
            f"  {name} error {values[f'{name}_error']:6.2%}  {values['images_per_second']:.0f} images/s"
            f"  waiting {values['data_wait_fraction']:.1%}"
        )

    def _line(self, text: str) -> None:
        self.last_line_seconds = time.monotonic()
        self.console.print(text)
