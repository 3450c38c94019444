"""The image reader's transforms, under CNTK's names."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from convolve.formats.mean_xml import read_mean_xml
from convolve.transforms.color import Color
from convolve.transforms.crop import Crop
from convolve.transforms.scale import Scale
from convolve.transforms.transform import Image, Size, Transform

__all__ = ["color", "crop", "mean", "scale"]


def crop(
    crop_type: str = "center", crop_size: Any = 0, side_ratio: Any = 0.0, area_ratio: Any = 0.0,
    aspect_ratio: Any = 1.0, jitter_type: str = "none",
) -> dict[str, Any]:  # fmt: skip
    """Crops a part: the center, or any part (and then half of the images are mirrored)."""
    return {
        "type": "Crop", "cropType": crop_type, "cropSize": _pair(crop_size), "sideRatio": _pair(side_ratio),
        "areaRatio": _pair(area_ratio), "aspectRatio": _pair(aspect_ratio), "jitterType": jitter_type,
    }  # fmt: skip


def scale(
    width: int, height: int, channels: int, interpolations: str = "linear", scale_mode: str = "fill",
    pad_value: int = -1,
) -> dict[str, Any]:  # fmt: skip
    """Resizes to `width` x `height`."""
    return {
        "type": "Scale", "width": width, "height": height, "channels": channels, "interpolations": interpolations,
        "scaleMode": scale_mode, "padValue": pad_value,
    }  # fmt: skip


def mean(filename: str) -> dict[str, Any]:
    """Subtracts the mean image in this file."""
    return {"type": "Mean", "meanFile": filename}


def color(
    brightness_radius: float = 0.0, contrast_radius: float = 0.0, saturation_radius: float = 0.0
) -> dict[str, Any]:
    """Changes brightness, contrast and saturation at random, up to these radii."""
    return {
        "type": "Color", "brightnessRadius": brightness_radius, "contrastRadius": contrast_radius,
        "saturationRadius": saturation_radius,
    }  # fmt: skip


def _pair(value: Any) -> str:
    """One number or two, as CNTK's configurations allow."""
    values = value if isinstance(value, tuple | list) else (value, value)
    if len(values) != 2:
        raise ValueError(f"one number or two are expected, got {value!r}")
    return ":".join(f"{each:g}" for each in values)


def _numbers(text: str) -> tuple[float, ...]:
    """The inverse of `_pair`: () for none, one number if both are the same."""
    low, high = map(float, text.split(":"))
    return () if high == 0 else (low,) if low == high else (low, high)


@dataclass(frozen=True)
class Mean(Transform):
    """Subtracts a mean image from images of its size; like CNTK, passes other images unchanged."""

    file: str

    @cached_property
    def mean_HWC(self) -> Image:
        return read_mean_xml(self.file)

    def on_image(self, image_HWC: Image, rng: np.random.Generator) -> Image:
        image_HWC = image_HWC.astype(np.float32, copy=False)
        return image_HWC - self.mean_HWC if image_HWC.shape == self.mean_HWC.shape else image_HWC


def _crop(words: dict[str, Any]) -> Crop:
    width, height = map(int, map(float, words["cropSize"].split(":")))
    return Crop(
        words["cropType"].lower(), width, height, side_ratio=() if width else _numbers(words["sideRatio"]),
        area_ratio=() if width else _numbers(words["areaRatio"]), aspect_ratio=_numbers(words["aspectRatio"]) or (1.0,),
        jitter_type=words["jitterType"].lower(),
    )  # fmt: skip


def _scale(words: dict[str, Any]) -> Scale:
    ways = (words["interpolations"].lower(), words["scaleMode"].lower())
    return Scale(words["width"], words["height"], *ways, pad_value=words["padValue"])


def _color(words: dict[str, Any]) -> Color:
    return Color(words["brightnessRadius"], words["contrastRadius"], words["saturationRadius"])


_MAKERS: dict[str, Callable[[dict[str, Any]], Transform]] = {
    "Crop": _crop, "Scale": _scale, "Color": _color, "Mean": lambda words: Mean(words["meanFile"]),
}  # fmt: skip


def made(listed: Sequence[dict[str, Any]]) -> tuple[Transform, ...]:
    """The transforms of convolve for these. Raises `UsageError` for values out of range."""
    return tuple(_MAKERS[words["type"]](words) for words in listed)


def is_random(transforms: Sequence[Transform]) -> bool:
    """Whether any of them draws numbers."""
    crops = [each for each in transforms if isinstance(each, Crop)]
    free = any(crop.crop_type.startswith("random") or crop.varies for crop in crops)
    return free or any(isinstance(each, Color) and each != Color() for each in transforms)


def sample_shape(transforms: Sequence[Transform]) -> tuple[int, ...]:
    """(C, H, W), as far as the transforms determine it."""
    size: Size | None = None
    for transform in transforms:
        if isinstance(transform, Crop) and transform.crop_width and size is None:
            size = (transform.crop_height, transform.crop_width)
        size = transform.size_after(size)
    return (3, *size) if size else ()
