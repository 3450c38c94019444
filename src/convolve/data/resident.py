"""Training batches: cut out of a resident table by index, or streamed; no worker processes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from convolve.data.ahead import prefetch
from convolve.data.hard_order import hard_order
from convolve.data.order import epoch_order
from convolve.data.pictures import Pictures, Samples
from convolve.data.staged import are_in_memory
from convolve.data.streams import Purpose, generator
from convolve.errors import UsageError
from convolve.transforms.normalize import normalize, normalize_alone
from convolve.transforms.transform import Transform, WholeBatch, transform_batch

Batch = tuple[torch.Tensor, torch.Tensor]  # images_NCHW as the network sees them, labels_N
PartOf = Callable[[int], slice]  # the size of a batch -> the part of it that is wanted


def _whole(count: int) -> slice:
    return slice(0, count)


@dataclass(frozen=True)
class Batches:
    """All batches of any epoch. Batch b of epoch e is a function of (seed, e, b), and of the hardness of the samples
    where that matters, so a run resumes anywhere.

    An epoch is one pass over the data, or the next `epoch_samples` of endless passes; no batch reaches from one pass
    into the next, as in BrainScript's training. `batch_sizes`: one for each epoch; the last one holds.
    """

    table: Samples
    batch_sizes: tuple[int, ...]
    order_kind: str
    transforms: Sequence[Transform]
    mean: float | torch.Tensor
    scale: float
    seed: int
    bgr: bool = False  # whether the network wants colours in that order
    hard_fraction: float = 1.0
    epoch_samples: int = 0

    @property
    def samples(self) -> int:
        """How many samples one epoch delivers."""
        return self.epoch_samples or len(self.table)

    def sizes(self, epoch: int) -> list[int]:
        """How many samples each batch of `epoch` has."""
        size = self._batch_size(epoch)
        return [min(size, end - at) for _, begin, end in self._passes(epoch) for at in range(begin, end, size)]

    def order(self, epoch: int, hardness_N: torch.Tensor | None = None) -> NDArray[np.int64]:
        """The samples of `epoch`, by their numbers; with the hardness of each, the epoch dwells on the hard ones."""
        if hardness_N is None:
            return np.concatenate([self._order(number)[begin:end] for number, begin, end in self._passes(epoch)])
        return hard_order(hardness_N.cpu().numpy(), self.hard_fraction, generator(Purpose.ORDER, self.seed, epoch))

    def epoch(
        self, epoch: int, first_batch: int = 0, order_N: NDArray[np.int64] | None = None, share: PartOf = _whole
    ) -> Iterator[Batch]:
        """The batches of `epoch`, in its plain `order` or in `order_N`, from `first_batch` on; the last may be short.

        Of each, the `share` alone is made ready, as it is in the whole batch. No share is larger than that of a
        larger batch, and none is empty.
        """
        batches = self._epoch(epoch, first_batch, self.order(epoch) if order_N is None else order_N, share)
        return batches if are_in_memory(self.table) else prefetch(batches, ahead=1)

    def _epoch(
        self, epoch: int, first_batch: int, order_N: NDArray[np.int64], share: PartOf
    ) -> Generator[Batch, None, None]:
        size, number = self._batch_size(epoch), 0
        for sweep, begin, end in self._passes(epoch):
            pass_N, order_N = order_N[: end - begin], order_N[end - begin :]
            whole = [pass_N[at : at + size] for at in range(0, len(pass_N), size)]
            rest = whole[max(0, first_batch - number) :]
            number += len(whole)
            if rest:
                yield from self._shares(epoch, sweep, number - len(rest), rest, share)

    def _shares(
        self, epoch: int, sweep: int, first: int, whole: list[NDArray[np.int64]], share: PartOf
    ) -> Generator[Batch, None, None]:
        """The shares of the `whole` batches of samples, all of one pass, which `epoch` counts from `first` on."""
        parts = [share(len(batch_N)) for batch_N in whole]
        mine = [batch_N[part] for batch_N, part in zip(whole, parts, strict=True)]
        batches = self.table.batches(np.concatenate(mine), len(mine[0]), sweep)  # the last one alone may be short
        make = normalize if are_in_memory(self.table) else normalize_alone
        for number, (pixels, labels_N) in enumerate(batches):
            rng = generator(Purpose.BATCH, self.seed, epoch, first + number)
            turn_N = self._mirrored_first_N[mine[number]] ^ bool(sweep % 2)
            drawn = WholeBatch(rng, len(whole[number]), parts[number], turn_N)
            images = transform_batch(pixels, self.transforms, drawn)
            yield make(images, self.mean, self.scale, self.bgr), labels_N

    @cached_property
    def _mirrored_first_N(self) -> NDArray[np.bool_]:
        """The images that alternating flips mirror in the first pass over the data, the third and so on."""
        return generator(Purpose.MIRROR, self.seed).random(len(self.table)) < 0.5

    def _batch_size(self, epoch: int) -> int:
        return self.batch_sizes[min(epoch, len(self.batch_sizes) - 1)]

    def _passes(self, epoch: int) -> Iterator[tuple[int, int, int]]:
        """(number of the pass, begin, end): what the epoch takes of each pass over the data that it meets."""
        position, end = epoch * self.samples, (epoch + 1) * self.samples
        while position < end:
            number, begin = divmod(position, len(self.table))
            taken = min(len(self.table) - begin, end - position)
            yield number, begin, begin + taken
            position += taken

    def _order(self, number: int) -> NDArray[np.int64]:
        """The samples of a pass over the data."""
        return epoch_order(self.order_kind, self.table, number, self.seed)


def split(table: Pictures, fraction: float, seed: int) -> tuple[Pictures, Pictures]:
    """(training, validation): a random `fraction` of the samples is held out; the same for the same seed."""
    order_N = generator(Purpose.SPLIT, seed).permutation(len(table))
    held_out = max(1, round(fraction * len(table)))
    if held_out == len(table):
        raise UsageError(f"data.validation_fraction={fraction:g} leaves nothing of {len(table)} images to train on")
    return table.take(np.sort(order_N[held_out:])), table.take(np.sort(order_N[:held_out]))
