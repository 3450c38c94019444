"""A run of Weights & Biases, in the project WANDB_PROJECT; with WANDB_MODE=offline only in RUN/tracking/wandb."""

import uuid
from pathlib import Path
from typing import Any

from convolve.atomic import write_text
from convolve.errors import UsageError, install_hint


class WeightsAndBiases:
    def __init__(self) -> None:
        try:
            import wandb
        except ImportError:
            raise UsageError(f"--log wandb needs the package wandb: {install_hint('track')}") from None
        self.wandb: Any = wandb
        self.run: Any = None

    def begin(self, run: Path, folder: Path, parameters: dict[str, Any]) -> None:
        import os

        kept = folder / "run_id"
        if not kept.exists():
            write_text(kept, uuid.uuid4().hex[:8])  # any exception of W&B's own code
        self.run = self.wandb.init(
            project=os.environ.get("WANDB_PROJECT", "convolve"), name=run.name, dir=str(folder), config=parameters,
            id=kept.read_text(encoding="utf-8"), resume="allow", settings=self.wandb.Settings(console="off"),
        )  # fmt: skip
        self.run.define_metric("*", step_metric="epoch")  # an epoch that is trained again after a kill has its place

    def minibatch(self, step: int, figures: dict[str, float]) -> None:
        """Nothing: curves are by epoch, as steps and epochs on one axis would be meaningless."""

    def epoch(self, epoch: int, figures: dict[str, float]) -> None:
        self.run.log(figures)

    def finish(self, report: Path, model: Path, figures: dict[str, float]) -> None:
        self.run.summary.update({f"result.{name}": value for name, value in figures.items()})
        self.run.log({"report": self.wandb.Html(report.read_text(encoding="utf-8"), inject=False)})
        artifact = self.wandb.Artifact(f"{self.run.id}-model", type="model")
        artifact.add_dir(str(model))
        self.run.log_artifact(artifact)

    def close(self, failed: bool) -> None:
        self.run.finish(exit_code=int(failed))
