"""Which errors are kept as pictures: the most confident of all and of each of the most confused pairs, each once."""

from __future__ import annotations

from collections import Counter

import numpy as np

from convolve.training.error_analysis import confused_pairs, worth_a_picture

CLASSES, IMAGES = 12, 3000
RANDOM = np.random.default_rng(5)
LABELS_N = RANDOM.integers(0, CLASSES, IMAGES)
SCORES_NK = np.exp(RANDOM.normal(size=(IMAGES, CLASSES)) + 1.5 * np.eye(CLASSES)[LABELS_N])
PROBABILITIES_NK = (SCORES_NK / SCORES_NK.sum(1, keepdims=True)).astype(np.float32)


def test_what_is_kept_is_what_the_rule_says() -> None:
    rows = PROBABILITIES_NK.tolist()
    said = [row.index(max(row)) for row in rows]
    surest = sorted((i for i in range(IMAGES) if said[i] != LABELS_N[i]), key=lambda i: -max(rows[i]))
    often = Counter((int(LABELS_N[i]), said[i]) for i in surest)
    expected = set(surest[:24])
    for truth, answer in sorted(often, key=lambda pair: (-often[pair], pair))[:24]:
        expected |= set([i for i in surest if (LABELS_N[i], said[i]) == (truth, answer)][:8])
    kept = worth_a_picture(LABELS_N, PROBABILITIES_NK).tolist()

    assert kept[:24] == surest[:24]
    assert len(kept) == len(expected) <= 24 + 24 * 8 and set(kept) == expected


def test_a_model_without_errors() -> None:
    perfect_NK = np.eye(CLASSES, dtype=np.float32)[LABELS_N]
    assert confused_pairs(LABELS_N, LABELS_N) == []
    assert worth_a_picture(LABELS_N, perfect_NK).shape == (0,)
