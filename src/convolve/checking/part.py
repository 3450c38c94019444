"""A part of a data set, as the check reads it."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from convolve.checking.finding import ImageAt
from convolve.data.sources.source import UNLABELED, ArraySource, Source
from convolve.formats.decode import Decoding, decode_image
from convolve.formats.image_header import Header, read_header
from convolve.formats.table import TargetName


@dataclass(frozen=True, eq=False)
class Part:
    """The training or the test part; `name` says which. `target`: the kind of labels, see `DataSpec`."""

    name: str
    source: Source
    target: TargetName = "class"

    def __len__(self) -> int:
        return len(self.source)

    @cached_property
    def labels_N(self) -> NDArray[np.int64]:
        """Labels as numbers; for images with several classes, or numbers, equal labels get the same number."""
        labels: NDArray[Any] = self.source.labels_N.numpy()
        if labels.ndim == 1:
            return labels
        labels_N: NDArray[np.int64] = np.unique(labels, axis=0, return_inverse=True)[1].reshape(-1)
        return np.where(np.isnan(labels).any(1), UNLABELED, labels_N)

    def decode(self, index: int, content: bytes, decoding: Decoding) -> NDArray[np.uint8]:
        """Decode the image in `content`, which has already been read. See `Source.load`."""
        if isinstance(self.source, ArraySource):
            return self._as_bytes(self.source.load(index, decoding))
        limited = replace(decoding, max_pixels=getattr(self.source, "max_pixels", decoding.max_pixels))
        return decode_image(content, self.source.file(index), limited)

    def _as_bytes(self, image_HWC: NDArray[Any]) -> NDArray[np.uint8]:
        """Values that are not bytes, scaled from their minimum to their maximum as gray levels."""
        if image_HWC.dtype == np.uint8:
            return image_HWC
        low, high = self._range
        return np.rint((image_HWC - low) * (255 / max(high - low, 1e-30))).astype(np.uint8)

    @cached_property
    def _range(self) -> tuple[float, float]:
        assert isinstance(self.source, ArraySource)  # image files hold bytes
        return float(self.source.images_NCHW.min()), float(self.source.images_NCHW.max())

    def header(self, index: int, content: bytes) -> Header:
        """The header of the image in `content`."""
        if isinstance(self.source, ArraySource):
            return Header("", *self.source.size)
        return read_header(content, self.source.file(index))

    def largest_of_16_bits(self, content: bytes) -> int | None:
        """The largest value in a 16-bit image; None for others."""
        if isinstance(self.source, ArraySource):
            return None
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        return int(pixels.max()) if pixels is not None and pixels.dtype == np.uint16 else None

    def transparent(self, content: bytes) -> float:
        """The fraction of the image's pixels that is transparent."""
        pixels: Any = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None or pixels.ndim != 3 or pixels.shape[2] != 4:
            return 0.0
        return float((pixels[:, :, 3] <= np.iinfo(pixels.dtype).max // 2).mean())

    def at(self, index: int) -> tuple[ImageAt]:
        """The name of the image in findings."""
        return ((self.name, index),)

    def full_location(self, index: int) -> str:
        """Where the image is listed, and its file, for messages."""
        location, file = self.source.location(index), self.source.file(index)
        return location if location == file else f"{location}: {file}"

    def labels(self, index: int) -> list[str]:
        """The class of an image by name, all of its classes, or its numbers."""
        label, names = self.source.labels_N[index].numpy(), self.source.class_names or ()
        if self.target == "number":
            return [str(value) for value in label]  # float32: with as few digits as identify it
        if self.target == "classes":
            return [name for name, holds in zip(names, label == 1, strict=True) if holds]
        return [names[label] if label < len(names) else str(label)]

    def label(self, index: int) -> str:
        """The same as text."""
        return ", ".join(self.labels(index)) or "none"
