"""Training images that change as the training goes on: larger ones in later passes, for one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from convolve.data.pictures import Batch, Samples
from convolve.data.table import Table


@dataclass(frozen=True, eq=False)
class Staged:
    """The same images in several forms, the `stages`: each serves for as many of the `passes` over the data.

    See `Samples`.
    """

    stages: tuple[Samples, ...]
    passes: int

    def __len__(self) -> int:
        return len(self.stages[0])

    @property
    def labels_N(self) -> torch.Tensor:
        return self.stages[0].labels_N

    @property
    def chunk_N(self) -> NDArray[np.int64] | None:
        return self.stages[0].chunk_N

    def batches(self, order_N: NDArray[np.int64], batch_size: int, epoch: int = 0) -> Iterator[Batch]:
        """As `Samples` has it; `epoch` is the number of the pass."""
        passes_left = max(self.passes - 1 - epoch, 0)
        return self.stages[-1 - passes_left * len(self.stages) // self.passes].batches(order_N, batch_size, epoch)


def are_in_memory(samples: Samples) -> bool:
    """Whether a batch is a copy out of a table, in each stage; else it has to be made."""
    return all(isinstance(stage, Table) for stage in (samples.stages if isinstance(samples, Staged) else [samples]))
