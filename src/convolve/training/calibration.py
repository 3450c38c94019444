"""How far a figure can be trusted: the interval around an error, and whether confidence is justified.

N images, B bins.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convolve.records import ConfidenceRecord

BINS = 15  # as in Guo et al. 2017, so that figures can be compared


def wilson_interval(error: float, images: int) -> tuple[float, float]:
    """The 95 % interval around the `error` (a fraction) of this many images (Wilson 1927, score interval)."""
    z, n = 1.96, images
    middle = (error + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(error * (1 - error) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(middle - half, 0.0), min(middle + half, 1.0)


@dataclass(frozen=True)
class PairedDifference:
    """How much larger the error of a second model is than that of a first one on the same images.

    `interval` is its 95 % interval; `only_first` and `only_second` count the images that only one of them gets wrong.
    """

    error: float
    interval: tuple[float, float]
    only_first: int
    only_second: int


def paired_difference(first_wrong_N: NDArray[np.bool_], second_wrong_N: NDArray[np.bool_]) -> PairedDifference:
    """The interval is method 10 of Newcombe 1998, "Improved confidence intervals for the difference between binomial
    proportions based on paired data": Wilson's intervals of both errors, and their correlation (phi, with continuity
    correction). It suits the data of McNemar's test, also with few images or no difference."""
    n = len(first_wrong_N)
    both, neither = int((first_wrong_N & second_wrong_N).sum()), int((~first_wrong_N & ~second_wrong_N).sum())
    only_first, only_second = int((first_wrong_N & ~second_wrong_N).sum()), int((~first_wrong_N & second_wrong_N).sum())
    first, second = (both + only_first) / n, (both + only_second) / n
    (low1, high1), (low2, high2) = wilson_interval(first, n), wilson_interval(second, n)
    spread = math.sqrt(math.prod((both + only_first, only_second + neither, both + only_second, only_first + neither)))
    together = both * neither - only_first * only_second
    phi = (max(together - n / 2, 0) if together > 0 else together) / spread if spread else 0.0
    below, above = (
        math.sqrt(max(a * a - 2 * phi * a * b + b * b, 0.0))
        for a, b in ((second - low2, high1 - first), (high2 - second, first - low1))
    )
    error = second - first
    return PairedDifference(error, (error - below, error + above), only_first, only_second)


@dataclass(frozen=True)
class Reliability:
    """Images sorted by the model's confidence into B bins of equal width; bin b holds those in (b / B, (b + 1) / B].

    `confidence_B` is the mean confidence in a bin and `accuracy_B` the fraction of its images that the model got right;
    both are NaN for an empty bin.
    """

    images_B: NDArray[np.int64]
    confidence_B: NDArray[np.float64]
    accuracy_B: NDArray[np.float64]

    @property
    def expected_error(self) -> float:
        """The expected calibration error, sum of n_b / N * |accuracy_b - confidence_b| over the bins: Naeini, Cooper
        and Hauskrecht 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning"."""
        return self._mean(np.abs(self.accuracy_B - self.confidence_B))

    @property
    def confidence(self) -> float:
        """The mean over all images."""
        return self._mean(self.confidence_B)

    @property
    def accuracy(self) -> float:
        return self._mean(self.accuracy_B)

    def _mean(self, value_B: NDArray[np.float64]) -> float:
        held = self.images_B > 0
        return float(np.average(value_B[held], weights=self.images_B[held]))


def reliability(labels_N: NDArray[np.int64], probabilities_NK: NDArray[np.float32]) -> Reliability:
    """The reliability of probabilities. Confidence is the largest of an image's K probabilities; N is at least 1."""
    confidence_N = np.clip(probabilities_NK.max(axis=1).astype(np.float64), 0, 1)  # sums in fp32 can exceed 1
    right_N = probabilities_NK.argmax(axis=1) == labels_N
    bin_N = np.maximum(np.ceil(confidence_N * BINS).astype(np.int64) - 1, 0)
    images_B = np.bincount(bin_N, minlength=BINS)
    divisor_B = np.where(images_B > 0, images_B, np.nan)
    return Reliability(
        images_B,
        np.bincount(bin_N, weights=confidence_N, minlength=BINS) / divisor_B,
        np.bincount(bin_N, weights=right_N, minlength=BINS) / divisor_B,
    )


def confidence_figures(
    known: ConfidenceRecord, answers_NK: NDArray[np.float32], labels: NDArray[Any], distances_N: NDArray[np.float32]
) -> dict[str, Any]:
    """How well a model's confidence holds on labeled images: how many get an answer, and the error among them; how
    often sets contain the image's class, and their sizes; how often intervals contain its numbers."""
    accepted_N = distances_N <= (math.inf if known.farthest is None else known.farthest)
    figures: dict[str, Any] = {"accept": known.accept, "accepted": float(accepted_N.mean()), "accepted_error": None}
    if labels.ndim == 2:
        within_NK = np.abs(answers_NK - labels) <= (known.within or np.inf)
        return figures | ({"coverage": known.coverage, "within": within_NK.mean(0).tolist()} if known.within else {})
    wrong_N = answers_NK.argmax(1) != labels
    figures["accepted_error"] = float(wrong_N[accepted_N].mean()) if accepted_N.any() else None
    figures["calibration_error"] = reliability(labels, answers_NK).expected_error
    if known.least_probability is not None:
        sets_NK = answers_NK >= known.least_probability
        figures |= {
            "coverage": known.coverage, "covered": float(sets_NK[np.arange(len(labels)), labels].mean()),
            "mean_set_size": float(sets_NK.sum(1).mean()), "empty_sets": float((~sets_NK.any(1)).mean()),
        }  # fmt: skip
    return figures
