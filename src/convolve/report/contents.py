"""What a run folder holds, read for the report. Whatever the run has not written yet is None or empty.

N images, K classes, M errors that were kept as pictures; H row, W column, C channel; O filters, I input channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from convolve.errors import DataError, ModelError
from convolve.recipe import Recipe, from_mapping
from convolve.training.error_analysis import confused_pairs, most_confident_first
from convolve.training.run_folder import RunFolder

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Evaluation:
    """The last evaluation, and what follows from it."""

    labels_N: IntArray
    probabilities_NK: FloatArray
    kept_indices_M: IntArray
    kept_images_MHWC: npt.NDArray[np.uint8]
    class_names: tuple[str, ...]

    @cached_property
    def predicted_N(self) -> IntArray:
        predicted_N: IntArray = self.probabilities_NK.argmax(axis=1)
        return predicted_N

    @property
    def class_count(self) -> int:
        return len(self.class_names)

    @property
    def errors(self) -> int:
        return int(np.count_nonzero(self.predicted_N != self.labels_N))

    def confusion_KK(self) -> IntArray:
        """How many images of the class in a row were taken for the class in a column."""
        pairs_N = self.labels_N * self.class_count + self.predicted_N
        return np.bincount(pairs_N, minlength=self.class_count**2).reshape(self.class_count, -1)

    @cached_property
    def confused_pairs(self) -> list[tuple[int, int, int]]:
        """(true class, predicted class, images) of every pair confused, the most frequent first."""
        return confused_pairs(self.labels_N, self.predicted_N)

    @cached_property
    def pictures(self) -> dict[int, npt.NDArray[np.uint8]]:
        """Index of an image -> its picture (H, W, C), the most confident errors first."""
        place = {int(index): position for position, index in enumerate(self.kept_indices_M)}
        indices = most_confident_first(self.labels_N, self.probabilities_NK).tolist()
        return {index: self.kept_images_MHWC[place[index]] for index in indices if index in place}

    def class_counts(self) -> tuple[IntArray, IntArray, IntArray]:
        """For each class: images that are of it, images taken for it, images of which both hold."""
        sizes = self.class_count
        hits_N = self.labels_N[self.predicted_N == self.labels_N]
        return (
            np.bincount(self.labels_N, minlength=sizes),
            np.bincount(self.predicted_N, minlength=sizes),
            np.bincount(hits_N, minlength=sizes),
        )


@dataclass(frozen=True)
class Contents:
    folder: str
    recipe: Recipe
    start: dict[str, Any]
    started_at: str
    resumes: int
    epochs: list[dict[str, Any]]
    progress: list[dict[str, Any]]
    result: dict[str, Any] | None
    evaluation: Evaluation | None
    filters_OIHW: FloatArray | None

    @property
    def epochs_done(self) -> int:
        return int(self.epochs[-1]["epoch"]) if self.epochs else 0

    @property
    def samples_per_epoch(self) -> float:
        if self.epochs:
            return float(self.epochs[-1]["samples_seen"] / self.epochs_done)
        return float(
            self.recipe.run.epoch_samples or self.start.get("train_samples") or self.progress[-1]["samples_seen"]
        )

    @property
    def samples_seen(self) -> int:
        return int(max((event["samples_seen"] for event in [*self.epochs, *self.progress]), default=0))

    @property
    def held_out(self) -> str:
        """Which samples judge each epoch: "validation" where the training set was split, else "test"."""
        return "validation" if self.epochs and "validation_error" in self.epochs[-1] else "test"


def read_contents(run: Path) -> Contents:
    """Read the run folder `run`. Raises `UsageError` where it is none, `DataError` where a file is damaged."""
    folder = RunFolder(run)
    events = folder.metrics() if (run / "metrics.jsonl").exists() else []
    return Contents(
        folder=run.resolve().name,
        recipe=from_mapping(folder.read("recipe.json")),
        start=folder.read("start.json") if folder.started else {},
        started_at=next((str(event["time"]) for event in events if "time" in event), ""),
        resumes=sum(event["event"] == "resume" for event in events),
        epochs=[event for event in events if event["event"] == "epoch"],
        progress=[event for event in events if event["event"] == "progress"],
        result=folder.read("result.json") if folder.finished else None,
        evaluation=_evaluation(folder),
        filters_OIHW=_first_filters(run / "model" / "weights.safetensors"),
    )


def _evaluation(folder: RunFolder) -> Evaluation | None:
    path = folder.path / "evaluation.safetensors"
    if not path.exists():
        return None
    try:
        tensors = load_file(path)
    except (SafetensorError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error}); remove it and the report shows the rest") from None
    class_count = tensors["probabilities_NK"].shape[1]
    has_model = (folder.path / "model" / "model.json").exists()
    names = folder.read("model/model.json")["class_names"] if has_model else map(str, range(class_count))
    evaluation = Evaluation(**tensors, class_names=tuple(map(str, names)))
    if evaluation.class_count != class_count:
        raise DataError(f"{path} has {class_count} classes, model/model.json names {evaluation.class_count}")
    return evaluation


def _first_filters(path: Path) -> FloatArray | None:
    """The first convolution that sees the image itself: the first 4-D weight with 1 or 3 input channels."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="numpy") as weights:
            for name in weights.keys():  # noqa: SIM118  not a dict
                shape = weights.get_slice(name).get_shape()
                if len(shape) == 4 and shape[1] in (1, 3):
                    filters: FloatArray = weights.get_tensor(name)
                    return filters
    except SafetensorError as error:
        raise ModelError(f"{path} is damaged ({error}); train again or restore it from a copy") from None
    return None
