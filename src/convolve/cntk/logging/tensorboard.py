"""`TensorBoardProgressWriter`: event files with CNTK's tags and steps, compared with those of the real CNTK 2.7."""

from typing import Any

from convolve.cntk.logging.writer import NEVER, ProgressWriter
from convolve.errors import UsageError, install_hint


class TensorBoardProgressWriter(ProgressWriter):
    """Means since the last point, every `freq` minibatches, and means of each epoch. `rank`: only worker 0 writes."""

    def __init__(self, freq: int | None = None, log_dir: str = ".", rank: int | None = None, model: Any = None) -> None:
        if freq is not None and freq < 0:
            raise ValueError("TensorBoardProgressWriter: freq must be None or at least 0")
        freq = NEVER if freq is None else freq
        super().__init__(*(freq, 0), *(NEVER, 0), *(NEVER, 0))
        self.freq, self.log_dir = freq, log_dir
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

    def on_write_training_update(self, samples: Any, updates: Any, aggregate_loss: Any, aggregate_metric: Any) -> None:
        losses, metrics = (pair[1] - pair[0] for pair in (aggregate_loss, aggregate_metric))
        self._means("minibatch", samples[1] - samples[0], losses, metrics, self.total_training_updates())

    def on_write_training_summary(
        self, samples: int, updates: int, summaries: int, aggregate_loss: float, aggregate_metric: float,
        elapsed_milliseconds: int,
    ) -> None:  # fmt: skip
        self._means("summary", samples, aggregate_loss, aggregate_metric, summaries)

    def on_write_test_summary(
        self, samples: int, updates: int, summaries: int, aggregate_metric: float, elapsed_milliseconds: int
    ) -> None:
        if samples:
            self.write_value("minibatch/test_avg_metric", aggregate_metric / samples, self.total_training_updates())

    def _means(self, kind: str, samples: int, loss: float, metric: float, step: int) -> None:
        for name, total in (("loss", loss), ("metric", metric)):
            if samples:
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
