"""The metrics of an evaluation, by their names in result.json after `test_`: one row for each target other than one
class.

N images, K classes or numbers. None is a mean of means: each metric is over all images.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convolve.records import Target, TargetKind
from convolve.training.class_metrics import ClassMetrics

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
THRESHOLD = 0.5  # for a class without images to choose it by

# The names of the metrics, and whether they are fractions.
NAMES = {
    "error": ("error", True), "error_top5": ("top-5 error", True),
    "mean_average_precision": ("mean average precision", True), "precision": ("precision", True),
    "recall": ("recall", True), "f1": ("F1", True), "macro_f1": ("macro F1", True),
    "exact_match": ("exactly right", True), "r2": ("R2", False), "mean_absolute_error": ("mean absolute error", False),
    "root_mean_squared_error": ("root mean squared error", False),
}  # fmt: skip


def in_words(figures: Mapping[str, Any], part: str) -> list[str]:
    """The metrics of the `part` that a record has, as text."""
    return [" ".join(pair) for pair in named_figures(figures, part)]


def named_figures(figures: Mapping[str, Any], part: str) -> list[tuple[str, str]]:
    """(name, value) of the metrics of the `part` ("test", "validation") that a record has."""
    known = [(*said, figures.get(f"{part}_{name}")) for name, said in NAMES.items()]
    return [(name, f"{v:.2%}" if is_part else f"{v:.4g}") for name, is_part, v in known if v is not None]


def thresholds_of(target: Target, classes: int) -> tuple[float, ...]:
    return target.thresholds or (THRESHOLD,) * classes


def class_counts(labels_NK: Floats32, probabilities_NK: Floats32, target: Target) -> ClassMetrics:
    """The counts of each class, if images can have several."""
    is_NK, said_NK = labels_NK > 0.5, _said(probabilities_NK, target)
    return ClassMetrics(is_NK.sum(0), said_NK.sum(0), (is_NK & said_NK).sum(0))


def _said(probabilities_NK: Floats32, target: Target) -> NDArray[np.bool_]:
    """The classes that each image is predicted to have."""
    return probabilities_NK >= np.array(thresholds_of(target, probabilities_NK.shape[1]), np.float32)


def class_table(labels_NK: Floats32, probabilities_NK: Floats32, target: Target) -> list[dict[str, Any]]:
    """The metrics of each class, if images can have several; None where no image determines one."""
    found = class_counts(labels_NK, probabilities_NK, target)
    precisions_K = average_precisions(labels_NK, probabilities_NK).tolist()
    return [
        {
            "samples": int(found.images_K[k]),
            "average_precision": None if np.isnan(precision) else precision,
            "threshold": threshold,
            **found.rates(k),
        }
        for k, (precision, threshold) in enumerate(
            zip(precisions_K, thresholds_of(target, len(precisions_K)), strict=True)
        )
    ]


def average_precisions(labels_NK: Floats32, probabilities_NK: Floats32) -> Floats:
    """The average precision of each class; NaN for a class without images."""
    columns = zip(labels_NK.T > 0.5, probabilities_NK.T, strict=True)
    return np.array([average_precision(is_N, p_N) for is_N, p_N in columns])


def average_precision(is_N: NDArray[np.bool_], score_N: NDArray[np.float32]) -> float:
    """The mean precision, weighted by the increase in recall; images with equal scores count together.

    The same as scikit-learn's `average_precision_score`, without interpolation.
    """
    if not is_N.any():
        return float("nan")
    hits_M, said_M, _ = _by_score(is_N, score_N)
    recall_M = hits_M / is_N.sum()
    return float(np.sum(np.diff(recall_M, prepend=0.0) * hits_M / said_M))


def best_thresholds(labels_NK: Floats32, probabilities_NK: Floats32) -> tuple[float, ...]:
    """For each class, the probability threshold with the largest F1 on images that were not trained on, halfway to the
    next lower probability; `THRESHOLD` for a class that none or all of them have."""
    columns = zip(labels_NK.T > 0.5, probabilities_NK.T, strict=True)
    return tuple(_best_threshold(is_N, p_N) for is_N, p_N in columns)


def _best_threshold(is_N: NDArray[np.bool_], probability_N: NDArray[np.float32]) -> float:
    if not is_N.any() or is_N.all():
        return THRESHOLD
    hits_M, said_M, probability_M = _by_score(is_N, probability_N)
    best = int(np.argmax(2 * hits_M / (said_M + is_N.sum())))
    below = probability_M[best + 1] if best + 1 < len(probability_M) else 0.0
    return float((float(probability_M[best]) + float(below)) / 2)


def _by_score(is_N: NDArray[np.bool_], score_N: NDArray[np.float32]) -> tuple[Floats, Floats, NDArray[np.float32]]:
    """(hits, predicted images, score) for each of the M different scores as threshold, the highest first."""
    order_N = np.argsort(-score_N, kind="stable")
    last_M = np.flatnonzero(np.diff(score_N[order_N], append=np.nan))
    hits_M = np.cumsum(is_N[order_N])[last_M].astype(np.float64)
    return hits_M, (last_M + 1).astype(np.float64), score_N[order_N][last_M]


def _of_classes(labels_NK: Floats32, probabilities_NK: Floats32, target: Target) -> dict[str, Any]:
    """Precision, recall and F1 are over all predictions (micro); macro is the mean over the classes."""
    found = class_counts(labels_NK, probabilities_NK, target)
    precisions_K = average_precisions(labels_NK, probabilities_NK)
    is_right_N = (_said(probabilities_NK, target) == (labels_NK > 0.5)).all(1)
    hits, said, images = (int(each.sum()) for each in (found.hits_K, found.said_K, found.images_K))
    known_K = precisions_K[~np.isnan(precisions_K)]
    return {
        "mean_average_precision": float(known_K.mean()) if known_K.size else 0.0,
        "precision": hits / max(said, 1), "recall": hits / max(images, 1), "f1": 2 * hits / max(said + images, 1),
        **{name: value for name, value in found.macro.items() if name.startswith("macro")},
        "exact_match": float(is_right_N.mean()),
    }  # fmt: skip


def number_table(labels_NK: Floats32, numbers_NK: Floats32) -> list[dict[str, float | None]]:
    """The metrics of each number. R2 is over the test images, None if all their labels are equal."""
    y_NK = labels_NK.astype(np.float64)
    error_NK = numbers_NK.astype(np.float64) - y_NK
    total_K, left_K = ((y_NK - y_NK.mean(0)) ** 2).sum(0), (error_NK**2).sum(0)
    return [
        {
            "r2": 1 - left / total if total else None,
            "mean_absolute_error": float(np.abs(error_N).mean()),
            "root_mean_squared_error": float(np.sqrt((error_N**2).mean())),
        }
        for left, total, error_N in zip(left_K.tolist(), total_K.tolist(), error_NK.T, strict=True)
    ]


def _of_numbers(labels_NK: Floats32, numbers_NK: Floats32, target: Target) -> dict[str, Any]:
    """Means over the numbers, if there are several."""
    rows = number_table(labels_NK, numbers_NK)
    columns = {name: [value for row in rows if (value := row[name]) is not None] for name in rows[0]}
    return {name: sum(values) / len(values) for name, values in columns.items() if values}


FIGURES: dict[TargetKind, Callable[[Floats32, Floats32, Target], dict[str, Any]]] = {
    TargetKind.CLASSES: _of_classes,
    TargetKind.NUMBER: _of_numbers,
}
