"""A dataset: a source and the transforms of each image, cached in memory or decoded on demand."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from convolve.data.damaged import Damaged, Unreadable, caught, readable
from convolve.data.ordered_map import ordered_map
from convolve.data.packed import PackedSource
from convolve.data.sources.files import FileSource, named
from convolve.data.sources.source import ArraySource, Source
from convolve.data.streams import Purpose
from convolve.errors import DataError, UsageError
from convolve.formats.decode import DECODING, Decoding, to_planes
from convolve.transforms.transform import Image, Transform

# Legend: N samples, V views of one image, C channels, H rows, W columns.

THREADS = 4  # each holds the pixels of one image as it was decoded, 201 MB at most
_NOTHING_RANDOM = np.random.default_rng(0)

Batch = tuple[torch.Tensor, torch.Tensor]  # images_NCHW, gray or in RGB planes, 0..255; labels_N int64
# (image_HWC as decoded, the generator for its random choices) -> images_VCHW: its views, usually one
Prepare = Callable[[Image, np.random.Generator], Image]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labeled images of one size, ready for a network except for mean and scale. Without `prepare`, `source` is an
    array and its images are used unchanged: they are cached. Otherwise `prepare` is applied to each when its batch is
    due: image i in epoch e depends only on (seed, e, i), not on order or threads. A damaged image is an error that
    names it; with `damaged`, the next in the list replaces it, with that one's label; `unreadable` skips it. Memory:
    three batches and the images being decoded.
    """

    source: Source
    prepare: Prepare | None = None
    decoding: Decoding = DECODING
    seed: int = 0
    threads: int = THREADS
    damaged: Damaged | None = None
    unreadable: Unreadable | None = None
    is_random: bool = True  # whether `prepare` draws anything: to seed a generator costs as much as a small image

    def __len__(self) -> int:
        return len(self.source)

    @property
    def is_cached(self) -> bool:
        """Whether a batch is a copy of rows of an array in memory."""
        return self.prepare is None

    def batches(self, order_N: NDArray[np.int64], batch_size: int, epoch: int = 0) -> Generator[Batch, None, None]:
        """The samples numbered in `order_N`, uint8 or float32; random choices are those of `epoch`.

        Raises `DataError` for a damaged image.
        """
        labels_N = self.source.labels_N
        if self.is_cached:
            images_NCHW = cast(ArraySource, self.source).images_NCHW
            for chosen in torch.from_numpy(np.ascontiguousarray(order_N)).split(batch_size):
                yield images_NCHW.index_select(0, chosen), labels_N[chosen]  # a tenth of the time of [chosen]
            return
        if isinstance(self.source, FileSource | PackedSource):
            self.source.expect(order_N)
        ahead = max(batch_size, 2 * self.threads)
        found = ordered_map(partial(caught, partial(self.ready, epoch)), map(int, order_N), self.threads, ahead)
        with closing(found):
            for batch in readable(found, batch_size, self.unreadable, self.source):
                images_VCHW, numbers = zip(*batch, strict=True) if batch else ((np.empty(0),), ())
                yield torch.from_numpy(np.concatenate(images_VCHW)), labels_N[list(numbers)]

    def ready(self, epoch: int, index: int) -> tuple[Image, int]:
        """(image of the sample `index`, the number of the image that it really is)."""
        assert self.prepare is not None
        number, image_HWC = self._decoded(index)
        moment = [Purpose.IMAGE, self.seed, epoch, index]
        rng = np.random.default_rng(moment) if self.is_random else _NOTHING_RANDOM
        try:
            return self.prepare(image_HWC, rng), number
        except (DataError, UsageError) as error:
            raise named(error, self.source.location(number)) from None

    def _decoded(self, index: int) -> tuple[int, Image]:
        """The image `index`, or the one that replaces it, with its number."""
        for number in chain(range(index, len(self)), range(index)):
            try:
                return number, self.source.load(number, self.decoding)
            except (DataError, UsageError) as error:
                if self.damaged is None:
                    raise named(error, self.source.location(number)) from None
                self.damaged.note(number, named(error, self.source.location(number)))
        raise DataError("all training images are damaged or missing; see `convolve check-data`")


def transformed(transforms: Sequence[Transform], channels: int, fit: Callable[[Image], Image] | None) -> Prepare:
    """The function that prepares an image for training: resized by `fit`, if given, then transformed, with this many
    planes."""

    def prepare(image_HWC: Image, rng: np.random.Generator) -> Image:
        if fit:
            image_HWC = fit(image_HWC)
        for transform in transforms:
            image_HWC = transform.on_image(image_HWC, rng)
        return to_planes(image_HWC, channels)[None]

    return prepare
