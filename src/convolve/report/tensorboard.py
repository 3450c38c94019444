"""Event files for TensorBoard (the extra `tensorboard`), under the tags that CNTK's TensorBoardProgressWriter used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convolve.errors import UsageError, install_hint


class TensorBoard:
    """A callback for the events of a run."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            hint = install_hint("tensorboard")
            raise UsageError(f"--tensorboard needs the package tensorboard: {hint}") from None
        self.folder = folder
        self.new_writer = SummaryWriter
        self.writer: Any = None

    def __call__(self, event: str, values: dict[str, Any]) -> None:
        if event == "progress":
            minibatch = {"minibatch/avg_loss": values["loss"], "minibatch/avg_metric": values.get("error")}
            self._scalars(values["step"], minibatch | {"learning_rate": values["learning_rate"]})
        elif event == "epoch":
            split = "test" if "test_loss" in values else "validation"
            scalars = {
                "summary/avg_loss": values["train_loss"],
                "summary/avg_metric": values.get("train_error"),
                f"summary/{split}_avg_loss": values[f"{split}_loss"],
                f"summary/{split}_avg_metric": values.get(f"{split}_error"),
            }
            self._scalars(values["epoch"], scalars)

    def _scalars(self, step: int, scalars: dict[str, float | None]) -> None:
        if self.writer is None:  # only once the run folder is ours
            self.writer = self.new_writer(str(self.folder))
        for tag, value in scalars.items():
            if value is not None:  # as an error is where the target is no class
                self.writer.add_scalar(tag, value, step)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
