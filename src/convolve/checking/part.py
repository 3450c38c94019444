"""A part of a data set as the check goes through it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from convolve.checking.finding import ImageAt
from convolve.data.sources.source import ArraySource, Source
from convolve.formats.decode import Decoding, decode_image
from convolve.formats.image_header import Header, read_header


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

    def decode(self, index: int, content: bytes, decoding: Decoding) -> NDArray[np.uint8]:
        """The image out of its `content`, which was read already. See `Source.load`."""
        if isinstance(self.source, ArraySource):
            return self.source.load(index, decoding)
        limited = replace(decoding, max_pixels=getattr(self.source, "max_pixels", decoding.max_pixels))
        return decode_image(content, self.source.file(index), limited)

    def header(self, index: int, content: bytes) -> Header:
        """What the header of the image in `content` says."""
        if isinstance(self.source, ArraySource):
            return Header("", *self.source.size)
        return read_header(content, self.source.file(index))

    def largest_of_16_bits(self, content: bytes) -> int | None:
        """The largest value in an image of 16 bits; None for others."""
        if isinstance(self.source, ArraySource):
            return None
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        return int(pixels.max()) if pixels is not None and pixels.dtype == np.uint16 else None

    def transparent(self, content: bytes) -> float:
        """The part of an image that is transparent, of its pixels."""
        pixels: Any = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None or pixels.ndim != 3 or pixels.shape[2] != 4:
            return 0.0
        return float((pixels[:, :, 3] <= np.iinfo(pixels.dtype).max // 2).mean())

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
