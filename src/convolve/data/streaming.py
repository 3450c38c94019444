"""Images that stay where they are and are made ready when they are needed: one by one, in threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
import torch
from numpy.typing import NDArray

from convolve.data.ahead import in_order
from convolve.data.damaged import MOST_NAMED, Damaged
from convolve.data.pictures import Batch, Pictures
from convolve.data.streams import Purpose, generator
from convolve.data.table import Table
from convolve.errors import DataError, UsageError
from convolve.transforms.transform import Image, Size

# Legend: N samples, V views of one image, C channels, H rows, W columns.

THREADS = 4  # each holds the pixels of one image as it was decoded, 201 MB at most
_NOTHING_RANDOM = np.random.default_rng(0)

# (image_HWC as decoded, the generator for its random choices) -> images_VCHW: its views, usually one
Prepare = Callable[[Image, np.random.Generator], Image]


@dataclass(frozen=True, eq=False)
class Streamed:
    """`pictures`, each made ready by `prepare` when its batch is due. See `Samples`.

    What image i is in epoch e is a function of (seed, e, i) alone: neither the order nor the threads matter.
    A damaged image is an error that names it; with `damaged` the next one in the list stands in for it, with its label.
    Memory: the pictures being decoded and the images of two batches.
    """

    pictures: Pictures
    prepare: Prepare
    grey: bool
    seed: int = 0
    least: Size | None = None  # to be given to `pictures.picture`
    threads: int = THREADS
    damaged: Damaged | None = None
    random: bool = True  # whether `prepare` draws anything: to seed a generator costs as much as reading a small image

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def labels_N(self) -> torch.Tensor:
        return self.pictures.labels_N

    @property
    def chunk_N(self) -> NDArray[np.int64] | None:
        return self.pictures.chunk_N

    def batches(self, order_N: NDArray[np.int64], batch_size: int, epoch: int = 0) -> Iterator[Batch]:
        """As `Samples` has it. Raises `DataError` for a damaged image."""

        def ready(index: int) -> tuple[Image, int]:
            return self._ready(index, epoch)

        labels_N = self.labels_N
        images = in_order(ready, map(int, order_N), self.threads, ahead=max(batch_size, 2 * self.threads))
        with closing(images):
            while batch := list(islice(images, batch_size)):
                images_VCHW, numbers = zip(*batch, strict=True)
                yield torch.from_numpy(np.concatenate(images_VCHW)), labels_N[list(numbers)]

    def load(self) -> Table:
        """All samples, in memory. Raises one `DataError` for all damaged images."""

        def ready(index: int) -> tuple[Image, int] | DataError:
            try:
                return self._ready(index, 0)
            except DataError as error:
                return error

        images_NCHW, numbers, damaged = None, np.arange(len(self)), []
        for index, found in enumerate(in_order(ready, range(len(self)), self.threads, ahead=64 * self.threads)):
            if isinstance(found, DataError):
                damaged.append((index, found))
                continue
            image, numbers[index] = found
            if images_NCHW is None:
                images_NCHW = np.empty((len(self), *image.shape[1:]), np.uint8)
            images_NCHW[index] = image[0]
        if images_NCHW is None or damaged:
            raise self._all_damaged(damaged)
        return Table(torch.from_numpy(images_NCHW), self.labels_N[torch.from_numpy(numbers)], self.chunk_N)

    def _ready(self, index: int, epoch: int) -> tuple[Image, int]:
        """(the image of the sample `index`, the number of the picture that it is)."""
        number, image_HWC = self._decoded(index)
        with naming(self.pictures.place(number)):
            rng = generator(Purpose.IMAGE, self.seed, epoch, index) if self.random else _NOTHING_RANDOM
            return self.prepare(image_HWC, rng), number

    def _decoded(self, index: int) -> tuple[int, Image]:
        """The picture `index`, or the one that stands in for it, with its number."""
        for number in chain(range(index, len(self)), range(index)):
            try:
                with naming(self.pictures.place(number)):
                    return number, self.pictures.picture(number, grey=self.grey, least=self.least)
            except DataError as error:
                if self.damaged is None:
                    raise
                self.damaged.note(number, error)
        raise DataError("all training images are damaged or missing; see `convolve check-data`")

    def _all_damaged(self, damaged: list[tuple[int, DataError]]) -> DataError:
        if len(damaged) == 1:
            return damaged[0][1]
        names = "; ".join(self.pictures.place(index) for index, _ in damaged[1:MOST_NAMED])
        more = f" and {len(damaged) - MOST_NAMED} more" if len(damaged) > MOST_NAMED else ""
        return DataError(f"{len(damaged)} of {len(self)} images are damaged or missing: {damaged[0][1]}; {names}{more}")


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Give errors about one image the `place` where it is listed."""
    try:
        yield
    except (DataError, UsageError) as error:
        raise DataError(str(error) if str(error).startswith(place) else f"{place}: {error}") from None
