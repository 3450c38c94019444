"""At the end of a training: what its model learns of its own certainty; see `training/confidence.py`."""

from __future__ import annotations

import numpy as np
import torch

from convolve.data.build import DataModule
from convolve.data.damaged import skipping
from convolve.data.dataset import Dataset
from convolve.model import Model
from convolve.records import TargetKind
from convolve.specs.confidence import ConfidenceSpec
from convolve.training.confidence import Confidence, fit_confidence
from convolve.training.evaluate import Evaluation, evaluate
from convolve.training.outliers import fit_outliers
from convolve.training.workers import Workers

MOST_IMAGES = 10_000  # of the training part, spread over it: more hardly move a mean and a covariance


def learn_confidence(model: Model, data: DataModule, spec: ConfidenceSpec, workers: Workers) -> Confidence:
    """From the validation part; the distances are from images of the training part."""
    numbers_N = np.arange(len(data.train))[:: -(-len(data.train) // MOST_IMAGES)]
    readable = skipping(True, lambda message: None)
    trained = _with_features(model, model.dataset(data.train.take(numbers_N), unreadable=readable), workers)
    held_out = _with_features(model, data.validation, workers)
    is_class = model.target.kind == TargetKind.CLASS
    classes_N = trained.labels_N if is_class else torch.zeros(len(trained.labels_N), dtype=torch.int64)
    detector = fit_outliers(trained.beside_NB, classes_N)
    found = fit_confidence(
        detector, held_out.answers_NK, held_out.labels_N, detector(held_out.beside_NB), learned_from="validation"
    )
    return found.asked(spec.accept, spec.coverage if is_class else None)


def _with_features(model: Model, dataset: Dataset, workers: Workers) -> Evaluation:
    """The features stand beside the answers."""
    device = next(model.module.parameters()).device
    return evaluate(
        model.with_features(), model.batches(dataset, workers=workers), device, workers=workers, target=model.target
    )
