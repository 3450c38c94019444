"""Errors: which classes are confused, and which images are shown as pictures.

N images, K classes, M errors.
"""

import numpy as np
from numpy.typing import NDArray

MOST_CONFIDENT = 24  # of all errors, those with the highest confidence
PAIRS = 24  # of the most confused pairs
EACH_PAIR = 8

IntArray = NDArray[np.int64]


def confused_pairs(labels_N: IntArray, predicted_N: IntArray) -> list[tuple[int, int, int]]:
    """(true class, predicted class, images) of every confused pair, the most frequent first."""
    wrong = predicted_N != labels_N
    pairs, images = np.unique(np.stack([labels_N, predicted_N])[:, wrong], axis=1, return_counts=True)
    by_frequency = np.argsort(-images, kind="stable")
    return [(int(pairs[0, i]), int(pairs[1, i]), int(images[i])) for i in by_frequency]


def most_confident_first(labels_N: IntArray, probabilities_NK: NDArray[np.float32]) -> IntArray:
    """The indices of all errors, the most confident first."""
    wrong_M = np.flatnonzero(probabilities_NK.argmax(axis=1) != labels_N)
    confidence_M = probabilities_NK[wrong_M].max(axis=1)
    return wrong_M[np.argsort(-confidence_M, kind="stable")]


def largest_misses(labels_NK: NDArray[np.float32], answers_NK: NDArray[np.float32]) -> IntArray:
    """The indices of all images, ordered by the largest miss of a number, or of a class's probability; each number is
    measured in standard deviations of its labels."""
    spread_K = np.maximum(labels_NK.std(0), 1e-30) if answers_NK.shape[1] else np.ones(0)
    miss_N = (np.abs(answers_NK - labels_NK) / spread_K).max(1)
    return np.argsort(-miss_N, kind="stable")


def worth_a_picture(labels_N: IntArray, probabilities_NK: NDArray[np.float32]) -> IntArray:
    """Indices without duplicates: the most confident errors of all, then those of each of the most confused pairs."""
    errors_M, predicted_N = most_confident_first(labels_N, probabilities_NK), probabilities_NK.argmax(axis=1)
    chosen = errors_M[:MOST_CONFIDENT].tolist()
    for truth, said, _ in confused_pairs(labels_N, predicted_N)[:PAIRS]:
        of_pair = (labels_N[errors_M] == truth) & (predicted_N[errors_M] == said)
        chosen += errors_M[of_pair][:EACH_PAIR].tolist()
    return np.array([*dict.fromkeys(chosen)], np.int64)
