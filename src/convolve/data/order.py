"""The order in which an epoch visits its samples: a pure function of the recipe, the seed and the epoch."""

from __future__ import annotations

import numpy as np

from convolve.data.cntk_order import sweep_order
from convolve.data.pictures import Samples
from convolve.data.streams import Purpose, generator
from convolve.errors import UsageError


def epoch_order(kind: str, table: Samples, epoch: int, seed: int) -> np.ndarray:
    """Sample numbers (int64) of pass `epoch` (from 0) over the data.

    "shuffled" is a full permutation for each pass; "cntk" what CNTK 2.7's reader delivers in that sweep (it knows no
    seed of ours: its own starts at 0); "file" the order of the files.
    """
    if kind == "file":
        return np.arange(len(table))
    if kind == "cntk":
        if table.chunk_N is None:
            raise UsageError(
                "data.order=cntk follows the chunks of a CTF or map file, and this data has none; write one with "
                "`convolve prepare mnist` or `convolve prepare cifar10` and give its folder to --data"
            )
        return sweep_order(table.chunk_N, epoch)
    return generator(Purpose.ORDER, seed, epoch).permutation(len(table))
