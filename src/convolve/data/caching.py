"""Which images are decoded once and cached in memory: those that fit."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from convolve.data.damaged import Failure, Unreadable, caught
from convolve.data.dataset import THREADS, Dataset
from convolve.data.ordered_map import ordered_map
from convolve.data.sources.files import FileSource
from convolve.data.sources.source import ArraySource, Source
from convolve.errors import DataError
from convolve.formats.decode import Decoding, to_planes
from convolve.transforms.transform import Image, Size

CACHE_BYTES = 1 << 31  # of one part of a data set; what is larger is decoded anew in each epoch
SMALL_SIDE = 96  # pixels; images that are all of one size up to this are taken as they are


def cached(dataset: Dataset, size: Size) -> Dataset:
    """The same, cached in memory if images of `size` fit there."""
    fits = len(dataset) * (1 if dataset.decoding.gray else 3) * size[0] * size[1] <= CACHE_BYTES
    return Dataset(load(dataset)) if fits and not dataset.is_cached else dataset


def load(dataset: Dataset) -> ArraySource:
    """All samples of what is not cached yet, except those that `unreadable` skips.

    Raises one `DataError` for all others that cannot be read.
    """
    source, images_NCHW, numbers = dataset.source, None, np.arange(len(dataset))
    unreadable = Unreadable() if dataset.unreadable is None else dataset.unreadable
    samples = ordered_map(
        partial(caught, partial(dataset.ready, 0)), range(len(dataset)), dataset.threads, 64 * dataset.threads
    )
    for index, found in enumerate(samples):
        if isinstance(found, Failure):
            unreadable.note(index, source.location(index), found.error)
            continue
        image, numbers[index] = found
        if images_NCHW is None:
            images_NCHW = np.empty((len(dataset), *image.shape[1:]), image.dtype)
        images_NCHW[index] = image[0]
    unreadable.require(len(dataset))
    assert images_NCHW is not None  # nothing else is more than may be left out
    labels_N = source.labels_N[torch.from_numpy(numbers)]
    whole = ArraySource(torch.from_numpy(images_NCHW), labels_N, source.chunk_N, source.class_names, source.location)
    return whole.take(np.setdiff1d(np.arange(len(dataset)), [*unreadable.numbers])) if unreadable else whole


def measured(source: Source, decoding: Decoding) -> Source:
    """`source` with the common `size` of all its images; from memory, in gray or in color, if they fit."""
    if not isinstance(source, FileSource):
        return source
    return _in_memory(source, decoding) or replace(source, size=_common_size(source, decoding))


def _in_memory(source: Source, decoding: Decoding) -> ArraySource | None:
    """All images unchanged; None if they are too many or too large, of several sizes, or damaged."""
    shape_CHW: tuple[int, ...] = ()

    def planes(image_HWC: Image, _: np.random.Generator) -> Image:
        image_CHW = to_planes(image_HWC, 1 if decoding.gray else 3)
        if image_CHW.shape != (shape_CHW or image_CHW.shape):
            raise _OtherSizeError
        return image_CHW[None]

    dataset = Dataset(source, planes, decoding, is_random=False)
    try:
        shape_CHW = dataset.ready(0, 0)[0].shape[1:]
        fits = max(shape_CHW[1:]) <= SMALL_SIDE and len(source) * math.prod(shape_CHW) <= CACHE_BYTES
        return load(dataset) if fits else None
    except (DataError, _OtherSizeError):
        return None


class _OtherSizeError(Exception):
    """An image differs in size from the first one: the others need not be decoded."""


def _common_size(source: FileSource, decoding: Decoding) -> Size | None:
    """The size of all images, if it is the same and small; damaged ones are reported when they are decoded."""

    def size(index: int) -> Size | None:
        try:
            return source.stored_size(index, decoding)
        except DataError:
            return None

    common: Size | None = None
    for found in ordered_map(size, range(len(source)), THREADS, ahead=4 * THREADS):
        if found and (max(found) > SMALL_SIDE or (common and found != common)):
            return None
        common = found or common
    return common
