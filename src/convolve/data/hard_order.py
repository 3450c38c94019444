"""The order of an epoch that dwells on the hard images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_AT_RANDOM = 0.1  # of all images in each pass, so that none is forgotten and its loss stays known


def hard_order(hardness_N: NDArray[np.float32], fraction: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """As many sample numbers as there are samples: passes over the hardest `fraction` and some of all at random."""
    samples = len(hardness_N)
    hard_M = np.argsort(-hardness_N, kind="stable")[: max(1, round(fraction * samples))]
    passes: list[NDArray[np.int64]] = []
    while sum(map(len, passes)) < samples:
        some = rng.permutation(samples)[: round(_AT_RANDOM * samples)]
        passes.append(rng.permutation(np.concatenate([hard_M, some])))
    return np.concatenate(passes)[:samples]
