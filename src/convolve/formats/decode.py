"""Encoded image -> pixels, as CNTK's reader decodes them: through OpenCV, 8 bits, blue-green-red or grey, EXIF
rotation ignored.

Transparency is dropped, 16 bits become 8, of an animation the first picture counts.
"""

from __future__ import annotations

import functools

import cv2
import numpy as np
from numpy.typing import NDArray

from convolve.errors import DataError, FormatError
from convolve.formats.image_header import read_size

MAX_PIXELS = 1 << 26  # 8192 x 8192: 201 MB decoded


def decode_image(
    encoded: bytes, name: object, *, grey: bool = False, max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """The pixels, uint8 (H, W, C): blue, green and red, or one channel with `grey`.

    Raises `FormatError` for what is no image, or a damaged one, and `DataError` for more than `max_pixels`, before
    memory is spent on it; `name` stands for the file in both. Damage inside the pixel data of a JPEG file goes unseen
    where the decoder can go on: it then shows as wrong pixels.
    """
    height, width = read_size(encoded, name)
    if height * width > max_pixels:
        raise DataError(f"{name}: {width} x {height} pixels, more than the limit of {max_pixels}; make it smaller")
    _silence_opencv()
    flags = cv2.IMREAD_IGNORE_ORIENTATION | (cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR)
    try:
        pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise FormatError(name, "", "the image is damaged, or of a variant that OpenCV does not decode; save it anew")
    return pixels.reshape(*pixels.shape[:2], 1 if grey else 3).astype(np.uint8, copy=False)


@functools.cache
def _silence_opencv() -> None:
    """OpenCV logs every damaged file to stderr without its name; our own error names it."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
