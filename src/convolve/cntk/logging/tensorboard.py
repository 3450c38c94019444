"""`TensorBoardProgressWriter`: event files, under CNTK's tags and steps, compared with what the real CNTK 2.7 wrote."""

from __future__ import annotations

from typing import Any

from convolve.cntk.logging.progress_print import Totals, is_due
from convolve.errors import UsageError, install_hint


class TensorBoardProgressWriter:
    """Means since the last point, every `freq` minibatches, and of each epoch. `rank`: only worker 0 writes."""

    def __init__(self, freq: int | None = None, log_dir: str = ".", rank: int | None = None, model: Any = None) -> None:
        if freq is not None and freq < 0:
            raise ValueError("TensorBoardProgressWriter: freq must be None or at least 0")
        self.freq, self.log_dir = freq, log_dir
        self.total_training_updates = self.summaries = 0
        self.trainings, self.evaluations = Totals(), Totals()
        self.writer = _opened(log_dir) if rank in (None, 0) else None
        self.closed = False

    def write_value(self, name: str, value: float, step: int) -> None:
        if self.closed:
            raise RuntimeError("Attempting to write to a closed TensorBoardProgressWriter")
        if self.writer:
            self.writer.add_scalar(name, float(value), step)

    def write_image(self, name: str, data: Any, step: int) -> None:
        """`data`: output -> images (N, C, H, W)."""
        if self.writer:
            for images in data.values():
                self.writer.add_images(name, images, step)

    def flush(self) -> None:
        if self.writer and not self.closed:
            self.writer.flush()

    def close(self) -> None:
        if self.writer and not self.closed:
            self.writer.close()
        self.closed = True

    def write(self, key: str, value: Any) -> None:
        """Rates are not written by CNTK either."""

    def note_rate(self, learner: Any, what: str, value: float) -> None: ...

    def update_training(self, samples: int, loss: float, metric: float | None) -> None:
        self.total_training_updates += 1
        self.trainings.add(samples, loss, metric)
        if self.freq is not None and is_due(self.trainings.updates, self.freq, 0):
            _, since, losses, metrics = self.trainings.since_last()
            self._means("minibatch", since, losses, metrics, self.total_training_updates)

    def on_training_summary(self) -> None:
        self.summaries += 1
        totals, self.trainings = self.trainings, Totals()
        self._means("summary", totals.samples, totals.loss, totals.metric, self.summaries)

    def update_test(self, samples: int, metric: float) -> None:
        self.evaluations.add(samples, None, metric)

    def on_test_summary(self) -> None:
        totals, self.evaluations = self.evaluations, Totals()
        if totals.samples:
            mean = (totals.metric or 0.0) / totals.samples
            self.write_value("minibatch/test_avg_metric", mean, self.total_training_updates)

    def _means(self, kind: str, samples: int, loss: float | None, metric: float | None, step: int) -> None:
        for name, total in (("loss", loss), ("metric", metric)):
            if total is not None and samples:
                self.write_value(f"{kind}/avg_{name}", total / samples, step)
        self.flush()


def _opened(folder: str) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UsageError(
            f"TensorBoardProgressWriter needs the package tensorboard: {install_hint('tensorboard')}"
        ) from None
    return SummaryWriter(folder)
