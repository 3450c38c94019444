"""Crop: choose a rectangle as CNTK's CropTransformer does, then cut it out.

Source: `Source/Readers/ImageReader/ImageTransformers.cpp` of CNTK 2.7; checked against its output.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from convolve.transforms.flip import apply_flip
from convolve.transforms.image_spec import Crop, Ratio
from convolve.transforms.pixels import Image, round_half_up

VIEWS = 10  # of "multiview10"
_ATTEMPTS = 10  # CNTK then gives up and takes the whole image


@dataclass(frozen=True)
class CropBox:
    """A rectangle in pixels, and whether it is mirrored after it was cut out."""

    left: int
    top: int
    width: int
    height: int
    mirrored: bool = False


def draw_crop(spec: Crop, height: int, width: int, rng: np.random.Generator, view: int = 0) -> CropBox:
    """The rectangle for one image of `height` x `width` pixels; `view` 0..9 counts the views of "multiview10".

    Draws in this order, and only where there is a choice: ratio, aspect ratio, flat or tall, left, top, mirrored.
    """
    box_width, box_height = draw_size(spec, height, width, rng)
    right, down = width - box_width, height - box_height
    if spec.crop_type == "multiview10":
        corners = ((0, 0), (right, 0), (0, down), (right, down), (right // 2, down // 2))
        left, top = corners[view % 5]
        return CropBox(left, top, box_width, box_height, mirrored=view % VIEWS >= 5)
    if spec.crop_type == "center":
        left, top = right // 2, down // 2
    else:
        left, top = int(rng.integers(right + 1)), int(rng.integers(down + 1))
    return CropBox(left, top, box_width, box_height, mirrored=spec.mirrors and bool(rng.random() < 0.5))


def apply_crop(image_HWC: Image, box: CropBox) -> Image:
    """The pixels inside `box`: a view of the image, or a mirrored copy."""
    cut = image_HWC[box.top : box.top + box.height, box.left : box.left + box.width]
    return apply_flip(cut, box.mirrored)


def draw_size(spec: Crop, height: int, width: int, rng: np.random.Generator) -> tuple[int, int]:
    """Width and height of the rectangle, at least one pixel each; nothing is drawn unless `spec.varies`."""
    if spec.crop_width:
        return min(width, spec.crop_width), min(height, spec.crop_height)
    box_width, box_height = width, height
    for _ in range(_ATTEMPTS):
        if spec.side_ratio:
            box_width = box_height = round_half_up(min(height, width) * _draw_ratio(spec, spec.side_ratio, rng))
        elif spec.area_ratio:
            box_width = box_height = round_half_up(math.sqrt(height * width * _draw_ratio(spec, spec.area_ratio, rng)))
        aspect = _draw_ratio(spec, spec.aspect_ratio, rng)
        if aspect != 1:
            area = box_width * box_height
            shorter, longer = int(math.sqrt(area * aspect)), int(math.sqrt(area / aspect))
            box_width, box_height = (shorter, longer) if rng.random() < 0.5 else (longer, shorter)
        if box_width <= width and box_height <= height:
            return max(box_width, 1), max(box_height, 1)
    return width, height


def _draw_ratio(spec: Crop, ratio: Ratio, rng: np.random.Generator) -> float:
    low, high = float(np.float32(ratio[0])), float(np.float32(ratio[-1]))  # CNTK parses ratios as 32-bit floats
    return float(rng.uniform(low, high)) if spec.jitter_type == "uniratio" and low < high else low
