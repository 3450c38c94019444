"""Batches whose images are mixed, and their labels: MixUp and CutMix."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convolve.data.dataset import Batch
from convolve.data.loader import WHOLE, Loader, ShardOf
from convolve.data.streams import Purpose, generator
from convolve.transforms.mixing import Mixing, draw_mix, mixed


@dataclass(frozen=True)
class MixingLoader(Loader):
    """A loader that applies one of `mixing` to each batch: `classes` then become labels float32 (N, K). A shard is
    prepared with the row before it, so that it is the same as in the whole batch.
    """

    mixing: tuple[Mixing, ...] = ()
    classes: int = 0

    def epoch(
        self, epoch: int, first_batch: int = 0, order_N: NDArray[np.int64] | None = None, shard_of: ShardOf = WHOLE
    ) -> Iterator[Batch]:
        def with_the_one_before(count: int) -> NDArray[np.int64]:
            rows = np.arange(count)[shard_of(count)]
            return np.append(rows[0] - 1, rows)  # -1: the last one

        batches = super().epoch(epoch, first_batch, order_N, with_the_one_before)
        for number, (images_NCHW, labels_N) in enumerate(batches, first_batch):
            rng = generator(Purpose.MIX, self.seed, epoch, number)
            mix = draw_mix(self.mixing, rng, *images_NCHW.shape[2:])
            yield mixed(images_NCHW, labels_N, mix, self.classes)
