"""Rates of classes and their means, against scikit-learn's."""

import numpy as np
import pytest

from convolve.training.class_metrics import class_metrics

LABELS = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 3, 3])  # no image is of class 2 or 4
PREDICTED = np.array([0, 0, 0, 0, 1, 2, 1, 1, 0, 0, 1])  # class 3 is never said


def test_rates_are_scikit_learns() -> None:
    """`classification_report(LABELS, PREDICTED, labels=[0, 1, 3], zero_division=0)` and `balanced_accuracy_score` of
    scikit-learn 1.9.1 give these."""
    found = class_metrics(LABELS, PREDICTED, 5)
    np.testing.assert_allclose(found.precision_K, [4 / 6, 0.5, 0, np.nan, np.nan])
    np.testing.assert_allclose(found.recall_K, [4 / 6, 2 / 3, np.nan, 0, np.nan])
    np.testing.assert_allclose(found.f1_K, [0.6666666666666666, 0.5714285714285714, 0, 0, np.nan])
    assert found.macro == pytest.approx({
        "balanced_error": 0.5555555555555556, "macro_precision": 0.3888888888888889,
        "macro_recall": 0.4444444444444444, "macro_f1": 0.41269841269841273,
    })  # fmt: skip
    assert found.rates(2) == {"precision": 0.0, "recall": None, "f1": 0.0}


def test_nothing_is_nothing() -> None:
    empty = class_metrics(np.zeros(0, np.int64), np.zeros(0, np.int64), 3)
    assert set(empty.macro.values()) == {0.0, 1.0}
