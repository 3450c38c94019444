"""Folds of a cross-validation: beside scikit-learn's promise of StratifiedGroupKFold, which is not installed here."""

import numpy as np

from convolve.training.folds import fold_numbers


def test_each_class_is_spread_evenly() -> None:
    labels_N = np.repeat([0, 1, 2], [53, 20, 7])
    fold_N = fold_numbers(labels_N, np.arange(80), 5)
    for label in range(3):
        counts = np.bincount(fold_N[labels_N == label], minlength=5)
        assert counts.max() - counts.min() <= 1
    counts = np.bincount(fold_N)
    assert counts.max() - counts.min() <= 2


def test_groups_stay_whole() -> None:
    rng = np.random.default_rng(0)
    groups_N, labels_N = rng.integers(0, 60, 400), rng.integers(0, 4, 400)
    fold_N = fold_numbers(labels_N, groups_N, 4)
    assert all(len({*fold_N[groups_N == group].tolist()}) == 1 for group in range(60))
    for label in range(4):
        assert np.bincount(fold_N[labels_N == label], minlength=4).min() > 10


def test_chance_is_the_seed_s() -> None:
    labels_N, alone_N = np.repeat([3, 8], 50), np.arange(100)
    assert (fold_numbers(labels_N, alone_N, 5) == fold_numbers(labels_N, alone_N, 5)).all()
    assert (fold_numbers(labels_N, alone_N, 5) != fold_numbers(labels_N, alone_N, 5, seed=1)).any()
