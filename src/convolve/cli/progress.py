"""Progress of a training, an evaluation or a download, on stderr: a live bar on a terminal, otherwise plain lines."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from convolve.cli.formatting import counted
from convolve.errors import plain
from convolve.recipe import Recipe

T = TypeVar("T")
_LINE_SECONDS = 30.0  # between two lines, where there is no bar


class _PlainConsole(Console):
    """Rich draws with terminal commands; the text it is given to print has none."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(plain(each) if isinstance(each, str) else each for each in objects), **options)


def stderr_console() -> Console:
    """A console that prints text unchanged: "[photos]" is not markup."""
    file = getattr(sys.stderr, "bare", sys.stderr)
    return _PlainConsole(file=file, highlight=False, soft_wrap=True, markup=False, emoji=False)


class Pace:
    """Returns True at most once in `seconds`; the first time after `seconds`, or at once."""

    def __init__(self, seconds: float, *, at_once: bool = False) -> None:
        self.seconds, self.last = seconds, -math.inf if at_once else time.monotonic()

    def __call__(self) -> bool:
        is_due = time.monotonic() - self.last > self.seconds
        self.last = time.monotonic() if is_due else self.last
        return is_due


def download_lines(console: Console) -> Callable[[str, int, int], None]:
    """A callback for downloads (see `data.download.Progress`): a line every two seconds, and one at the end."""
    is_due = Pace(2, at_once=True)

    def show(file: str, done_bytes: int, size_bytes: int) -> None:
        if done_bytes == size_bytes or is_due():
            console.print(f"downloading {file}: {done_bytes / 1e6:.1f} of {size_bytes / 1e6:.1f} MB")

    return show


def look_lines() -> Callable[[int, int], None]:
    """A callback for `DataOptions.watch`: a line every ten seconds."""
    console, is_due = stderr_console(), Pace(10)

    def show(done: int, count: int) -> None:
        if is_due():
            console.print(f"looking for near copies: {done:,} of {count:,} images")

    return show


def check_lines(format: str = "{what} part: {done:,} of {count:,} images") -> Callable[[str, int, int], None]:
    """A callback for `checking.check` or the workers of a team: a line every ten seconds."""
    console, is_due = stderr_console(), Pace(10)

    def show(what: str, done: int, count: int) -> None:
        if is_due():
            console.print(format.format(what=what, done=done, count=count))

    return show


def with_progress(
    batches: Iterator[T], count: int, what: str, images: Callable[[T], int], done: int = 0
) -> Iterator[T]:
    """Pass on the `batches` of `count` images, `done` of which are already finished; `images` counts those in one
    batch.

    Meanwhile a bar or lines show the count, the speed and the time left.
    """
    console = stderr_console()
    speed = TextColumn("{task.fields[rate]:,.0f} images/s")
    columns = TextColumn(what), BarColumn(bar_width=None), MofNCompleteColumn(), speed, TimeRemainingColumn()
    bar = Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty())
    began, is_due, earlier = time.monotonic(), Pace(_LINE_SECONDS), done
    with bar:
        task = bar.add_task("", total=count, completed=done, rate=0.0)
        for batch in batches:
            yield batch
            done += images(batch)
            rate = (done - earlier) / max(time.monotonic() - began, 1e-9)
            bar.update(task, completed=done, rate=rate)
            if bar.disable and is_due():
                left = time_left((count - done) / max(rate, 1e-9))
                console.print(f"{what}: {done:,} of {count:,} images, {rate:,.0f} images/s, {left} left")


def time_left(seconds: float) -> str:
    """A duration as people say it: 45 s, 12 min, 3 h 20 min."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


class Display:
    """A callback for the events of a run (see `run.Progress`), used in a `with` block."""

    def __init__(self, recipe: Recipe) -> None:
        self.epochs, self.epoch_samples = recipe.run.epochs, recipe.run.epoch_samples
        self.console = stderr_console()
        self.task: TaskID | None = None
        self.total = 0  # over all epochs
        self.download_lines = download_lines(self.console)
        self.is_due, self.features_are_due = Pace(_LINE_SECONDS, at_once=True), Pace(_LINE_SECONDS / 3)
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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def __call__(self, event: str, values: dict[str, Any]) -> None:
        handler = getattr(self, f"_{event}", None)
        if handler:
            handler(values)

    def _start(self, values: dict[str, Any]) -> None:
        action = f"resuming at step {values['step']}" if values["step"] else "training"
        many = f"{values['workers']} workers, each on " if values["workers"] > 1 else ""
        self.console.print(
            f"{action}: {values['recipe']}, {values['parameters']:,} parameters, {values['train_samples']:,} images "
            f"from {values['data']}\n{many}{values['device']}, {counted(values['threads'], 'thread')}, "
            f"{values['precision']} ({values['precision_reason']})"
        )
        self.bar.start()  # printed here, as only the first of several workers gets the event
        self.total = (self.epoch_samples or values["train_samples"]) * self.epochs
        if self.task is not None:
            self.bar.remove_task(self.task)  # the previous fold's
        self.task = self.bar.add_task(
            f"epoch 1/{self.epochs}", total=self.total, completed=values["samples_seen"], figures=""
        )

    def _plan(self, values: dict[str, Any]) -> None:
        self.epochs = values["epochs"]
        self.console.print(values["message"])

    def _download(self, values: dict[str, Any]) -> None:
        self.download_lines(values["file"], values["done_bytes"], values["size_bytes"])

    def _features(self, values: dict[str, Any]) -> None:
        if self.features_are_due():
            self.console.print(f"features of {values['done']:,} of {values['images']:,} images")

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
        error = "" if values.get("error") is None else f"  error {values['error']:.2%}"
        figures = f"loss {values['loss']:.4f}{error}  {values['images_per_second']:.0f} images/s"
        self.bar.update(self.task, description=f"epoch {values['epoch']}/{self.epochs}", figures=figures)
        if self.bar.disable and self.is_due():
            left = self._left((self.total - values["samples_seen"]) / max(values["images_per_second"], 1e-9))
            self.console.print(f"epoch {values['epoch']}/{self.epochs}  {figures}{left}")

    def _epoch(self, values: dict[str, Any]) -> None:
        name = "test" if "test_loss" in values else "validation"
        epoch = f"{values['epoch']:>{len(str(self.epochs))}}/{self.epochs}"
        self.is_due.last = time.monotonic()
        self.console.print(
            f"epoch {epoch}  train loss {values['train_loss']:.4f}{self._judged(values, name)}"
            f"  {values['images_per_second']:.0f} images/s"
            f"  waiting {values['data_wait_fraction']:.1%}"
            + self._left((self.epochs - values["epoch"]) * (values["seconds"] + values["evaluation_seconds"]))
        )

    @staticmethod
    def _judged(values: dict[str, Any], name: str) -> str:
        """The errors of an epoch, or the metrics of a target that has none."""
        if f"{name}_loss" not in values:  # without validation images
            return f" error {values['train_error']:6.2%}"
        if values.get("train_error") is not None:
            return f" error {values['train_error']:6.2%}  {name} error {values[f'{name}_error']:6.2%}"
        from convolve.training.metrics import in_words

        return f"  {name} loss {values[f'{name}_loss']:.4f} {' '.join(in_words(values, name))}"

    @staticmethod
    def _left(seconds: float) -> str:
        """The time left, for the end of a line; empty near the end."""
        return f"  {time_left(seconds)} left" if seconds >= _LINE_SECONDS else ""
