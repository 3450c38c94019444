"""Mean: subtract a mean image, one value for each channel, or one constant."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convolve.errors import DataError
from convolve.formats.mean_xml import read_mean_xml
from convolve.transforms.image_spec import Mean, WrongSize
from convolve.transforms.pixels import Image, as_float


def load_mean(spec: Mean) -> NDArray[np.float32]:
    """What `spec` subtracts: a mean image (H, W, C), or (1, 1, C) or (1, 1, 1) for `values_bgr`.

    Raises `FormatError` or `MissingDataError` where the file is damaged or not there.
    """
    if spec.file:
        return read_mean_xml(spec.file, spec.layout)
    return np.asarray(spec.values_bgr, np.float32).reshape(1, 1, -1)


def apply_mean(image_HWC: Image, mean_HWC: NDArray[np.float32], wrong_size: WrongSize = "refuse") -> Image:
    """Image minus mean, float32. A mean image of another size is refused, or ignored as CNTK does."""
    same_size = mean_HWC.shape[:2] in ((1, 1), image_HWC.shape[:2])
    if not same_size and wrong_size == "ignore":
        return image_HWC
    if not same_size or mean_HWC.shape[2] not in (1, image_HWC.shape[2]):
        raise DataError(
            f"the mean is {_words(mean_HWC)}, the image {_words(image_HWC)}; scale or crop to the size of the mean "
            'first, or set mean.wrong_size to "ignore" to skip it as CNTK does'
        )
    return as_float(image_HWC) - mean_HWC


def _words(array_HWC: Image) -> str:
    height, width, channels = array_HWC.shape
    return f"{width}x{height} with {channels} channel{'s' if channels > 1 else ''}"
