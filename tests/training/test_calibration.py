"""Calibration against torchmetrics, the interval against the test that it inverts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from convolve.training.calibration import paired_difference, reliability, wilson_interval


def made(classes: int, images: int, seed: int, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities of a network that is surer than it should be."""
    random = np.random.default_rng(seed)
    labels_N = random.integers(0, classes, images)
    scores_NK = np.exp(1.5 * (random.normal(size=(images, classes)) + strength * np.eye(classes)[labels_N]))
    return labels_N, (scores_NK / scores_NK.sum(1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(
    ("classes", "images", "seed", "strength", "error"),
    [(2, 500, 0, 1.0, 0.0759753), (10, 2000, 1, 2.5, 0.1466957), (100, 4000, 2, 4.0, 0.3451451)],
)
def test_calibration_error_is_that_of_torchmetrics(
    classes: int, images: int, seed: int, strength: float, error: float
) -> None:
    """`error` is multiclass_calibration_error(..., n_bins=15, norm="l1") of torchmetrics 1.9.0."""
    found = reliability(*made(classes, images, seed, strength))
    assert found.expected_error == pytest.approx(error, abs=2e-7)
    assert found.images_B.sum() == images


def test_confidences_on_an_edge_belong_below_it() -> None:
    """As in Guo et al.: bin m holds ((m - 1) / M, m / M]."""
    found = reliability(np.array([0, 0]), np.array([[1, 0], [0.6, 0.4]], np.float32))
    assert found.images_B.nonzero()[0].tolist() == [9, 14]  # 0.6 in fp32 is a little above nine fifteenths
    assert reliability(np.array([1]), np.array([[0.5, 0.5]])).images_B.nonzero()[0].tolist() == [7]


def test_a_sum_beyond_one_is_certain() -> None:
    found = reliability(np.array([0]), np.array([[1.0000001, 0]], np.float32))
    assert found.confidence == found.accuracy == 1.0 and found.expected_error == 0.0


@pytest.mark.parametrize(("error", "images"), [(0.0, 10), (0.05, 200), (0.5, 7), (1.0, 30)])
def test_ends_of_the_interval_are_just_not_rejected(error: float, images: int) -> None:
    for end in wilson_interval(error, images):
        assert abs(end - error) == pytest.approx(1.96 * math.sqrt(end * (1 - end) / images), abs=1e-9)


def wrong(both: int, only_first: int, only_second: int, neither: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    counts = (both, only_first, only_second, neither)
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


def test_paired_difference_is_newcombes() -> None:
    """Fagerland, Lydersen and Laake 2014 give -0.507 to -0.026 for 1, 1, 7 and 12 of 21 patients, before less after."""
    found = paired_difference(*wrong(1, 1, 7, 12))
    assert found.error == pytest.approx(6 / 21)
    assert found.interval == pytest.approx((0.026, 0.507), abs=0.0005)
    assert (found.only_first, found.only_second) == (1, 7)
    turned = paired_difference(*wrong(1, 7, 1, 12))
    assert turned.interval == pytest.approx((-found.interval[1], -found.interval[0]))


def test_paired_difference_of_equal_models_and_of_opposite_ones() -> None:
    equal = paired_difference(*wrong(40, 0, 0, 960))
    assert equal.error == 0 and -equal.interval[0] == pytest.approx(equal.interval[1])
    assert 0 < equal.interval[1] < 0.006  # far below that of two models on images of their own, 0.018
    opposite = paired_difference(*wrong(0, 50, 0, 0))
    assert opposite.error == -1 and opposite.interval[0] == pytest.approx(-1, abs=1e-6)


def test_paired_difference_holds_the_truth_as_often_as_it_says() -> None:
    """300 images, errors of 8 and 11 %, of which 5 % are the same: in 2,000 trials 95 % of the intervals hold 3 %."""
    trials = np.random.default_rng(3).multinomial(300, (0.05, 0.03, 0.06, 0.86), 2000)
    held = [low <= 0.03 <= high for low, high in (paired_difference(*wrong(*counts)).interval for counts in trials)]
    assert 0.93 < np.mean(held) < 0.975
