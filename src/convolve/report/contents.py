"""The content of a run folder, read for the report. What the run has not written yet is None or empty.

N images, K classes, M errors kept as pictures; H row, W column, C channel; O filters, I input channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load

from convolve.atomic import read_whole
from convolve.errors import DataError, ModelError
from convolve.recipe import Recipe
from convolve.records import (
    ONE_CLASS,
    ConfidenceRecord,
    EpochEvent,
    ModelRecord,
    ProgressEvent,
    Result,
    ResumeEvent,
    Start,
    Target,
    TargetKind,
)  # fmt: skip
from convolve.records.reading import read_record
from convolve.training.class_metrics import ClassMetrics, class_metrics
from convolve.training.error_analysis import confused_pairs, largest_misses, most_confident_first
from convolve.training.run_folder import RunFolder

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Evaluation:
    """The last evaluation, and what follows from it."""

    labels_N: npt.NDArray[Any]
    answers_NK: FloatArray
    kept_indices_M: IntArray
    kept_images_MHWC: npt.NDArray[np.uint8]
    class_names: tuple[str, ...]
    target: Target = ONE_CLASS
    distances_N: FloatArray | None = None  # for a model that has learned its confidence
    confidence: ConfidenceRecord | None = None

    def __post_init__(self) -> None:
        images, classes, is_class = len(self.labels_N), self.class_count, self.target.kind == TargetKind.CLASS
        kept, of_each = (len(self.kept_indices_M),), (images, classes)
        shapes = {"labels_N": (images,) if is_class else of_each, "answers_NK": of_each, "kept_indices_M": kept}
        kinds = {"labels_N": "i8" if is_class else "f4", "answers_NK": "f4", "kept_indices_M": "i8"}
        kinds["kept_images_MHWC"] = "u1"
        for name, kind in kinds.items():
            array = getattr(self, name)
            if array.dtype != np.dtype(kind) or array.shape != shapes.get(name, array.shape):
                raise ValueError(f"{name} is {array.dtype} {array.shape}; model.json names {classes} classes")
        distances_N = np.zeros(images, np.float32) if self.distances_N is None else self.distances_N
        if distances_N.shape != (images,) or not (distances_N >= 0).all() or np.isinf(distances_N).any():
            raise ValueError(
                f"distances_N holds {distances_N.shape} numbers, which cannot be the distances of {images} images"
            )
        numbered = [("labels_N", classes)] if is_class else []
        for name, most in (*numbered, ("kept_indices_M", images)):
            if ((values := getattr(self, name)) < 0).any() or (values >= most).any():
                raise ValueError(f"{name} holds numbers that are not between 0 and {most - 1}")
        if self.target.kind == TargetKind.NUMBER:
            if not np.isfinite(self.labels_N).all():
                raise ValueError("labels_N holds values that are not numbers")
        elif not ((self.answers_NK >= 0) & (self.answers_NK <= 1.001)).all():
            raise ValueError("probabilities_NK holds values that are not probabilities")
        count, *size = self.kept_images_MHWC.shape
        if count != len(self.kept_indices_M) or len(size) != 3 or size[2] not in (1, 3) or 0 in size:
            raise ValueError(f"kept_images_MHWC has sizes {count, *size}")

    @property
    def probabilities_NK(self) -> FloatArray:
        """The probabilities, if the target is one class or several."""
        return self.answers_NK

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
        """(true class, predicted class, images) of every confused pair, the most frequent first."""
        return confused_pairs(self.labels_N, self.predicted_N)

    @cached_property
    def pictures(self) -> dict[int, npt.NDArray[np.uint8]]:
        """Index of an image -> its picture (H, W, C), the most confident errors or largest misses first."""
        position = {int(index): k for k, index in enumerate(self.kept_indices_M)}
        surprising = most_confident_first if self.target.kind == TargetKind.CLASS else largest_misses
        indices = surprising(self.labels_N, self.answers_NK).tolist()
        return {index: self.kept_images_MHWC[position[index]] for index in indices if index in position}

    @cached_property
    def classes(self) -> ClassMetrics:
        return class_metrics(self.labels_N, self.predicted_N, self.class_count)


@dataclass(frozen=True)
class Contents:
    folder: str
    recipe: Recipe
    start: Start | None
    started_at: str
    resumes: int
    epochs: list[EpochEvent]
    progress: list[ProgressEvent]
    result: Result | None
    evaluation: Evaluation | None
    filters_OIHW: FloatArray | None

    @property
    def started(self) -> datetime | None:
        return datetime.fromisoformat(self.started_at) if self.started_at else None

    @property
    def epochs_done(self) -> int:
        return self.epochs[-1].epoch if self.epochs else 0

    @property
    def samples_per_epoch(self) -> float:
        if self.epochs:
            return self.epochs[-1].samples_seen / self.epochs_done
        known = self.start.train_samples if self.start else self.progress[-1].samples_seen
        return float(self.recipe.run.epoch_samples or known)

    @property
    def samples_seen(self) -> int:
        seen = [event.samples_seen for event in self.epochs] + [event.samples_seen for event in self.progress]
        return max(seen, default=0)

    @property
    def split(self) -> str:
        """Which images each epoch is evaluated on: "validation" if the training set was split, otherwise "test"."""
        return "validation" if self.epochs and self.epochs[-1].validation_loss is not None else "test"


def read_contents(run: Path) -> Contents:
    """Read the run folder `run`. Raises `UsageError` if it is not one, `DataError` if a file is damaged."""
    folder = RunFolder(run)
    events = folder.metrics() if (run / "metrics.jsonl").exists() else []
    return Contents(
        folder=run.resolve().name,
        recipe=folder.recipe(),
        start=folder.start() if folder.started else None,
        started_at=events[0].time if events else "",
        resumes=sum(isinstance(event, ResumeEvent) for event in events),
        epochs=[event for event in events if isinstance(event, EpochEvent)],
        progress=[event for event in events if isinstance(event, ProgressEvent)],
        result=folder.result() if folder.finished else None,
        evaluation=_evaluation(run),
        filters_OIHW=_first_filters(run / "model" / "weights.safetensors"),
    )


def _evaluation(run: Path) -> Evaluation | None:
    path, head = run / "evaluation.safetensors", run / "model" / "model.json"
    if not path.exists():
        return None
    try:
        tensors = load(read_whole(path, DataError))
        key = "numbers_NK" if "numbers_NK" in tensors else "probabilities_NK"
        answers_NK, target = tensors.pop(key), ONE_CLASS
        confidence = None
        names: Sequence[str] = range(answers_NK.shape[1])  # type: ignore[assignment]
        if head.exists():
            record = read_record(head, ModelRecord, "restore it from a copy, or train again", ModelError)
            names, target, confidence = record.class_names, record.target or ONE_CLASS, record.confidence
        return Evaluation(
            **tensors, answers_NK=answers_NK, class_names=tuple(map(str, names)), target=target, confidence=confidence
        )
    except (SafetensorError, KeyError, TypeError, IndexError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error}); remove it, and the report shows the rest") from None


def _first_filters(path: Path) -> FloatArray | None:
    """The first convolution on the image itself: the first 4-D weight with 1 or 3 input channels."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as weights:
            for name in weights.keys():  # noqa: SIM118  not a dict
                shape = weights.get_slice(name).get_shape()
                if len(shape) == 4 and shape[1] in (1, 3) and 0 not in shape:
                    filters: FloatArray = weights.get_tensor(name)
                    return filters
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged ({error}); train again or restore it from a copy") from None
    return None
