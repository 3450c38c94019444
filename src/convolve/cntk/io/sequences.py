"""Sequences of one stream: all their vectors, one after the other, and the length of each sequence."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from convolve.cntk.core import Value
from convolve.cntk.feeding import Fed

# Legend: N sequences, L samples of the longest, T samples of all of them.


class Sequences(Value):
    """A reader's minibatch: `rows_T` (T, *shape), of which sequence n has `lengths_N[n]`."""

    def __init__(self, rows_T: NDArray[Any], lengths_N: NDArray[np.int64], is_sparse: bool = False) -> None:
        self.rows_T, self.lengths_N = rows_T, lengths_N
        super().__init__(_padded(rows_T, lengths_N))
        self.is_sparse = is_sparse
        if (lengths_N != self.array.shape[1]).any():
            self.lengths = lengths_N.tolist()

    def asarray(self) -> NDArray[Any]:
        """A dense array, of sparse vectors too: readers return it so."""
        return self.array

    @property
    def samples_for_feeding(self) -> Any:
        return Fed(torch.from_numpy(np.ascontiguousarray(self.rows_T)), self.lengths_N.tolist())


def _padded(rows_T: NDArray[Any], lengths_N: NDArray[np.int64]) -> NDArray[Any]:
    """(N, L, *shape), with zeros where a sequence is shorter."""
    longest = int(lengths_N.max(initial=1))
    if (lengths_N == longest).all():
        return rows_T.reshape(len(lengths_N), longest, *rows_T.shape[1:])
    padded_NL = np.zeros((len(lengths_N), longest, *rows_T.shape[1:]), rows_T.dtype)
    padded_NL[np.arange(longest) < lengths_N[:, None]] = rows_T
    return padded_NL
