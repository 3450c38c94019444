"""Images in files that are small and of one size: they are decoded once, and their size is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from convolve.data.dataset import CACHE_BYTES, THREADS
from convolve.data.ordered_map import ordered_map
from convolve.data.sources.files import FileSource
from convolve.data.sources.source import ArraySource, Source
from convolve.errors import DataError
from convolve.formats.decode import read_size, to_planes
from convolve.transforms.transform import Image, Size

SMALL_SIDE = 96  # pixels; images that are all of one size up to this are taken as they are


def measured(source: Source, channels: int) -> Source:
    """`source` with the `size` that all its images have; from memory, with so many channels, if they fit there."""
    if not isinstance(source, FileSource):
        return source
    return _in_memory(source, channels) or replace(source, size=_common_size(source))


def _in_memory(source: Source, channels: int) -> ArraySource | None:
    """All images as they are; None where they are too many or too large for that, of several sizes, or damaged."""

    def decoded(index: int) -> Image | None:
        try:
            return to_planes(source.load(index, gray=channels == 1), channels)
        except DataError:
            return None

    first_CHW = decoded(0)
    if first_CHW is None or max(first_CHW.shape[1:]) > SMALL_SIDE or len(source) * first_CHW.size > CACHE_BYTES:
        return None
    images_NCHW = np.empty((len(source), *first_CHW.shape), np.uint8)
    for index, image_CHW in enumerate(ordered_map(decoded, range(len(source)), THREADS, ahead=64 * THREADS)):
        if image_CHW is None or image_CHW.shape != first_CHW.shape:
            return None
        images_NCHW[index] = image_CHW
    images = torch.from_numpy(images_NCHW)
    return ArraySource(images, source.labels_N, source.chunk_N, source.class_names, source.location)


def _common_size(source: Source) -> Size | None:
    """The size of all images if they have one and it is small; damaged ones are met when they are decoded."""

    def size(index: int) -> Size | None:
        try:
            return read_size(source.read(index), source.location(index))
        except DataError:
            return None

    common: Size | None = None
    for found in ordered_map(size, range(len(source)), THREADS, ahead=4 * THREADS):
        if found and (max(found) > SMALL_SIDE or (common and found != common)):
            return None
        common = found or common
    return common
