"""Metrics for each class, if images have one class, and averages over the classes. torch is not needed here."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
Rates = NDArray[np.float64]


@dataclass(frozen=True)
class ClassMetrics:
    """For each of K classes: `images_K` that belong to it, `said_K` predicted as it, `hits_K` both.

    A rate over no images is NaN. Macro means are over the classes that have images, where a precision without
    predictions counts as 0, as in scikit-learn.
    """

    images_K: IntArray
    said_K: IntArray
    hits_K: IntArray

    @property
    def recall_K(self) -> Rates:
        return _part(self.hits_K, self.images_K)

    @property
    def precision_K(self) -> Rates:
        return _part(self.hits_K, self.said_K)

    @property
    def f1_K(self) -> Rates:
        """The harmonic mean of precision and recall."""
        return _part(2 * self.hits_K, self.images_K + self.said_K)

    def rates(self, k: int) -> dict[str, float | None]:
        """The rates of one class; None for NaN."""
        rates = {"precision": self.precision_K, "recall": self.recall_K, "f1": self.f1_K}
        return {name: None if np.isnan(rate_K[k]) else float(rate_K[k]) for name, rate_K in rates.items()}

    @cached_property
    def macro(self) -> dict[str, float]:
        """The macro averages by their names in result.json without `test_`. Balanced error is 1 - mean recall
        (Brodersen et al. 2010)."""
        rates = {"precision": self.precision_K, "recall": self.recall_K, "f1": self.f1_K}
        means = {f"macro_{name}": _mean(rate_K[self.images_K > 0]) for name, rate_K in rates.items()}
        return {"balanced_error": 1 - means["macro_recall"]} | means


def class_metrics(labels_N: IntArray, predicted_N: IntArray, classes: int) -> ClassMetrics:
    hits_N = labels_N[predicted_N == labels_N]
    return ClassMetrics(*(np.bincount(numbers_N, minlength=classes) for numbers_N in (labels_N, predicted_N, hits_N)))


def _part(some_K: IntArray, all_K: IntArray) -> Rates:
    return np.where(all_K > 0, some_K / np.maximum(all_K, 1), np.nan)


def _mean(rate_M: Rates) -> float:
    return float(np.nan_to_num(rate_M).mean()) if len(rate_M) else 0.0
