"""The loader: training batches as network input, in an order, for one of several workers."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from numpy.typing import NDArray

from convolve.data.dataset import Batch, Dataset
from convolve.data.order import epoch_order, hard_order
from convolve.data.ordered_map import prefetch
from convolve.data.streams import Purpose, generator
from convolve.transforms.normalize import normalize_in_one_thread
from convolve.transforms.transform import Transform, WholeBatch

ShardOf = Callable[[int], slice | NDArray[np.int64]]  # the size of a batch -> the rows of it that are wanted
WHOLE: ShardOf = partial(slice, 0)


@dataclass(frozen=True)
class Loader:
    """All batches of any epoch. Batch b of epoch e depends only on (seed, e, b), and with hard-example mining on the
    samples' losses, so a run can resume anywhere.

    An epoch is one pass over the data, or the next `epoch_samples` of endless passes; no batch reaches from one pass
    into the next, as in BrainScript's training. `batch_sizes`: one for each epoch; the last one holds. `datasets` are
    the same images in one form after the other, each for an equal part of the `passes` (progressive resizing).
    """

    datasets: tuple[Dataset, ...]
    batch_sizes: tuple[int, ...]
    order_kind: str
    transforms: Sequence[Transform]
    mean: float | torch.Tensor
    scale: float | torch.Tensor
    seed: int
    bgr: bool = False  # whether the network wants colors in that order
    hard_fraction: float = 1.0
    epoch_samples: int = 0
    passes: int = 1
    sampling_K: tuple[float, ...] = ()  # how often an image of each class comes, beside the others; (): all alike
    loss_K: tuple[float, ...] = ()  # what the loss of one counts

    @property
    def dataset_size(self) -> int:
        return len(self.datasets[0])

    @property
    def samples(self) -> int:
        """The number of samples in one epoch."""
        return self.epoch_samples or self.dataset_size

    @property
    def is_cached(self) -> bool:
        return all(dataset.is_cached for dataset in self.datasets)

    def sizes(self, epoch: int) -> list[int]:
        """The number of samples in each batch of `epoch`."""
        size = self._batch_size(epoch)
        return [min(size, end - at) for _, begin, end in self._passes(epoch) for at in range(begin, end, size)]

    def order(self, epoch: int, losses_N: torch.Tensor | None = None) -> NDArray[np.int64]:
        """The samples of `epoch`, by number; with their recent losses, mostly those with large ones."""
        if losses_N is None:
            source, weights_K, size = self.datasets[0].source, self.sampling_K, self._batch_size(epoch)
            order_of = partial(epoch_order, self.order_kind, source, seed=self.seed, weights_K=weights_K, batch=size)
            return np.concatenate([order_of(number)[begin:end] for number, begin, end in self._passes(epoch)])
        return hard_order(losses_N.cpu().numpy(), self.hard_fraction, generator(Purpose.ORDER, self.seed, epoch))

    def epoch(
        self, epoch: int, first_batch: int = 0, order_N: NDArray[np.int64] | None = None, shard_of: ShardOf = WHOLE
    ) -> Iterator[Batch]:
        """The batches of `epoch`, in its plain `order` or in `order_N`, from `first_batch` on; the last may be short.

        Only the rows `shard_of(its size)` of each batch are prepared, as they are in the whole batch. No shard is
        larger than that of a larger batch, and none is empty.
        """
        batches = self._epoch(epoch, first_batch, self.order(epoch) if order_N is None else order_N, shard_of)
        return batches if self.is_cached else prefetch(batches, ahead=1)

    def _epoch(
        self, epoch: int, first_batch: int, order_N: NDArray[np.int64], shard_of: ShardOf
    ) -> Generator[Batch, None, None]:
        size, number = self._batch_size(epoch), 0
        for sweep, begin, end in self._passes(epoch):
            pass_N, order_N = order_N[: end - begin], order_N[end - begin :]
            whole = {number + at // size: pass_N[at : at + size] for at in range(0, len(pass_N), size)}
            number += len(whole)
            rest = {key: batch_N for key, batch_N in whole.items() if key >= first_batch}
            if rest:
                yield from self._shards(epoch, sweep, rest, shard_of)

    def _shards(
        self, epoch: int, sweep: int, whole: dict[int, NDArray[np.int64]], shard_of: ShardOf
    ) -> Generator[Batch, None, None]:
        """The shards of the `whole` batches, by their numbers in the epoch; all are of one pass."""
        parts = {number: shard_of(len(batch_N)) for number, batch_N in whole.items()}
        mine = [whole[number][part] for number, part in parts.items()]
        dataset = self.datasets[-1 - max(self.passes - 1 - sweep, 0) * len(self.datasets) // self.passes]
        batches = dataset.batches(np.concatenate(mine), len(mine[0]), sweep)  # the last one alone may be short
        if not self.is_cached:  # one thread normalizes while another prepares the next images
            batches = prefetch(batches, ahead=1)
        make = normalize if self.is_cached else normalize_in_one_thread
        for (number, part), batch_N, (pixels, labels_N) in zip(parts.items(), mine, batches, strict=True):
            images_NCHW = pixels
            rng = np.random.default_rng([Purpose.BATCH, self.seed, epoch, number])
            drawn = WholeBatch(rng, len(whole[number]), part, self._flipped_first_N[batch_N] ^ bool(sweep % 2))
            for transform in self.transforms:
                images_NCHW = transform.on_batch(images_NCHW, drawn)
            yield make(images_NCHW, self.mean, self.scale, self.bgr), labels_N

    @cached_property
    def _flipped_first_N(self) -> NDArray[np.bool_]:
        """The images that alternating flips mirror in the first pass over the data, the third and so on."""
        return generator(Purpose.MIRROR, self.seed).random(self.dataset_size) < 0.5

    def _batch_size(self, epoch: int) -> int:
        return self.batch_sizes[min(epoch, len(self.batch_sizes) - 1)]

    def _passes(self, epoch: int) -> Iterator[tuple[int, int, int]]:
        """(number of the pass, begin, end): what the epoch takes of each pass over the data that it meets."""
        position, end = epoch * self.samples, (epoch + 1) * self.samples
        while position < end:
            number, begin = divmod(position, self.dataset_size)
            taken = min(self.dataset_size - begin, end - position)
            yield number, begin, begin + taken
            position += taken


def normalize(
    images_NCHW: torch.Tensor, mean: float | torch.Tensor, scale: float | torch.Tensor, bgr: bool = False
) -> torch.Tensor:
    """Pixels in 0..255 -> the network's input: `(pixel - mean) * scale`, float32, channels_last.

    Planes are gray or RGB; with `bgr` the network sees them in that order. `mean` and `scale` are numbers or broadcast.
    """
    if bgr:
        images_NCHW = images_NCHW.flip(1)
    mean, scale = (v.to(images_NCHW.device) if isinstance(v, torch.Tensor) else v for v in (mean, scale))
    # With one channel both layouts are the same bytes, and `to` would leave strides that convolutions reorder.
    images = images_NCHW.to(torch.float32, memory_format=torch.channels_last)
    return images.sub_(mean).mul_(scale) if images is not images_NCHW else (images - mean) * scale
