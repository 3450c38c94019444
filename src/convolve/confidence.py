"""At the end of a training: what its model learns about its own confidence; see `training/confidence.py`."""

import numpy as np
import torch

from convolve.data.build import DataModule
from convolve.data.damaged import skipping
from convolve.data.dataset import Dataset
from convolve.fitted_head import FittedHead
from convolve.model import Model
from convolve.recipe import Recipe
from convolve.records import Target, TargetKind
from convolve.training.confidence import Confidence, fit_confidence
from convolve.training.criteria import in_units
from convolve.training.evaluate import Evaluation, evaluate
from convolve.training.outliers import OutlierDetector, fit_outliers
from convolve.training.workers import Workers

# Images of the training part, evenly spread; more hardly change a mean and a covariance (docs/experiments.md).
_OF_EACH_CLASS, LEAST_IMAGES, MOST_IMAGES = 100, 1_000, 10_000


def learn_confidence(
    model: Model, data: DataModule, recipe: Recipe, fitted: FittedHead | None, workers: Workers
) -> Confidence:
    """Learn what `recipe.confidence` asks for: from the out-of-fold predictions of a `fitted` head that was not trained
    further, otherwise from those of --folds, otherwise from the validation part."""
    asked, known = recipe.confidence, data.out_of_fold
    assert asked  # the caller has checked this
    if fitted and not recipe.run.epochs:
        found = _from_fitted(fitted, model.target)
    elif known and known.raw_NK is not None and known.distances_N is not None:
        detector, said = _detector(model, data, workers), (known.raw_NK, known.labels_N, known.distances_N)
        found = fit_confidence(detector, *said, learned_from="cross-validation")
    else:
        found = _from_validation(model, data, workers)
    return found.asked(asked.accept, asked.coverage)


def _from_fitted(fitted: FittedHead, target: Target) -> Confidence:
    features_ND, labels_N, probe = fitted.features_ND, _clusters(fitted.labels), fitted.probe
    distances_N, fold_N = torch.zeros(len(labels_N)), torch.from_numpy(probe.fold_N)
    for fold in range(int(fold_N.max()) + 1):
        is_out_N = fold_N == fold
        distances_N[is_out_N] = fit_outliers(features_ND[~is_out_N], labels_N[~is_out_N])(features_ND[is_out_N])
    detector, said_NK = fit_outliers(features_ND, labels_N), probe.out_of_fold_NK
    answers_NK = in_units(said_NK, target) if target.kind == TargetKind.NUMBER else said_NK.exp()
    return fit_confidence(
        detector, answers_NK, fitted.labels, distances_N, learned_from="cross-validation", kind=target.kind
    )


def _clusters(labels: torch.Tensor) -> torch.Tensor:
    """The class of each image; if images have several classes, or numbers, one cluster for all."""
    return labels if labels.ndim == 1 else torch.zeros(len(labels), dtype=torch.int64)


def _from_validation(model: Model, data: DataModule, workers: Workers) -> Confidence:
    detector, held_out = _detector(model, data, workers), _with_features(model, data.validation, workers)
    distances_N = detector(held_out.beside_NB)
    return fit_confidence(
        detector, held_out.answers_NK, held_out.labels_N, distances_N, learned_from="validation",
        kind=model.target.kind,
    )  # fmt: skip


def _detector(model: Model, data: DataModule, workers: Workers) -> OutlierDetector:
    """A detector that measures how far an image is from the training images."""
    most = min(max(LEAST_IMAGES, _OF_EACH_CLASS * len(model.class_names)), MOST_IMAGES)
    numbers_N = np.arange(len(data.train))[:: -(-len(data.train) // most)]
    readable = skipping(True, lambda message: None)
    trained = _with_features(model, model.dataset(data.train.take(numbers_N), unreadable=readable), workers)
    return fit_outliers(trained.beside_NB, _clusters(trained.labels_N))


def _with_features(model: Model, dataset: Dataset, workers: Workers) -> Evaluation:
    """Features are computed together with the answers."""
    device = next(model.module.parameters()).device
    return evaluate(
        model.with_features(), model.batches(dataset, workers=workers), device, workers=workers, target=model.target
    )
