"""CNTK's lines."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

_TABLE = "\n".join(
    [
        " average      since    average      since      examples",
        "    loss       last     metric       last              ",
        " ------------------------------------------------------",
    ]
)


class ProgressPrinter:
    """Prints means of loss and metric every `freq` minibatches (0: after 1, 3, 7, 15 ... of them; None: never) and at
    the end of each epoch. `gen_heartbeat` and `distributed_freq` print nothing here."""

    def __init__(
        self, freq: int | None = None, first: int = 0, tag: str = "", log_to_file: str | None = None,
        rank: int | None = None,
        gen_heartbeat: bool = False, num_epochs: int | None = None, test_freq: int | None = None, test_first: int = 0,
        metric_is_pct: bool = True, distributed_freq: int | None = None, distributed_first: int = 0,
    ) -> None:  # fmt: skip
        self.freq = sys.maxsize if freq is None else freq
        self.test_freq = sys.maxsize if test_freq is None else test_freq
        self.first, self.test_first = first, test_first
        self.tag = f"[{tag}] " if tag else ""
        self.num_epochs, self.epochs, self.tests = num_epochs, 0, 0
        self.metric_is_pct, self.rank = metric_is_pct, rank
        self.file = None if log_to_file is None else f"{log_to_file}{'' if rank is None else f'rank{rank}'}"
        self.trainings, self.evaluations = Totals(), Totals()
        self._rates_shown: dict[tuple[Any, str], float] = {}
        if self.file:
            Path(self.file).write_text("", encoding="utf-8")
        if self.freq == 0:
            self.log(_TABLE)

    def log(self, message: str) -> None:
        if self.file:
            with Path(self.file).open("a", encoding="utf-8") as file:
                file.write(f"{message}\n")
        elif self.rank in (None, 0):
            print(message, flush=True)

    def write(self, key: str, value: Any) -> None:
        self.log(f"{key}: {value}")

    def note_rate(self, learner: Any, what: str, value: float) -> None:
        """Print a rate or a momentum of `learner` where it is another one than before."""
        if self._rates_shown.get((learner, what)) != value:
            self._rates_shown[learner, what] = value
            self.write(what, value)

    def update_training(self, samples: int, loss: float, metric: float | None) -> None:
        totals = self.trainings
        totals.add(samples, loss, metric)
        if is_due(totals.updates, self.freq, self.first):
            self.log(self._row(totals) if self.freq == 0 else self._minibatch_line(totals))

    def update_with_trainer(self, trainer: Any, with_metric: bool = False) -> None:
        """Deprecated in CNTK: a printer that the trainer knows hears of it by itself."""
        samples = trainer.previous_minibatch_sample_count
        metric = trainer.previous_minibatch_evaluation_average * samples if with_metric else None
        self.update_training(samples, trainer.previous_minibatch_loss_average * samples, metric)

    def update(self, loss: float, minibatch_size: int, metric: float | None = None) -> None:
        """Means over a minibatch."""
        self.update_training(minibatch_size, loss * minibatch_size, None if metric is None else metric * minibatch_size)

    def epoch_summary(self, with_metric: bool = False) -> None:
        totals = self.trainings
        totals.loss, totals.metric = totals.loss or 0.0, (totals.metric or 0.0) if with_metric else None
        self.on_training_summary()

    def on_training_summary(self) -> None:
        self.epochs += 1
        totals, self.trainings = self.trainings, Totals()
        of = f" of {self.num_epochs}" if self.num_epochs else ""
        if self.freq == 0:
            return
        seconds = time.perf_counter() - totals.began
        rate = totals.samples / seconds if seconds > 0 else 0.0
        figures = self._figures(totals.loss, totals.metric, totals.samples)
        self.log(f"Finished Epoch[{self.epochs}{of}]: {self.tag}{figures} {seconds:0.3f}s ({rate:5.1f} samples/s);")

    def update_test(self, samples: int, metric: float) -> None:
        totals = self.evaluations
        totals.add(samples, None, metric)
        if is_due(totals.updates, self.test_freq, self.test_first):
            self.log(f" Evaluation{self._minibatch_line(totals)}")

    def on_test_summary(self) -> None:
        self.tests += 1
        totals, self.evaluations = self.evaluations, Totals()
        figures = self._figures(None, totals.metric or 0.0, totals.samples)
        self.log(f"Finished Evaluation [{self.tests}]: Minibatch[1-{totals.updates}]: {figures};")

    def _row(self, totals: Totals) -> str:
        samples, loss, metric = totals.samples, totals.loss or 0.0, totals.metric or 0.0
        _, since, last_loss, last_metric = totals.since_last()
        means = (loss / samples, (last_loss or 0.0) / since, metric / samples, (last_metric or 0.0) / since)
        return f" {means[0]:8.3g}   {means[1]:8.3g}   {means[2]:8.3g}   {means[3]:8.3g}    {samples:10d}"

    def _minibatch_line(self, totals: Totals) -> str:
        first, samples, loss, metric = totals.since_last()
        return f" Minibatch[{first:4d}-{totals.updates:4d}]: {self._figures(loss, metric, samples)};"

    def _figures(self, loss: float | None, metric: float | None, samples: int) -> str:
        parts = [] if loss is None else [f"loss = {loss / max(samples, 1):0.6f} * {samples:d}"]
        if metric is not None:
            mean = metric / max(samples, 1)
            parts.append(
                f"metric = {mean * 100:0.2f}% * {samples:d}"
                if self.metric_is_pct
                else f"metric = {mean:0.6f} * {samples:d}"
            )
        return ", ".join(parts)


class Totals:
    """Sums since an epoch began, and as they were at the last line."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.samples, self.updates = 0, 0
        self.loss: float | None = None
        self.metric: float | None = None
        self._shown = (0, 0, 0.0, 0.0)

    def add(self, samples: int, loss: float | None, metric: float | None) -> None:
        self.samples, self.updates = self.samples + samples, self.updates + 1
        if loss is not None:
            self.loss = (self.loss or 0.0) + loss
        if metric is not None:
            self.metric = (self.metric or 0.0) + metric

    def since_last(self) -> tuple[int, int, float | None, float | None]:
        """(number of the first minibatch, samples, loss, metric) since the last line; from here on, the next one."""
        updates, samples, loss, metric = self._shown
        self._shown = (self.updates, self.samples, self.loss or 0.0, self.metric or 0.0)
        return (
            updates + 1, self.samples - samples, None if self.loss is None else self.loss - loss,
            None if self.metric is None else self.metric - metric,
        )  # fmt: skip


def is_due(updates: int, freq: int, first: int) -> bool:
    if freq == 0:
        return updates & (updates + 1) == 0
    return updates <= first or updates % freq == 0
