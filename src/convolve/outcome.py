"""What a training writes to its run folder: the model with its figures, the last evaluation, the result."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load as load_tensors
from safetensors.torch import save
from torch.nn import functional as F

from convolve.atomic import read_whole, replacing
from convolve.confidence import learn_confidence
from convolve.data.build import DataModule
from convolve.data.dataset import Dataset
from convolve.data.sources.classes import in_words
from convolve.errors import DataError
from convolve.fitted_head import FittedHead
from convolve.loading import load
from convolve.model import Model
from convolve.notebook import curves, image
from convolve.records import ClassResult, EndEvent, Result, Target, TargetKind, TrainingInfo
from convolve.records.reading import to_json
from convolve.training.calibration import reliability, wilson_interval
from convolve.training.confidence import Confidence
from convolve.training.error_analysis import MOST_CONFIDENT, largest_misses, worth_a_picture
from convolve.training.evaluate import Evaluation
from convolve.training.metrics import THRESHOLD, best_thresholds
from convolve.training.run_folder import RunFolder
from convolve.training.trainer import Trainer
from convolve.training.workers import Workers

_MISTAKES = 12  # pictures that a notebook shows
MAX_PICTURE_SIZE = 96  # pixels; larger images are stored smaller for the report
_RESULT_FROM_START = (
    "parameters", "precision", "device", "threads", "data_name", "data_note", "data_fingerprint", "versions",
    "hardware",
)  # fmt: skip


class Training(NamedTuple):
    """All parts of a run. `model` is the artifact around the network that is evaluated and shipped; `fitted` is the
    head it started from, if its body was trained already."""

    trainer: Trainer
    model: Model
    data: DataModule
    fitted: FittedHead | None = None


@dataclass(frozen=True)
class Run:
    """A finished training: `folder.path` holds everything, `result` the figures of result.json, `model` the network.

    `rank`: this process's number among several workers; the first one prints and writes.
    """

    folder: RunFolder
    rank: int = 0

    @property
    def result(self) -> dict[str, Any]:
        result: dict[str, Any] = to_json(self.folder.result())
        return result

    @cached_property
    def model(self) -> Model:
        return load(self.folder.path)

    def _repr_html_(self) -> str:
        """The figures, the error after each epoch, and the most confident errors as pictures."""
        epochs = self.folder.epochs()
        judged = [epoch.test_error if epoch.validation_error is None else epoch.validation_error for epoch in epochs]
        drawn = curves("error", {"train": [epoch.train_error for epoch in epochs], "test": judged})
        report = f"<div>{escape(str(self.folder.path / 'report.html'))}</div>"
        return self.folder.result()._repr_html_() + drawn + "".join(self._mistakes()) + report

    def _mistakes(self) -> Iterator[str]:
        tensors = load_tensors(read_whole(self.folder.path / "evaluation.safetensors", DataError))
        if "probabilities_NK" not in tensors or self.model.target.kind != TargetKind.CLASS:
            return
        names, kept_M = self.model.class_names, tensors["kept_indices_M"]
        said_M, sure_M = tensors["probabilities_NK"][kept_M].argmax(1), tensors["probabilities_NK"][kept_M].max(1)
        for m in (-sure_M).argsort()[:_MISTAKES]:
            truth = names[tensors["labels_N"][kept_M[m]]]
            words = f"{truth}, taken for {names[said_M[m]]} ({sure_M[m]:.0%})"
            yield image(tensors["kept_images_MHWC"][m], words, 80)


def write_outcome(training: Training, began: float) -> None:
    """Evaluate the model, write everything, and mark the run as finished; it `began` at that `time.perf_counter`."""
    trainer, model, test = training.trainer, training.model, training.data.test
    workers = trainer.workers
    model.target = _with_thresholds(training)
    if trainer.recipe.confidence and not model.target.objective:
        model.confidence = learn_confidence(model, training.data, trainer.recipe, training.fitted, workers)
        _tell_of_few(model.confidence, trainer)
    evaluation = _judged(training)
    left_out = _everywhere(workers, test.unreadable.numbers if test.unreadable else set())
    damaged = _everywhere(workers, training.data.damaged.numbers if training.data.damaged else set())
    if workers.rank:
        return
    path = trainer.folder.path
    model.training_info = replace(_training_info(trainer, model, evaluation), folds=_folds(training))
    model.save(path / "model")
    kept_M = _worth_a_picture(evaluation)
    tensors = {
        "labels_N": evaluation.labels_N,
        evaluation.answers_name: evaluation.answers_NK,
        "kept_indices_M": torch.from_numpy(kept_M),
        "kept_images_MHWC": _test_pictures(model, test, np.setdiff1d(np.arange(len(test)), left_out)[kept_M]),
    }
    if evaluation.distances_N is not None:
        tensors["distances_N"] = evaluation.distances_N.contiguous()
    with replacing(path / "evaluation.safetensors") as temporary:
        temporary.write_bytes(save(tensors))
    trainer.folder.log(EndEvent(test_error=evaluation.figures.get("error")))
    trainer.folder.finish(_result(training, evaluation, time.perf_counter() - began, len(damaged)))


def _tell_of_few(known: Confidence, trainer: Trainer) -> None:
    """Warn about limits for which there are too few held-out images: then no image is rejected, or none gets a set."""
    for name in ("accept", "coverage"):
        part = getattr(known.record, name)
        if part is not None and (too_few := known.too_few_for(part)):
            trainer.callback("note", {"message": f"confidence.{name} is without effect: {too_few}"})


def _judged(training: Training) -> Evaluation:
    """The model's predictions for the test images, or those of cross-validation."""
    test, known = training.data.test, training.data.out_of_fold
    if known is None or not known.is_test:
        return training.model.evaluate(test, workers=training.trainer.workers)
    labels_N = test.source.labels_N
    training.trainer.callback("note", {"message": "its error is estimated by cross-validation"})
    loss = -float(known.answers_NK[torch.arange(len(labels_N)), labels_N].double().clamp_min(1e-30).log().mean())
    beside_NB = torch.empty(0) if known.distances_N is None else known.distances_N[:, None]
    return Evaluation(labels_N, known.answers_NK, loss, beside_NB=beside_NB)


def _folds(training: Training) -> int | None:
    known = training.data.out_of_fold
    return known.folds if known and known.is_test else None


def _with_thresholds(training: Training) -> Target:
    """The target; for several classes, with the thresholds that are best for the out-of-fold predictions of a fitted
    head that was not trained further, or for the validation part."""
    model, data, fitted = training.model, training.data, training.fitted
    if model.target.kind != TargetKind.CLASSES:
        return model.target
    if fitted and not training.trainer.recipe.run.epochs:
        found = Evaluation(fitted.labels.float(), fitted.probe.out_of_fold_NK.exp(), 0.0, model.target)
    elif data.validation_name == "validation":
        found = model.evaluate(data.validation, workers=training.trainer.workers)
    else:
        return model.target
    is_NK = found.labels_N > 0.5
    open_K = (is_NK.all(0) | ~is_NK.any(0)).tolist()
    if any(open_K):
        names = in_words([name for name, is_open in zip(model.class_names, open_K, strict=True) if is_open])
        what = f"no held-out image has {names}, so their threshold is the probability {THRESHOLD}"
        training.trainer.callback("note", {"message": what})
    return replace(model.target, thresholds=best_thresholds(found.labels_N.numpy(), found.answers_NK.numpy()))


def _everywhere(workers: Workers, numbers: set[int]) -> list[int]:
    """The image numbers that any of the workers knows."""
    return sorted({*workers.gather(torch.tensor(sorted(numbers), dtype=torch.int64)).tolist()})


def _unreadable(trainer: Trainer, evaluation: Evaluation) -> int:
    """How many test images were skipped in the evaluation."""
    return trainer.session.start.test_samples - len(evaluation.labels_N)


def _training_info(trainer: Trainer, model: Model, evaluation: Evaluation) -> TrainingInfo:
    run, at, best, start = trainer.recipe.run, trainer.position, trainer.extras.best, trainer.session.start
    return TrainingInfo(
        recipe=trainer.recipe.name,
        started_from=Path(start.from_model).name if start.from_model else None,
        epochs=at.epoch,
        epoch_kept=best.epoch if best else at.epoch,
        weights_averaged=run.ema_epochs > 0,
        train_images=start.train_samples,
        seed=run.seed,
        precision=start.precision,
        test_images=len(evaluation.labels_N),
        test_unreadable=_unreadable(trainer, evaluation) or None,
        test_loss=evaluation.loss,
        **{f"test_{name}": value for name, value in evaluation.figures.items()},
        calibration_error=_calibration_error(evaluation),
        data_fingerprint=start.data_fingerprint,
        data_note=start.data_note or None,
        data_group=(model.membership.group or None) if model.membership else None,
        convolve=start.versions["convolve"],
    )


def _worth_a_picture(evaluation: Evaluation) -> NDArray[np.int64]:
    labels_N, answers_NK = evaluation.labels_N.numpy(), evaluation.answers_NK.numpy()
    if evaluation.target.kind == TargetKind.CLASS:
        return worth_a_picture(labels_N, answers_NK)
    return largest_misses(labels_N, answers_NK)[:MOST_CONFIDENT]


def _calibration_error(evaluation: Evaluation) -> float | None:
    if evaluation.target.kind != TargetKind.CLASS:
        return None
    return reliability(evaluation.labels_N.numpy(), evaluation.probabilities_NK.numpy()).expected_error


def _interval(evaluation: Evaluation) -> tuple[float, ...]:
    error = evaluation.figures.get("error")
    return () if error is None else wilson_interval(error, len(evaluation.labels_N))


def _test_pictures(model: Model, test: Dataset, index_M: NDArray[np.int64]) -> torch.Tensor:
    """images_MHWC, uint8, none larger than `MAX_PICTURE_SIZE`; numbers that are not pixels are scaled from black, the
    smallest of all shown, to white."""
    channels, *size = model.preprocess.shape_CHW
    shrink = min(1.0, MAX_PICTURE_SIZE / max(size))
    small = [max(1, round(side * shrink)) for side in size]
    pictures, are_pixels = [torch.zeros(0, channels, *small)], True
    for images_NCHW, _ in test.batches(index_M, model.batch_size):
        are_pixels &= not images_NCHW.is_floating_point()
        pictures.append(F.interpolate(images_NCHW.float(), small, mode="area") if shrink < 1 else images_NCHW.float())
    found_MCHW = torch.cat(pictures)
    if not are_pixels and found_MCHW.numel():
        found_MCHW = (found_MCHW - found_MCHW.min()) * (255 / (found_MCHW.max() - found_MCHW.min()).clamp_min(1e-30))
    return found_MCHW.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _class_results(evaluation: Evaluation, class_names: tuple[str, ...]) -> tuple[ClassResult, ...]:
    if evaluation.target.kind == TargetKind.NUMBER:
        return ()
    found = evaluation.classes
    rows = enumerate(zip(class_names, found.images_K.tolist(), strict=True))
    return tuple(ClassResult(name=name, images=images, **found.rates(k)) for k, (name, images) in rows)


def _result(training: Training, evaluation: Evaluation, total_seconds: float, train_damaged: int) -> Result:
    trainer = training.trainer
    at, best, sync, start = trainer.position, trainer.extras.best, trainer.gradient_sync, trainer.session.start
    figures: dict[str, Any] = {"error": None, "error_top5": None} | evaluation.figures
    return Result(
        recipe=trainer.recipe.name,
        **{f"test_{name}": value for name, value in figures.items()},
        classes=_class_results(evaluation, training.model.class_names),
        test_loss=evaluation.loss,
        epochs=at.epoch,
        model_epoch=best.epoch if best else None,
        samples_seen=at.samples_seen,
        train_seconds=at.train_seconds,
        total_seconds=total_seconds,
        images_per_second=at.samples_seen / (at.train_seconds or 1),  # not 0 images in 0 seconds: 0 epochs
        data_wait_fraction=at.wait_seconds / (at.train_seconds or 1),
        world_size=trainer.workers.size,
        bytes_sent=sync.bytes_sent if sync else 0,
        seed=trainer.recipe.run.seed,
        test_error_interval=_interval(evaluation),
        test_unreadable=_unreadable(trainer, evaluation),
        folds=_folds(training),
        train_damaged=train_damaged,
        **{name: getattr(start, name) for name in _RESULT_FROM_START},
    )
