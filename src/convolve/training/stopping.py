"""Saving a training within an epoch, and ending it when a scheduler takes the machine away.

Slurm, Kubernetes and spot machines send SIGTERM, or SIGUSR1 if asked to, some time before they end the processes. A
training then completes its step, on all workers the same one, writes a checkpoint, and ends with exit code 75
(EX_TEMPFAIL of sysexits.h: try again later). If there is nothing to save, it ends at once.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

import torch

from convolve.errors import StoppedTraining
from convolve.training.snapshot import save

if TYPE_CHECKING:
    from convolve.training.plan import Batch
    from convolve.training.trainer import Trainer

SIGNALS = ("SIGTERM", "SIGUSR1", "SIGBREAK")  # those that there are; the last one is Windows' Ctrl-Break
CHECK_SECONDS = 1.0  # workers ask each other so often: a small part of any grace time, and of the time of training


class _Stop(BaseException):
    """Like KeyboardInterrupt: an `except` for errors must not catch it."""


@dataclass
class _Request:
    signal: str = ""  # that has come
    is_held: bool = False  # a training looks at `signal` between its steps


_request = _Request()


@contextmanager
def stoppable() -> Iterator[None]:
    """Signals end the block with `StoppedTraining`. In a thread, which gets no signals, nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _request.signal, _request.is_held = "", False
    numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    before = [(number, signal.signal(number, _on_signal)) for number in numbers]
    try:
        yield
    except _Stop:
        raise StoppedTraining(_request.signal) from None
    finally:
        for number, handler in before:
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _on_signal(number: int, _frame: FrameType | None) -> None:
    _request.signal = signal.Signals(number).name
    if not _request.is_held:
        raise _Stop


class SavePoints:
    """Saves a training between two steps when that is due, and ends it after saving if a signal has arrived.

    Workers learn of each other's signals, and of worker 0's clock, only when all of them ask, after a number of steps
    that takes about `CHECK_SECONDS`.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._saved = self._asked = time.perf_counter()
        self._between = self._rest = 1  # steps
        self._stops = False

    @contextmanager
    def held(self) -> Iterator[None]:
        _request.is_held = True
        try:
            yield
        finally:
            _request.is_held = False

    def after_step(self, is_shown: bool, is_last: bool) -> None:
        trainer, self._rest = self._trainer, self._rest - 1
        if trainer.workers.size == 1 or is_last or self._rest <= 0:
            self._ask()
        if trainer.gradient_sync and trainer.gradient_sync.is_inside_block:  # the weights differ between workers
            return
        seconds = trainer.recipe.run.checkpoint_seconds
        is_due = is_shown and not is_last and 0 < seconds < time.perf_counter() - self._saved
        if is_shown and not is_last and trainer.workers.size > 1:
            is_due = trainer.workers.broadcast(is_due)
        if is_due or self._stops:
            save(trainer)
            self._saved = time.perf_counter()
        self._end_if_asked()

    def after_epoch(self) -> None:
        """The state has just been saved."""
        self._saved = time.perf_counter()
        self._ask()
        self._end_if_asked()

    def watching(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The `batches` of an evaluation, which changes nothing. With several workers it is completed."""
        for batch in batches:
            if _request.signal and self._trainer.workers.size == 1:
                self._stops = True
                save(self._trainer)
                self._end_if_asked()
            yield batch

    def _ask(self) -> None:
        """Ask all workers whether a signal has arrived; the time that passed determines when to ask next."""
        now, workers = time.perf_counter(), self._trainer.workers
        if workers.size == 1:
            self._stops = bool(_request.signal)
            return
        told = torch.tensor([float(bool(_request.signal)), now - self._asked], dtype=torch.float64)
        workers.sum(told)
        signals, seconds = told.tolist()
        steps = int(self._between * workers.size * CHECK_SECONDS / max(seconds, 1e-9))
        self._between = self._rest = max(1, min(2 * self._between, steps))
        self._asked, self._stops = now, self._stops or signals > 0

    def _end_if_asked(self) -> None:
        if self._stops:
            self._trainer.workers.barrier()  # a launcher may kill the others when one has ended
            name = _request.signal or "a signal that another worker got"
            raise StoppedTraining(name, f" after step {self._trainer.position.step}, which is saved")
