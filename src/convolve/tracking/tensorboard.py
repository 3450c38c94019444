"""Event files in RUN/tracking/tensorboard, under the tags that CNTK's TensorBoardProgressWriter used."""

from pathlib import Path
from typing import Any

from convolve.errors import UsageError, install_hint


class TensorBoard:
    def __init__(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            hint = install_hint("tensorboard")
            raise UsageError(f"--log tensorboard needs the package tensorboard: {hint}") from None
        self.new_writer = SummaryWriter
        self.writer: Any = None

    def begin(self, run: Path, folder: Path, parameters: dict[str, Any]) -> None:
        self.writer = self.new_writer(str(folder))
        self._table("parameters", parameters)

    def minibatch(self, step: int, figures: dict[str, float]) -> None:
        tags = {"loss": "minibatch/avg_loss", "error": "minibatch/avg_metric", "learning_rate": "learning_rate"}
        self._scalars(step, figures, tags)

    def epoch(self, epoch: int, figures: dict[str, float]) -> None:
        tags = {"train_loss": "summary/avg_loss", "train_error": "summary/avg_metric"}
        for part in ("test", "validation"):
            tags |= {f"{part}_loss": f"summary/{part}_avg_loss", f"{part}_error": f"summary/{part}_avg_metric"}
        self._scalars(epoch, figures, tags)

    def finish(self, report: Path, model: Path, figures: dict[str, float]) -> None:
        self._table("result", figures | {"report": report.name, "model": model.name})

    def close(self, failed: bool) -> None:
        self.writer.close()

    def _scalars(self, step: int, figures: dict[str, float], tags: dict[str, str]) -> None:
        for name, tag in tags.items():
            if name in figures:
                self.writer.add_scalar(tag, figures[name], step)

    def _table(self, tag: str, values: dict[str, Any]) -> None:
        """A Markdown table, which TensorBoard renders."""
        rows = "\n".join(f"| {name} | {value} |" for name, value in values.items())
        self.writer.add_text(tag, f"| | |\n| --- | --- |\n{rows}")
