"""Encoded image -> pixels, as CNTK's reader decodes them: through OpenCV, 8 bits, blue-green-red or grey, EXIF
rotation ignored.

Transparency is dropped, 16 bits become 8, of an animation the first picture counts.
"""

from __future__ import annotations

import functools
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from convolve.errors import DataError, FormatError
from convolve.formats.image_header import read_size

Pixels = NDArray[np.uint8] | NDArray[np.float32]

MAX_PIXELS = 1 << 26  # 8192 x 8192: 201 MB decoded
# For the whole size, a half, a quarter, an eighth: OpenCV's flags for colour and for grey.
_FLAGS = {
    1: (cv2.IMREAD_COLOR, cv2.IMREAD_GRAYSCALE),
    2: (cv2.IMREAD_REDUCED_COLOR_2, cv2.IMREAD_REDUCED_GRAYSCALE_2),
    4: (cv2.IMREAD_REDUCED_COLOR_4, cv2.IMREAD_REDUCED_GRAYSCALE_4),
    8: (cv2.IMREAD_REDUCED_COLOR_8, cv2.IMREAD_REDUCED_GRAYSCALE_8),
}


def decode_image(
    encoded: bytes,
    name: object,
    *,
    grey: bool = False,
    max_pixels: int = MAX_PIXELS,
    least: tuple[int, int] | None = None,
) -> NDArray[np.uint8]:
    """The pixels, uint8 (H, W, C): blue, green and red, or one channel with `grey`.

    A JPEG image that stays at least `least` (height, width) at a half, a quarter or an eighth of its size is decoded
    so, which takes a fraction of the time.

    Raises `FormatError` for what is no image, or a damaged one, and `DataError` for more than `max_pixels`, before
    memory is spent on it; `name` stands for the file in both. Damage inside the pixel data of a JPEG file goes unseen
    where the decoder can go on: it then shows as wrong pixels.
    """
    height, width = read_size(encoded, name)
    if height * width > max_pixels:
        raise DataError(f"{name}: {width} x {height} pixels, more than the limit of {max_pixels}; make it smaller")
    _silence_opencv()
    part = _part(height, width, least) if encoded.startswith(b"\xff\xd8") else 1
    flags = cv2.IMREAD_IGNORE_ORIENTATION | _FLAGS[part][grey]
    try:
        pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise FormatError(name, "", "the image is damaged, or of a variant that OpenCV does not decode; save it anew")
    return pixels.reshape(*pixels.shape[:2], 1 if grey else 3).astype(np.uint8, copy=False)


def _part(height: int, width: int, least: tuple[int, int] | None) -> int:
    """The largest part of the size to decode at, as 1, 2, 4 or 8."""
    if least is None:
        return 1
    return max(part for part in _FLAGS if part == 1 or (height // part >= least[0] and width // part >= least[1]))


@functools.cache
def _silence_opencv() -> None:
    """OpenCV logs every damaged file to stderr without its name; our own error names it."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def without_colour(image_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One channel where all are the same: an image without colour, however it is stored."""
    first_HW = image_HWC[:, :, 0]  # plane by plane: comparing pixel by pixel takes longer than decoding them
    is_grey = all(np.array_equal(first_HW, image_HWC[:, :, c]) for c in range(1, image_HWC.shape[2]))
    return image_HWC[:, :, :1] if is_grey else image_HWC


def to_planes(image_HWC: Pixels, channels: int) -> Pixels:
    """An image, gray or BGR, as one gray plane or three of red, green and blue: (C, H, W).

    In memory red, green and blue of a pixel stay together, as networks take them: batches keep that layout.
    """
    is_gray = image_HWC.shape[2] == 1
    if channels == 1:
        gray: Any = image_HWC if is_gray else cv2.cvtColor(image_HWC, cv2.COLOR_BGR2GRAY)
        plane: Pixels = np.ascontiguousarray(gray.reshape(1, *image_HWC.shape[:2]))
        return plane
    rgb_HWC: Any = np.repeat(image_HWC, 3, axis=2) if is_gray else cv2.cvtColor(image_HWC, cv2.COLOR_BGR2RGB)
    rgb_CHW: Pixels = rgb_HWC.transpose(2, 0, 1)
    return rgb_CHW
