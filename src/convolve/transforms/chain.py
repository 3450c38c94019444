"""A recipe's list of transforms: done to one image, and what size comes out of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cache

import cv2
import numpy as np

from convolve.errors import UsageError
from convolve.formats.mean_xml import ColourAxes, read_colour_axes
from convolve.transforms.batch import fits_batches
from convolve.transforms.colour import apply_colour, draw_colour
from convolve.transforms.crop import apply_crop, draw_crop, draw_size
from convolve.transforms.flip import apply_flip, draw_flip
from convolve.transforms.image_spec import Colour, Crop, Flip, Intensity, Scale
from convolve.transforms.intensity import apply_intensity, draw_intensity
from convolve.transforms.pixels import Image, like
from convolve.transforms.scale import apply_scale
from convolve.transforms.spec import TRANSFORMS, Pad, Transform

Size = tuple[int, int]  # height, width in pixels


def _pad(image_HWC: Image, spec: Pad, _: np.random.Generator) -> Image:
    return apply_pad(image_HWC, spec)


def _crop(image_HWC: Image, spec: Crop, rng: np.random.Generator) -> Image:
    height, width, _ = image_HWC.shape
    return apply_crop(image_HWC, draw_crop(spec, height, width, rng))


def _flip(image_HWC: Image, spec: Flip, rng: np.random.Generator) -> Image:
    return apply_flip(image_HWC, draw_flip(spec, rng))


def _scale(image_HWC: Image, spec: Scale, _: np.random.Generator) -> Image:
    return apply_scale(image_HWC, spec)


def _colour(image_HWC: Image, spec: Colour, rng: np.random.Generator) -> Image:
    return apply_colour(image_HWC, draw_colour(spec, rng))


def _intensity(image_HWC: Image, spec: Intensity, rng: np.random.Generator) -> Image:
    return apply_intensity(image_HWC, draw_intensity(spec, rng), _axes(spec.file))


# What can be done to a single image of any size: draw, then apply.
_IMAGE_TRANSFORMS: dict[type[Transform], Callable[..., Image]] = {
    Pad: _pad,
    Crop: _crop,
    Flip: _flip,
    Scale: _scale,
    Colour: _colour,
    Intensity: _intensity,
}


def transform_image(image_HWC: Image, transforms: Iterable[Transform], rng: np.random.Generator) -> Image:
    """`transforms` of one image, in order; all choices come from `rng`. Pixels in 0..255, uint8 or float32."""
    for spec in transforms:
        image_HWC = _IMAGE_TRANSFORMS[type(spec)](image_HWC, spec, rng)
    return image_HWC


def read_files(transforms: Iterable[Transform]) -> None:
    """Read the files that `transforms` name: what is wrong with one would else be said of the first image."""
    for spec in transforms:
        if isinstance(spec, Intensity):
            _axes(spec.file)


def apply_pad(image_HWC: Image, spec: Pad) -> Image:
    """The image with a border of `spec.value`."""
    border = spec.border(*image_HWC.shape[:2])
    value = (float(spec.value),) * 4
    return like(image_HWC, cv2.copyMakeBorder(image_HWC, *(border,) * 4, cv2.BORDER_CONSTANT, value=value))


def split_chain(transforms: Sequence[Transform]) -> tuple[Sequence[Transform], Sequence[Transform]]:
    """(what must be done image by image, what can then be done to whole batches).

    Raises `UsageError` for a transform of batches before one that images of one size cannot have.
    """
    count = max((place + 1 for place, spec in enumerate(transforms) if not fits_batches(spec)), default=0)
    names = {kind: name for name, kind in TRANSFORMS.items()}
    for spec in transforms[:count]:
        if type(spec) not in _IMAGE_TRANSFORMS:
            raise UsageError(
                f"data.train_transforms: {names[type(spec)]} works on images of one size; put it behind "
                f"{names[type(transforms[count - 1])]}"
            )
    return transforms[:count], transforms[count:]


def size_after(transforms: Iterable[Transform], size: Size | None) -> Size | None:
    """The size of an image of `size` after `transforms`; None: it differs from image to image."""
    for spec in transforms:
        if isinstance(spec, Scale):
            size = spec.height, spec.width
        elif size and isinstance(spec, Pad):
            border = spec.border(*size)
            size = size[0] + 2 * border, size[1] + 2 * border
        elif size and isinstance(spec, Crop):
            width, height = draw_size(spec, *size, np.random.default_rng(0))  # draws nothing, unless it varies
            size = None if spec.varies else (height, width)
    return size


def least_source(transforms: Sequence[Transform]) -> Size | None:
    """The smallest image of which nothing has to be enlarged if `transforms` crop and then scale; None: unknown."""
    match transforms:
        case [Scale() as scale, *_]:
            return scale.height, scale.width
        case [Crop(crop_width=0) as crop, Scale() as scale, *_]:
            part = crop.side_ratio[0] if crop.side_ratio else math.sqrt(crop.area_ratio[0] if crop.area_ratio else 1)
            side = math.ceil(max(scale.height, scale.width) / (part * math.sqrt(crop.aspect_ratio[0])))
            return side, side
    return None


@cache
def _axes(path: str) -> ColourAxes:
    return read_colour_axes(path)
