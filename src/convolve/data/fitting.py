"""Images brought to what a network takes, by the model's own description."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convolve.data.damaged import Damaged
from convolve.data.labelled_images import OnDisk
from convolve.data.pictures import Pictures, Samples
from convolve.data.streaming import THREADS, Streamed
from convolve.data.table import RESIDENT_BYTES, Table
from convolve.transforms.preprocess import Preprocess
from convolve.transforms.transform import Image, Size
from convolve.transforms.tta import require_views, views_of

_MEAN_IMAGES = 10_000  # of a set that is not resident: with pixels that deviate by 64, the mean is known to 0.64


def fitted(
    pictures: Pictures,
    want: Preprocess,
    views: int = 1,
    least: Size | None = None,
    threads: int = THREADS,
    damaged: Damaged | None = None,
) -> Samples:
    """`pictures` as test images: what `fit_image` makes of each, or several `views`, one behind the other.

    They are decoded by so many `threads`, and no fewer than `THREADS`. `damaged`: see `Streamed`.
    """
    require_views(want, views)
    pictures = at_hand(pictures, want.channels)
    if isinstance(pictures, Table) and views == 1 and is_fitted(pictures, want):
        return pictures

    def prepare(image_HWC: Image, _: np.random.Generator) -> Image:
        return views_of(image_HWC, want, views)

    return Streamed(
        pictures, prepare, want.channels == 1, least=least, threads=max(THREADS, threads), damaged=damaged, random=False
    )


def at_hand(pictures: Pictures, channels: int) -> Pictures:
    """`pictures`, or the same from memory if they are there with so many channels."""
    table = pictures.table if isinstance(pictures, OnDisk) else None
    return pictures if table is None or table.shape_CHW[0] != channels else table


def is_fitted(table: Table, want: Preprocess) -> bool:
    """Whether `fit_image` would leave each image of `table` as it is."""
    return table.shape_CHW == want.shape_CHW and (want.resize == "cover" or want.side_ratio == 1)


def resident(samples: Samples, shape_CHW: tuple[int, int, int]) -> Samples:
    """`samples` in memory, if they fit there."""
    fits = len(samples) * int(np.prod(shape_CHW)) <= RESIDENT_BYTES
    return samples.load() if isinstance(samples, Streamed) and fits else samples


def mean_image(samples: Samples) -> NDArray[np.float32]:
    """The mean of all images, (C, H, W); of a set that is not resident, of some 10,000 spread over it."""
    numbers_N = np.arange(len(samples))
    if not isinstance(samples, Table):
        numbers_N = numbers_N[:: max(1, len(samples) // _MEAN_IMAGES)]
    total_CHW: NDArray[np.float64] = np.zeros(1)  # whole numbers below 2^53: exact
    for images_NCHW, _ in samples.batches(numbers_N, 1000):
        total_CHW = total_CHW + images_NCHW.numpy().sum(0, dtype=np.uint32)  # torch's sum takes twenty times as long
    return np.ascontiguousarray(total_CHW / len(numbers_N), np.float32)  # sums keep the layout of streamed images
