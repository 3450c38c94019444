"""Test images, fitted to a network by the model's own preprocessing."""

import numpy as np

from convolve.data.damaged import Damaged, Unreadable
from convolve.data.dataset import THREADS, Dataset
from convolve.data.sources.source import ArraySource, Source
from convolve.transforms.preprocess import Preprocess
from convolve.transforms.transform import Image
from convolve.transforms.tta import require_views, views_of


def eval_dataset(
    source: Source,
    preprocess: Preprocess,
    views: int = 1,
    *,
    threads: int = THREADS,
    damaged: Damaged | None = None,
    unreadable: Unreadable | None = None,
) -> Dataset:
    """The images of `source`, fitted by `fit_image` for a model, or several consecutive `views` of each.

    They are decoded by this many `threads`, and no fewer than `THREADS`. An image that cannot be decoded is an error,
    or with `damaged` another replaces it; `unreadable` collects all of them, or skips them.
    """
    require_views(preprocess, views)
    if isinstance(source, ArraySource) and views == 1 and is_fitted(source, preprocess):
        return Dataset(source)

    def prepare(image_HWC: Image, _: np.random.Generator) -> Image:
        return views_of(image_HWC, preprocess, views)

    return Dataset(
        source, prepare, preprocess.decoding(), threads=max(THREADS, threads),
        damaged=damaged, unreadable=unreadable, is_random=False,
    )  # fmt: skip


def is_fitted(source: ArraySource, preprocess: Preprocess) -> bool:
    """Whether `fit_image` would leave each image unchanged."""
    return source.shape_CHW[0] == preprocess.channels and preprocess.leaves(source.size)
