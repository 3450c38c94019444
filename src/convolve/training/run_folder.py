"""The run folder: everything about one training, in files that a person can open.

recipe.json             the resolved recipe; `convolve train RUN/recipe.json` accepts it back
start.json              decided at the start: precision, threads, device, data and its fingerprint; versions, hardware
metrics.jsonl           one line an event: "start", "progress", "epoch", "resume", "end"
checkpoints/            see checkpoint.py
from/                   the imported network that the training started from, if there is one, in the form of model/
model/                  the Model artefact
evaluation.safetensors  the last evaluation: labels_N, probabilities_NK; of M mistakes kept_indices_M, kept_images_MHWC
result.json             the final figures; its presence says that the run is finished
report.html
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from convolve.atomic import cannot_write, half_written, locked, sweep, write_json
from convolve.errors import DataError, UsageError

# What a run writes. Starting over replaces the first two and removes the rest, and nothing else.
_FILES = ("recipe.json", "start.json", "metrics.jsonl", "evaluation.safetensors", "result.json", "report.html")
_FOLDERS = ("checkpoints", "from", "model", "tensorboard")


@dataclass(frozen=True)
class RunFolder:
    """`restart`: what an earlier run left there gives way as soon as the new one begins."""

    path: Path
    restart: bool = False

    @classmethod
    @contextmanager
    def claim(cls, path: Path, restart: bool) -> Iterator[RunFolder]:
        """The folder for a run that is to start or to go on there; other processes are kept out of it meanwhile.

        A finished run and strangers' files are refused. Nothing of an earlier run is removed yet: whatever else is
        wrong with the command is found first.
        """
        folder = cls(path, restart)
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is a file; --out names a folder")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(path, error) from error
        try:
            with locked(path, wait=False):
                folder._refuse_strangers()
                for place in (path, path / "checkpoints", path / "from", path / "model"):
                    sweep(place)
                yield folder
        finally:
            with suppress(OSError):  # not empty: the run has begun
                path.rmdir()

    def _refuse_strangers(self) -> None:
        if self.finished and not self.restart:
            raise UsageError(f"{self.path} holds a finished run; choose another --out, or train it anew with --restart")
        if not self.started:  # a run that was killed as it began may have left these
            strangers = set(self.path.iterdir()) - {self.path / "recipe.json", *half_written(self.path)}
            if strangers:
                raise UsageError(f"{self.path} holds other files and no run; choose another --out")

    def clear(self) -> None:
        """Remove what an earlier run left."""
        try:
            for name in _FOLDERS:
                if (self.path / name).exists():
                    shutil.rmtree(self.path / name)
            for name in _FILES[2:]:
                (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(self.path, error) from error

    @property
    def finished(self) -> bool:
        return (self.path / "result.json").exists()

    @property
    def started(self) -> bool:
        return (self.path / "start.json").exists()

    @property
    def resumes(self) -> bool:
        """Whether an unfinished run is there and is to go on."""
        return self.started and not self.restart

    def write(self, name: str, value: Any) -> None:
        """Write `name` (such as "result.json") atomically."""
        write_json(self.path / name, value)

    def read(self, name: str) -> Any:
        """Read a JSON file of the run."""
        path = self.path / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UsageError(
                f"{self.path} is not a run folder, or the run never got that far: {name} is missing"
            ) from None
        except ValueError as error:
            raise DataError(f"{path} is damaged ({error}); start the run over with --restart") from None

    def log(self, event: str, **values: Any) -> None:
        """Append one event to metrics.jsonl."""
        path = self.path / "metrics.jsonl"
        try:
            with path.open("a", encoding="utf-8") as file:
                now = datetime.now(UTC).isoformat(timespec="seconds")
                file.write(json.dumps({"event": event, "time": now, **values}) + "\n")
        except OSError as error:
            raise cannot_write(path, error) from error

    def metrics(self) -> list[dict[str, Any]]:
        """All events of metrics.jsonl, in order."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            raise UsageError(f"{self.path} is not a run folder: metrics.jsonl is missing")
        *lines, _torn = path.read_text(encoding="utf-8").split("\n")  # a killed run may leave its last line unfinished
        try:
            return [json.loads(line) for line in lines]
        except ValueError as error:
            raise DataError(f"{path} is damaged ({error}); start the run over with --restart") from None

    def metrics_bytes(self) -> int:
        """The length of metrics.jsonl, kept in each checkpoint so that a resumed run rewrites no event twice."""
        path = self.path / "metrics.jsonl"
        return path.stat().st_size if path.exists() else 0

    def cut_metrics(self, length_bytes: int) -> None:
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return
        try:
            os.truncate(path, min(length_bytes, path.stat().st_size))  # after a power cut it may be the shorter one
        except OSError as error:
            raise cannot_write(path, error) from error
