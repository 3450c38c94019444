"""Wrong answers: which classes are confused, and which of the images are worth a picture.

N images, K classes, M mistakes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SUREST = 24  # mistakes that the model was surest of, of all
PAIRS = 24  # of the most confused pairs
EACH_PAIR = 8

IntArray = NDArray[np.int64]


def confused_pairs(labels_N: IntArray, predicted_N: IntArray) -> list[tuple[int, int, int]]:
    """(true class, predicted class, images) of every pair confused, the most frequent first."""
    wrong = predicted_N != labels_N
    pairs, images = np.unique(np.stack([labels_N, predicted_N])[:, wrong], axis=1, return_counts=True)
    by_frequency = np.argsort(-images, kind="stable")
    return [(int(pairs[0, i]), int(pairs[1, i]), int(images[i])) for i in by_frequency]


def surest_first(labels_N: IntArray, probabilities_NK: NDArray[np.float32]) -> IntArray:
    """The indices of all mistakes, those first that the model was surest of."""
    wrong_M = np.flatnonzero(probabilities_NK.argmax(axis=1) != labels_N)
    confidence_M = probabilities_NK[wrong_M].max(axis=1)
    return wrong_M[np.argsort(-confidence_M, kind="stable")]


def worth_a_picture(labels_N: IntArray, probabilities_NK: NDArray[np.float32]) -> IntArray:
    """Indices, each once: the surest mistakes of all, then the surest of each of the most confused pairs."""
    mistakes_M, predicted_N = surest_first(labels_N, probabilities_NK), probabilities_NK.argmax(axis=1)
    chosen = mistakes_M[:SUREST].tolist()
    for truth, said, _ in confused_pairs(labels_N, predicted_N)[:PAIRS]:
        of_pair = (labels_N[mistakes_M] == truth) & (predicted_N[mistakes_M] == said)
        chosen += mistakes_M[of_pair][:EACH_PAIR].tolist()
    return np.array([*dict.fromkeys(chosen)], np.int64)
