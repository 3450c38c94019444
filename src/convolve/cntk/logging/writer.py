"""The base class of everything that reports a training's progress: printers, and a program's own writers."""

import operator
import sys
import time
from typing import Any, Self

NEVER = sys.maxsize  # as a frequency


class ProgressWriter:
    """Sums of samples, losses and metrics, passed on after every `freq` minibatches (0: after 1, 3, 7, 15 ... of them)
    and after each of the first ones. A program's own writer defines `on_write_training_update` and the like."""

    def __init__(
        self, trainingUpdateWriteFrequency: int, trainingFirstUpdatesToWrite: int, testUpdateWriteFrequency: int,
        testFirstUpdatesToWrite: int, distributedSyncUpdateWriteFrequency: int,
        distributedSyncFirstUpdatesToWrite: int,
    ) -> None:  # fmt: skip
        self._trainings = Sums(trainingUpdateWriteFrequency, trainingFirstUpdatesToWrite)
        self._tests = Sums(testUpdateWriteFrequency, testFirstUpdatesToWrite)
        _count(distributedSyncUpdateWriteFrequency), _count(distributedSyncFirstUpdatesToWrite)
        self.freq = trainingUpdateWriteFrequency

    def __disown__(self) -> Self:
        """Part of CNTK's binding to C++."""
        return self

    # -- defined by programs
    # ----------------------------------------------------------------------------------------------

    def on_write_training_update(
        self, samples: Any, updates: Any, aggregate_loss: Any, aggregate_metric: Any
    ) -> None: ...

    def on_write_test_update(self, samples: Any, updates: Any, aggregate_metric: Any) -> None: ...

    def on_write_training_summary(
        self, samples: int, updates: int, summaries: int, aggregate_loss: float, aggregate_metric: float,
        elapsed_milliseconds: int,
    ) -> None: ...  # fmt: skip

    def on_write_test_summary(
        self, samples: int, updates: int, summaries: int, aggregate_metric: float, elapsed_milliseconds: int
    ) -> None: ...

    def on_training_update_end(self) -> None: ...

    def write(self, key: str, value: Any) -> None: ...

    # -- called by trainers
    # -----------------------------------------------------------------------------------------------

    def update_training(self, samples: int, loss: float, metric: float | None) -> None:
        if due := self._trainings.add(samples, loss, metric or 0.0):
            self.on_write_training_update(*due)
        self.on_training_update_end()

    def update_test(self, samples: int, metric: float) -> None:
        if due := self._tests.add(samples, 0.0, metric):
            samples_seen, updates, _, metrics = due
            self.on_write_test_update(samples_seen, updates, metrics)

    def on_training_summary(self) -> None:
        samples, updates, loss, metric = self._trainings.now
        summaries, milliseconds = self._trainings.end()
        figures = (loss, metric, milliseconds)
        self.on_write_training_summary(samples, updates, summaries, *figures)

    def on_test_summary(self) -> None:
        samples, updates, _, metric = self._tests.now
        summaries, milliseconds = self._tests.end()
        self.on_write_test_summary(samples, updates, summaries, metric, milliseconds)

    @property
    def tested_samples(self) -> int:
        """The samples tested since the last summary of tests."""
        return self._tests.now[0]

    def total_training_updates(self) -> int:
        return self._trainings.updates

    def total_test_updates(self) -> int:
        return self._tests.updates


_Totals = tuple[int, int, float, float]  # samples, minibatches, loss, metric


class Sums:
    """Sums since the last summary, and their values when they were last written."""

    def __init__(self, freq: Any, first: Any) -> None:
        self.freq, self.first = _count(freq), _count(first)
        self.updates = self.summaries = 0
        self.began: float | None = None
        self.now: _Totals = (0, 0, 0.0, 0.0)
        self.written = self.now

    def add(self, samples: int, loss: float, metric: float) -> list[tuple[Any, Any]] | None:
        """What is to be written now; see `since_last`."""
        seen, updates, losses, metrics = self.now
        self.began = time.perf_counter() if self.began is None else self.began
        self.updates += 1
        self.now = (seen + samples, updates + 1, losses + loss, metrics + metric)
        return self.since_last() if is_due(updates + 1, self.freq, self.first) else None

    def since_last(self) -> list[tuple[Any, Any]]:
        """The sums at the last write and now, a pair for each; from then on, now is the last write."""
        pairs, self.written = list(zip(self.written, self.now, strict=True)), self.now
        return pairs

    def means(self, since_last: bool = False) -> tuple[float, float]:
        """The means of loss and metric, since the last summary or the last write."""
        seen, _, losses, metrics = self.written if since_last else (0, 0, 0.0, 0.0)
        samples, _, loss, metric = self.now
        count = max(samples - seen, 1)
        return (loss - losses) / count, (metric - metrics) / count

    def end(self) -> tuple[int, int]:
        """(the number of this summary, its milliseconds)"""
        milliseconds = 0 if self.began is None else int((time.perf_counter() - self.began) * 1000)
        self.summaries, self.began = self.summaries + 1, time.perf_counter()
        self.now = self.written = (0, 0, 0.0, 0.0)
        return self.summaries, milliseconds


def is_due(updates: int, freq: int, first: int) -> bool:
    if freq == 0:
        return updates & (updates + 1) == 0
    return updates <= first or updates % freq == 0


def _count(value: Any) -> int:
    found = operator.index(value)  # a TypeError for anything but a whole number
    if found < 0:
        raise OverflowError(f"the frequency of a progress writer must be None or at least 0, not {value}")
    return found
