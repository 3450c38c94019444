"""A recipe's list of transforms: what size comes out of it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from convolve.transforms.crop import draw_size
from convolve.transforms.image_spec import Crop, Scale
from convolve.transforms.spec import Pad, Transform

Size = tuple[int, int]  # height, width in pixels


def size_after(transforms: Iterable[Transform], size: Size | None) -> Size | None:
    """The size of an image of `size` after `transforms`; None: it differs from image to image."""
    for spec in transforms:
        if isinstance(spec, Scale):
            size = spec.height, spec.width
        elif size and isinstance(spec, Pad):
            size = size[0] + 2 * spec.pixels, size[1] + 2 * spec.pixels
        elif size and isinstance(spec, Crop):
            width, height = draw_size(spec, *size, np.random.default_rng(0))  # draws nothing, unless it varies
            size = None if spec.varies else (height, width)
    return size
