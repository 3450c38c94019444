"""What a model wants its images to be, and how any image becomes that: one description, read by all who ask a model."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from convolve.errors import UsageError, unknown_name
from convolve.transforms.crop import apply_crop, draw_crop
from convolve.transforms.image_spec import MAX_SIDE, Crop, Scale
from convolve.transforms.pixels import Image, like
from convolve.transforms.scale import apply_scale, require_scalable

# Legend: C channel, H row, W column.

ChannelOrder = Literal["rgb", "bgr", "grey"]
Resize = Literal["cover", "square", "squash"]


@dataclass(frozen=True)
class Preprocess:
    """The network sees `(pixel - mean) * scale` of an image with `channels` planes (1: grey; 3: colour) of that size.

    `mean` is one number, or one a channel in the network's own order; `mean_image_CHW`, if there is one, is subtracted
    in its place. `resize` "cover" scales an image of another size to cover the wanted one and cuts the center;
    "square" is what CNTK's examples do: cut the central square of `side_ratio` of the shorter side, then scale it
    linearly; "squash" scales the whole image linearly, whatever that does to its proportions, as CNTK does.
    `margin` pixels of grey level `margin_value` around the image are what training cropped from; only views use them.
    `known_from` says who described all this; empty: nobody did, it is assumed. Raises UsageError for what does not fit
    together, ValueError for sizes that are none.
    """

    channels: int
    height: int
    width: int
    mean: float | tuple[float, ...] = 0.0
    scale: float = 1.0
    channel_order: ChannelOrder | None = None  # None: grey for one channel, else rgb
    resize: Resize = "cover"
    side_ratio: float = 1.0
    margin: int = 0
    margin_value: int = 0
    known_from: str = "training"
    mean_image_CHW: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.channel_order is None:
            object.__setattr__(self, "channel_order", "grey" if self.channels == 1 else "rgb")
        if isinstance(self.mean, list):  # as JSON has it
            object.__setattr__(self, "mean", tuple(self.mean))
        if any(type(size) is not int or size < 1 for size in self.shape_CHW):
            raise ValueError(f"sizes must be whole numbers from 1, they are {self.shape_CHW}")
        for name, choices in (("channel_order", ChannelOrder), ("resize", Resize)):
            value = str(getattr(self, name))
            if value not in get_args(choices):
                raise UsageError(f"preprocess.{name}: {unknown_name('value', value, get_args(choices))}")
        fits = self.channels == (1 if self.channel_order == "grey" else 3)
        _require(
            fits, "channel_order", f"grey for 1 channel, rgb or bgr for 3, not {self.channels}", self.channel_order
        )
        _require(_is_number(self.scale) and self.scale != 0, "scale", "a number other than 0", self.scale)
        _require(_is_number(self.side_ratio) and 0 < self.side_ratio <= 1, "side_ratio", "in (0, 1]", self.side_ratio)
        _require(type(self.margin) is int and 0 <= self.margin <= MAX_SIDE, "margin", f"in 0..{MAX_SIDE}", self.margin)
        level = self.margin_value
        _require(type(level) is int and 0 <= level <= 255, "margin_value", "in 0..255", level)
        means = self.mean if isinstance(self.mean, tuple) else (self.mean,)
        fits = all(map(_is_number, means)) and (not isinstance(self.mean, tuple) or len(means) == self.channels)
        _require(fits, "mean", f"one number or {self.channels}", self.mean)
        shape = self.shape_CHW if self.mean_image_CHW is None else self.mean_image_CHW.shape
        _require(shape == self.shape_CHW, "mean", f"an image {self.shape_CHW}", shape)

    @property
    def shape_CHW(self) -> tuple[int, int, int]:
        return self.channels, self.height, self.width

    @property
    def subtracted(self) -> float | NDArray[np.float32]:
        """The mean, ready to be subtracted from images_NCHW whose planes are in the network's order."""
        if self.mean_image_CHW is not None:
            return self.mean_image_CHW
        return self.mean if isinstance(self.mean, float | int) else np.array(self.mean, np.float32)[:, None, None]

    def mapping(self) -> dict[str, Any]:
        """The fields as JSON takes them, without the mean image."""
        values = asdict(self)
        del values["mean_image_CHW"]
        return values

    def __str__(self) -> str:
        colour = str(self.channel_order) if self.channels == 1 else str(self.channel_order).upper()
        means = self.mean if isinstance(self.mean, tuple) else (self.mean,)
        mean = "mean image" if self.mean_image_CHW is not None else ", ".join(f"{value:g}" for value in means)
        mean = f"({mean})" if isinstance(self.mean, tuple) else mean
        square = "central square" if self.side_ratio == 1 else f"central {self.side_ratio:.10g} of the shorter side"
        crop = {"cover": "", "square": f"{square} scaled to ", "squash": "whole image scaled to "}[self.resize]
        return f"{crop}{self.width}x{self.height} {colour}, (pixel - {mean}) * {self.scale:g}"


def fit_image(image_HWC: np.ndarray, want: Preprocess) -> tuple[np.ndarray, str]:
    """(image_CHW uint8 of the wanted size, grey or in RGB planes; what was done to it in words: "" if nothing).

    `image_HWC` is uint8, grey (C=1) or BGR as OpenCV decodes. "cover" shrinks by area, so that thin strokes survive.
    """
    done = []
    height, width, channels = image_HWC.shape
    fit_HWC = fit_size(image_HWC, want)
    if fit_HWC is not image_HWC:
        how = "scaled" if want.resize == "squash" else "scaled and centre-cropped"
        done.append(f"{how} from {width}x{height} to {want.width}x{want.height}")
    if channels != want.channels:
        done.append("made grey" if want.channels == 1 else "grey repeated in three planes")
    return planes(fit_HWC, want.channels), ", ".join(done)


def fit_size(image_HWC: Image, want: Preprocess) -> Image:
    """The image in the wanted size, its channels as they are."""
    whole = want.resize != "square" or (want.side_ratio == 1 and want.height == want.width)
    if whole and image_HWC.shape[:2] == (want.height, want.width):
        return image_HWC
    if want.resize == "square":
        return _square(image_HWC, want)
    if want.resize == "squash":
        require_scalable(image_HWC, (want.height, want.width), (want.height, want.width))
        return apply_scale(image_HWC, Scale(want.width, want.height))
    return _cover(image_HWC, want.height, want.width)


def planes(image_HWC: Image, channels: int) -> Image:
    """An image, grey or BGR, as one grey plane or three of red, green and blue: (C, H, W).

    In memory red, green and blue of a pixel stay together, as networks take them: batches keep that layout.
    """
    is_grey = image_HWC.shape[2] == 1
    if channels == 1:
        grey: Any = image_HWC if is_grey else cv2.cvtColor(image_HWC, cv2.COLOR_BGR2GRAY)
        plane: Image = np.ascontiguousarray(grey.reshape(1, *image_HWC.shape[:2]))
        return plane
    rgb_HWC: Any = np.repeat(image_HWC, 3, axis=2) if is_grey else cv2.cvtColor(image_HWC, cv2.COLOR_BGR2RGB)
    rgb_CHW: Image = rgb_HWC.transpose(2, 0, 1)
    return rgb_CHW


def _square(image_HWC: Image, want: Preprocess) -> Image:
    """As CNTK's readers: Crop with sideRatio at the centre, then Scale."""
    crop = Crop(side_ratio=(want.side_ratio,))
    height, width, _ = image_HWC.shape
    box = draw_crop(crop, height, width, np.random.default_rng(0))  # at the centre nothing is drawn
    return apply_scale(apply_crop(image_HWC, box), Scale(want.width, want.height))


def _cover(image_HWC: Image, height: int, width: int) -> Image:
    ratio = max(height / image_HWC.shape[0], width / image_HWC.shape[1])
    scaled_width, scaled_height = (
        max(round(side * ratio), least) for side, least in ((image_HWC.shape[1], width), (image_HWC.shape[0], height))
    )
    require_scalable(image_HWC, (scaled_height, scaled_width), (height, width))
    interpolation = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
    scaled = like(image_HWC, cv2.resize(image_HWC, (scaled_width, scaled_height), interpolation=interpolation))
    top, left = (scaled_height - height) // 2, (scaled_width - width) // 2
    return scaled[top : top + height, left : left + width]


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _require(holds: bool, name: str, expected: str, came: object) -> None:
    if not holds:
        raise UsageError(f"preprocess.{name} must be {expected}, got {came!r}")
