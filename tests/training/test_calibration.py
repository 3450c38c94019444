"""Calibration against torchmetrics, the interval against the test that it inverts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from convolve.training.calibration import reliability, wilson_interval


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
