"""A run of MLflow, on the server or store that MLFLOW_TRACKING_URI names, in the experiment MLFLOW_EXPERIMENT_NAME.

Only its client is used, which keeps no state in the process: a program that uses MLflow itself is not disturbed.
"""

import os
from pathlib import Path
from typing import Any

from convolve.atomic import write_text
from convolve.errors import UsageError, install_hint

_MOST_PARAMETERS = 100  # values in one request; see MLflow's REST API, "Request Limits"


class MLflow:
    def __init__(self) -> None:
        # MLflow's default, 7, waits for minutes before it reports an unreachable server.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        try:
            from mlflow import MlflowClient
        except ImportError:
            raise UsageError(f"--log mlflow needs the package mlflow: {install_hint('track')}") from None
        self.new_client = MlflowClient
        self.client: Any = None
        self.run_id = ""

    def begin(self, run: Path, folder: Path, parameters: dict[str, Any]) -> None:
        from mlflow.entities import Param

        self.client, kept = self.new_client(), folder / "run_id"
        if kept.exists():
            self.run_id = kept.read_text(encoding="utf-8")
            self.client.update_run(self.run_id, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "convolve")
        experiment = self.client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else self.client.create_experiment(name)
        self.run_id = self.client.create_run(number, run_name=run.name).info.run_id
        write_text(kept, self.run_id)
        rows = [Param(path, str(value)) for path, value in parameters.items()]
        for first in range(0, len(rows), _MOST_PARAMETERS):
            self.client.log_batch(self.run_id, params=rows[first : first + _MOST_PARAMETERS])

    def minibatch(self, step: int, figures: dict[str, float]) -> None:
        """Nothing: a request for each minibatch would slow down the training."""

    def epoch(self, epoch: int, figures: dict[str, float]) -> None:
        self._metrics(epoch, figures)

    def finish(self, report: Path, model: Path, figures: dict[str, float]) -> None:
        self._metrics(int(figures["epochs"]), {f"result.{name}": value for name, value in figures.items()})
        self.client.log_artifact(self.run_id, str(report))
        self.client.log_artifacts(self.run_id, str(model), "model")

    def close(self, failed: bool) -> None:
        self.client.set_terminated(self.run_id, "FAILED" if failed else "FINISHED")

    def _metrics(self, step: int, figures: dict[str, float]) -> None:
        import time

        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        self.client.log_batch(self.run_id, [Metric(name, value, now_ms, step) for name, value in figures.items()])
