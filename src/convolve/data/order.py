"""The order in which an epoch visits its samples: a pure function of the recipe, the seed and the epoch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convolve.data.balance import balanced_order
from convolve.data.cntk_order import sweep_order
from convolve.data.sources.source import Source
from convolve.data.streams import Purpose, generator
from convolve.errors import UsageError

_AT_RANDOM = 0.1  # of all images in each pass over the hard ones, so that none is forgotten and its loss stays known


def epoch_order(
    kind: str, source: Source, epoch: int, seed: int, weights_K: tuple[float, ...] = ()
) -> NDArray[np.int64]:
    """Sample numbers of pass `epoch` (from 0) over `source`.

    "shuffled" is a full permutation for each pass; "cntk" what CNTK 2.7's reader delivers in that sweep (it knows no
    seed of ours: its own starts at 0); "file" the order of the files. With `weights_K`, "shuffled" draws an image
    as often as they say of its class.
    """
    if kind == "file":
        return np.arange(len(source))
    if kind == "cntk":
        if source.chunk_N is None:
            raise UsageError(
                "data.order=cntk follows the chunks of a CTF or map file, and this data has none; write one with "
                "`convolve prepare mnist` or `convolve prepare cifar10` and give its folder to --data"
            )
        return sweep_order(source.chunk_N, epoch)
    rng = generator(Purpose.ORDER, seed, epoch)
    return balanced_order(source.labels_N.numpy(), weights_K, rng) if weights_K else rng.permutation(len(source))


def hard_order(hardness_N: NDArray[np.float32], fraction: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Hard-example mining: as many sample numbers as there are samples.

    They are passes over the hardest `fraction`, and some of all at random.
    """
    samples = len(hardness_N)
    hard_M = np.argsort(-hardness_N, kind="stable")[: max(1, round(fraction * samples))]
    passes: list[NDArray[np.int64]] = []
    while sum(map(len, passes)) < samples:
        some = rng.permutation(samples)[: round(_AT_RANDOM * samples)]
        passes.append(rng.permutation(np.concatenate([hard_M, some])))
    return np.concatenate(passes)[:samples]
