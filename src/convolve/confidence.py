"""At the end of a training: what its model learns of its own certainty; see `training/confidence.py`."""

from __future__ import annotations

import numpy as np
import torch

from convolve.data.build import DataModule
from convolve.data.damaged import skipping
from convolve.data.dataset import Dataset
from convolve.fitted_head import FittedHead
from convolve.model import Model
from convolve.recipe import Recipe
from convolve.records import TargetKind
from convolve.training.confidence import Confidence, fit_confidence
from convolve.training.evaluate import Evaluation, evaluate
from convolve.training.outliers import fit_outliers
from convolve.training.workers import Workers

MOST_IMAGES = 10_000  # of the training part, spread over it: more hardly move a mean and a covariance


def learn_confidence(
    model: Model, data: DataModule, recipe: Recipe, fitted: FittedHead | None, workers: Workers
) -> Confidence:
    """What `recipe.confidence` asks for, of a model that answers with one class: from the out-of-fold answers of a
    `fitted` head that was not trained on, else from the validation part."""
    asked = recipe.confidence
    assert asked and model.target.kind == TargetKind.CLASS  # the caller has looked
    found = _from_folds(fitted) if fitted and not recipe.run.epochs else _from_validation(model, data, workers)
    return found.asked(asked.accept, asked.coverage)


def _from_folds(fitted: FittedHead) -> Confidence:
    features_ND, labels_N, probe = fitted.features_ND, fitted.labels, fitted.probe
    distances_N, fold_N = torch.zeros(len(labels_N)), torch.from_numpy(probe.fold_N)
    for fold in range(int(fold_N.max()) + 1):
        is_out_N = fold_N == fold
        distances_N[is_out_N] = fit_outliers(features_ND[~is_out_N], labels_N[~is_out_N])(features_ND[is_out_N])
    detector = fit_outliers(features_ND, labels_N)
    return fit_confidence(detector, probe.out_of_fold_NK.exp(), labels_N, distances_N, learned_from="cross-validation")


def _from_validation(model: Model, data: DataModule, workers: Workers) -> Confidence:
    """The distances are from images of the training part."""
    numbers_N = np.arange(len(data.train))[:: -(-len(data.train) // MOST_IMAGES)]
    readable = skipping(True, lambda message: None)
    trained = _with_features(model, model.dataset(data.train.take(numbers_N), unreadable=readable), workers)
    held_out = _with_features(model, data.validation, workers)
    detector = fit_outliers(trained.beside_NB, trained.labels_N)
    distances_N = detector(held_out.beside_NB)
    return fit_confidence(detector, held_out.answers_NK, held_out.labels_N, distances_N, learned_from="validation")


def _with_features(model: Model, dataset: Dataset, workers: Workers) -> Evaluation:
    """The features stand beside the answers."""
    device = next(model.module.parameters()).device
    return evaluate(
        model.with_features(), model.batches(dataset, workers=workers), device, workers=workers, target=model.target
    )
