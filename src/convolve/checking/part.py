"""A list of labelled images as the check goes through it, whatever form it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convolve.data.labelled_images import OnDisk
from convolve.data.table import Table
from convolve.formats.base64_map import Base64Map
from convolve.formats.decode import decode_image, to_planes
from convolve.transforms.transform import Size

# Legend: N images, C channels, H rows, W columns.

REFUSED = -1  # the label of a line that could not be read


@dataclass(frozen=True, eq=False)
class Part:
    """The training or the test part; `name` says which.

    `place` names file and line (or byte) of an image. `class_names` is None where classes have no names but numbers.
    """

    name: str
    pictures: OnDisk | Table
    labels_N: NDArray[np.int64]
    class_names: tuple[str, ...] | None
    place: Callable[[int], str]

    def __len__(self) -> int:
        return len(self.labels_N)

    def content(self, index: int) -> bytes:
        """The bytes that two images have in common if they are the same: of the file, or of the pixels in a table."""
        if isinstance(self.pictures, Table):
            return self.pictures.images_NCHW[index].numpy().tobytes()
        return self.pictures.encoded(index)

    def decode(self, index: int, content: bytes, *, grey: bool, least: Size | None = None) -> NDArray[np.uint8]:
        """The image (H, W, C), grey or blue, green and red, out of its `content`; see `decode_image`."""
        if not isinstance(self.pictures, Table):
            return decode_image(content, self.image(index), grey=grey, least=least)
        image_HWC = self.pictures.picture(index, grey=grey)
        return to_planes(image_HWC, 1).transpose(1, 2, 0) if grey else image_HWC  # type: ignore[return-value]  # uint8

    def image(self, index: int) -> str:
        """The file of the image; where it has none, its place in the list."""
        if isinstance(self.pictures, Table) or isinstance(self.pictures.images, Base64Map):
            return self.place(index)
        return str(self.pictures.images.location(index))

    def full_place(self, index: int) -> str:
        """Place and file of the image, for messages."""
        place, image = self.place(index), self.image(index)
        return place if place == image else f"{place}: {image}"

    def label(self, index: int) -> str:
        """The class of an image as a person calls it."""
        number = int(self.labels_N[index])
        return self.class_names[number] if self.class_names and number < len(self.class_names) else str(number)
