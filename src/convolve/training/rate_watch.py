"""Warns once when a training has become slow: other processes, a throttled processor, or images that arrive late."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convolve.environment import idle_cores, usable_cores

if TYPE_CHECKING:
    from convolve.training.trainer import Trainer

SECONDS = 5.0  # of training between two measurements: shorter ones measure noise
SLOW = 0.5  # of the best rate so far on images of the same size


class RateWatch:
    """`due` is the training time, in seconds, at which `look` measures next."""

    def __init__(self) -> None:
        self.due = SECONDS
        self._best: dict[tuple[int, ...], float] = {}  # size of the images -> images per second
        self._since: tuple[tuple[int, ...], int, float, float] | None = None  # size, samples, seconds, waited

    def watch(self, trainer: Trainer, size: tuple[int, ...]) -> None:
        """Report once that a training has become slow; `size` is that of its images."""
        at, metrics, session = trainer.position, trainer.metrics, trainer.session
        seconds, waited = at.train_seconds + metrics.seconds, at.wait_seconds + metrics.wait_seconds
        threads = session.threads if session.device.type == "cpu" else 0
        message = self.look(size, at.samples_seen, seconds, waited, threads)
        if message:
            trainer.callback("note", {"message": message})

    def look(self, size: tuple[int, ...], samples: int, seconds: float, waited: float, threads: int) -> str | None:
        """A warning, if a training has become slow after this many `seconds`, of which it `waited` for images;
        otherwise nothing."""
        since, self._since, self.due = self._since, (size, samples, seconds, waited), seconds + SECONDS
        if since is None or since[0] != size:  # progressive resizing is slower with larger images
            return None
        rate, wait_fraction = (samples - since[1]) / (seconds - since[2]), (waited - since[3]) / (seconds - since[2])
        best = self._best[size] = max(rate, self._best.get(size, 0.0))
        if rate >= SLOW * best:
            return None
        self.due = float("inf")
        return f"the training has slowed from {best:,.0f} to {rate:,.0f} images/s: {_reason(wait_fraction, threads)}"


def _reason(wait_fraction: float, threads: int) -> str:
    if wait_fraction > 0.5:
        return f"it waits for images {wait_fraction:.0%} of the time; put them on a faster disk, or free some cores"
    idle = idle_cores()
    if threads and idle < threads:
        cores = usable_cores()
        return (
            f"other processes keep {cores - idle} of {cores} cores busy; stop them, or start over with "
            f"--threads {idle} --restart"
        )
    return "the processor may be throttled by heat, or by the limit of its container"
