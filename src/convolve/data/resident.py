"""Training batches: cut out of a resident table by index, or streamed; no worker processes."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from convolve.data.ahead import prefetch
from convolve.data.hard_order import hard_order
from convolve.data.order import epoch_order
from convolve.data.pictures import Pictures, Samples
from convolve.data.streams import Purpose, generator
from convolve.data.table import Table
from convolve.errors import UsageError
from convolve.transforms.batch import augment, normalize
from convolve.transforms.spec import Transform

Batch = tuple[torch.Tensor, torch.Tensor]  # images_NCHW as the network sees them, labels_N


@dataclass(frozen=True)
class Batches:
    """All batches of any epoch. Batch b of epoch e is a function of (seed, e, b), and of the hardness of the samples
    where that matters, so a run resumes anywhere.
    """

    table: Samples
    batch_size: int
    order_kind: str
    transforms: Sequence[Transform]
    mean: float | torch.Tensor
    scale: float
    seed: int
    bgr: bool = False  # whether the network wants colours in that order
    hard_fraction: float = 1.0

    def __len__(self) -> int:
        return -(-len(self.table) // self.batch_size)

    @property
    def samples(self) -> int:
        """How many samples one epoch delivers."""
        return len(self.table)

    def order(self, epoch: int, hardness_N: torch.Tensor | None = None) -> NDArray[np.int64]:
        """The samples of `epoch`, by their numbers; with the hardness of each, the epoch dwells on the hard ones."""
        if hardness_N is None:
            return epoch_order(self.order_kind, self.table, epoch, self.seed)
        return hard_order(hardness_N.cpu().numpy(), self.hard_fraction, generator(Purpose.ORDER, self.seed, epoch))

    def epoch(self, epoch: int, first_batch: int = 0, hardness_N: torch.Tensor | None = None) -> Iterator[Batch]:
        """The batches of `epoch`, in its `order`, from `first_batch` on; the last one may be short."""
        batches = self._epoch(epoch, first_batch, self.order(epoch, hardness_N))
        return batches if isinstance(self.table, Table) else prefetch(batches, ahead=1)

    def _epoch(self, epoch: int, first_batch: int, order_N: NDArray[np.int64]) -> Generator[Batch, None, None]:
        order_N = order_N[first_batch * self.batch_size :]
        batches = self.table.batches(order_N, self.batch_size, epoch)
        for number, (pixels, labels_N) in enumerate(batches, first_batch):
            rng = generator(Purpose.BATCH, self.seed, epoch, number)
            images = augment(pixels, self.transforms, rng) if self.transforms else pixels
            yield normalize(images, self.mean, self.scale, self.bgr), labels_N


def split(table: Pictures, fraction: float, seed: int) -> tuple[Pictures, Pictures]:
    """(training, validation): a random `fraction` of the samples is held out; the same for the same seed."""
    order_N = generator(Purpose.SPLIT, seed).permutation(len(table))
    held_out = max(1, round(fraction * len(table)))
    if held_out == len(table):
        raise UsageError(f"data.validation_fraction={fraction:g} leaves nothing of {len(table)} images to train on")
    return table.take(np.sort(order_N[held_out:])), table.take(np.sort(order_N[:held_out]))
