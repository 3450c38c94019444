"""A part of a data set as the check goes through it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from convolve.checking.finding import ImageAt
from convolve.data.sources.source import ArraySource, Source
from convolve.formats.decode import decode_image, read_size
from convolve.transforms.transform import Size


@dataclass(frozen=True, eq=False)
class Part:
    """The training or the test part; `name` says which."""

    name: str
    source: Source

    def __len__(self) -> int:
        return len(self.source)

    @cached_property
    def labels_N(self) -> NDArray[np.int64]:
        return self.source.labels_N.numpy()

    def decode(self, index: int, content: bytes, *, gray: bool, min_size: Size | None = None) -> NDArray[np.uint8]:
        """The image out of its `content`, which was read already. See `Source.load`."""
        if isinstance(self.source, ArraySource):
            return self.source.load(index, gray=gray)
        return decode_image(content, self.source.file(index), gray=gray, min_size=min_size)

    def size(self, index: int, content: bytes) -> Size:
        """(rows, columns) of the image in `content`, as its header says."""
        if isinstance(self.source, ArraySource):
            return self.source.size
        return read_size(content, self.source.file(index))

    def largest_of_16_bits(self, content: bytes) -> int | None:
        """The largest value in an image of 16 bits; None for others."""
        if isinstance(self.source, ArraySource):
            return None
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        return int(pixels.max()) if pixels is not None and pixels.dtype == np.uint16 else None

    def at(self, index: int) -> tuple[ImageAt]:
        """What findings call the image."""
        return ((self.name, index),)

    def full_location(self, index: int) -> str:
        """Where the image is listed, and its file, for messages."""
        location, file = self.source.location(index), self.source.file(index)
        return location if location == file else f"{location}: {file}"

    def label(self, index: int) -> str:
        """The class of an image as a person calls it."""
        number, names = int(self.labels_N[index]), self.source.class_names
        return names[number] if names and number < len(names) else str(number)
