"""What every per-image transform takes and gives: one image, rows by columns by channels, channels in OpenCV's order.

Pixels are uint8 or float32 in 0..255. Three channels are blue, green, red; grey images have one.
As in CNTK, crop, flip and scale keep the type; mean, colour and intensity turn it into float32.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8] | NDArray[np.float32]


def like(image_HWC: Image, result: Any) -> Image:
    """`result` of an OpenCV call as H, W, C with the channels of `image_HWC`: OpenCV drops the axis of a single one."""
    shaped: Image = result.reshape(result.shape[0], result.shape[1], image_HWC.shape[2])
    return shaped


def round_half_up(positive: float) -> int:
    """To the nearest whole number, as C's round does and Python's does not: halves away from zero."""
    return math.floor(positive + 0.5)


def as_float(image_HWC: Image) -> NDArray[np.float32]:
    """The same pixels in float32; no copy where they are already."""
    return image_HWC.astype(np.float32, copy=False)
