"""What a model wants its images to be, and how any image becomes that: one description, read by all who ask a model."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from convolve.formats.decode import MAX_PIXELS, Decoding, Orientation, to_planes
from convolve.transforms.crop import Crop, cut_box
from convolve.transforms.scale import Scale, require_scalable
from convolve.transforms.transform import MAX_SIDE, Image, require, require_one_of, with_channel_axis

# Legend: C channel, H row, W column.

ChannelOrder = Literal["rgb", "bgr", "gray"]
Resize = Literal["cover", "square", "squash"]

TURNED = {
    "exif": "turned as EXIF says",
    "stored": "as stored, whatever EXIF says",
    "cntk": "turned as EXIF says but in zip archives and base64, as by CNTK",
}
_NOTHING_DRAWN = np.random.default_rng(0)  # by a crop at the center


@dataclass(frozen=True)
class Preprocess:
    """The network sees `(pixel - mean) * scale` of an image with `channels` planes (1: gray; 3: color) of that size.

    `mean` is one number, or one a channel in the network's own order; `mean_image_CHW`, if there is one, is subtracted
    in its place. `resize` "cover" scales an image of another size to cover the wanted one and cuts the center;
    "square" is what CNTK's examples do: cut the central square of `side_ratio` of the shorter side, then scale it
    linearly; "squash" scales the whole image linearly, whatever that does to its proportions, as CNTK does.
    `orientation`: whether photographs are turned as EXIF says; see `formats/decode.py`.
    `padding` pixels of gray level `padding_value` around the image are what training cropped from; only test-time
    augmentation uses them.
    `known_from` says who described all this; empty: nobody did, it is assumed. Raises UsageError for what does not fit
    together, ValueError for sizes that are none.
    """

    channels: int
    height: int
    width: int
    mean: float | tuple[float, ...] = 0.0
    scale: float = 1.0
    channel_order: ChannelOrder | None = None  # None: gray for one channel, else rgb
    resize: Resize = "cover"
    side_ratio: float = 1.0
    padding: int = 0
    padding_value: int = 0
    orientation: Orientation = "exif"
    known_from: str = "training"
    mean_image_CHW: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.channel_order is None:
            object.__setattr__(self, "channel_order", "gray" if self.channels == 1 else "rgb")
        if isinstance(self.mean, list):  # as JSON has it
            object.__setattr__(self, "mean", tuple(self.mean))
        if any(type(size) is not int or size < 1 for size in self.shape_CHW):
            raise ValueError(f"sizes must be whole numbers from 1, they are {self.shape_CHW}")
        for name, choices in (("channel_order", ChannelOrder), ("resize", Resize), ("orientation", Orientation)):
            require_one_of(f"preprocess.{name}", str(getattr(self, name)), choices)
        fits = self.channels == (1 if self.channel_order == "gray" else 3)
        known = f"gray for 1 channel, rgb or bgr for 3, not {self.channels}"
        require(fits, "preprocess.channel_order", known, self.channel_order)
        require(_is_number(self.scale) and self.scale != 0, "preprocess.scale", "a number other than 0", self.scale)
        side_ratio, padding, level = self.side_ratio, self.padding, self.padding_value
        require(_is_number(side_ratio) and 0 < side_ratio <= 1, "preprocess.side_ratio", "in (0, 1]", side_ratio)
        is_padding = type(padding) is int and 0 <= padding <= MAX_SIDE
        require(is_padding, "preprocess.padding", f"in 0..{MAX_SIDE}", padding)
        require(type(level) is int and 0 <= level <= 255, "preprocess.padding_value", "in 0..255", level)
        means = self.mean if isinstance(self.mean, tuple) else (self.mean,)
        fits = all(map(_is_number, means)) and (not isinstance(self.mean, tuple) or len(means) == self.channels)
        require(fits, "preprocess.mean", f"one number or {self.channels}", self.mean)
        shape = self.shape_CHW if self.mean_image_CHW is None else self.mean_image_CHW.shape
        require(shape == self.shape_CHW, "preprocess.mean", f"an image {self.shape_CHW}", shape)

    @property
    def shape_CHW(self) -> tuple[int, int, int]:
        return self.channels, self.height, self.width

    @property
    def subtracted(self) -> float | NDArray[np.float32]:
        """The mean, ready to be subtracted from images_NCHW whose planes are in the network's order."""
        if self.mean_image_CHW is not None:
            return self.mean_image_CHW
        return self.mean if isinstance(self.mean, float | int) else np.array(self.mean, np.float32)[:, None, None]

    def decoding(self, max_pixels: int = MAX_PIXELS) -> Decoding:
        """How the images are decoded that are then made fit."""
        return Decoding(self.channels == 1, self.orientation, max_pixels)

    def mapping(self) -> dict[str, Any]:
        """The fields as JSON takes them, without the mean image."""
        values = asdict(self)
        del values["mean_image_CHW"]
        return values

    def __str__(self) -> str:
        color = str(self.channel_order) if self.channels == 1 else str(self.channel_order).upper()
        means = self.mean if isinstance(self.mean, tuple) else (self.mean,)
        mean = "mean image" if self.mean_image_CHW is not None else ", ".join(f"{value:g}" for value in means)
        mean = f"({mean})" if isinstance(self.mean, tuple) else mean
        square = "central square" if self.side_ratio == 1 else f"central {self.side_ratio:.10g} of the shorter side"
        crop = {"cover": "", "square": f"{square} scaled to ", "squash": "whole image scaled to "}[self.resize]
        return (
            f"{crop}{self.width}x{self.height} {color}, {TURNED[self.orientation]}, (pixel - {mean}) * {self.scale:g}"
        )


def fit_image(image_HWC: np.ndarray, preprocess: Preprocess) -> tuple[np.ndarray, str]:
    """(image_CHW uint8 of the wanted size, gray or in RGB planes; what was done to it in words: "" if nothing).

    `image_HWC` is uint8, gray (C=1) or BGR as OpenCV decodes. "cover" shrinks by area, so that thin strokes survive.
    """
    done = []
    height, width, channels = image_HWC.shape
    fit_HWC = fit_size(image_HWC, preprocess)
    if fit_HWC is not image_HWC:
        how = "scaled" if preprocess.resize == "squash" else "scaled and center-cropped"
        done.append(f"{how} from {width}x{height} to {preprocess.width}x{preprocess.height}")
    if channels != preprocess.channels:
        done.append("made gray" if preprocess.channels == 1 else "gray repeated in three planes")
    return to_planes(fit_HWC, preprocess.channels), ", ".join(done)


def fit_size(image_HWC: Image, preprocess: Preprocess) -> Image:
    """The image in the wanted size, its channels as they are."""
    whole = preprocess.resize != "square" or (preprocess.side_ratio == 1 and preprocess.height == preprocess.width)
    if whole and image_HWC.shape[:2] == (preprocess.height, preprocess.width):
        return image_HWC
    if preprocess.resize == "square":
        return _square(image_HWC, preprocess)
    if preprocess.resize == "squash":
        return Scale(preprocess.width, preprocess.height).apply(image_HWC)
    return _cover(image_HWC, preprocess.height, preprocess.width)


def _square(image_HWC: Image, preprocess: Preprocess) -> Image:
    """As CNTK's readers: Crop with sideRatio at the center, then Scale."""
    crop = Crop(side_ratio=(preprocess.side_ratio,))
    height, width, _ = image_HWC.shape
    return Scale(preprocess.width, preprocess.height).apply(
        cut_box(image_HWC, crop.draw(_NOTHING_DRAWN, height, width))
    )


def _cover(image_HWC: Image, height: int, width: int) -> Image:
    ratio = max(height / image_HWC.shape[0], width / image_HWC.shape[1])
    scaled_width, scaled_height = (
        max(round(side * ratio), wanted) for side, wanted in ((image_HWC.shape[1], width), (image_HWC.shape[0], height))
    )
    require_scalable(image_HWC, (scaled_height, scaled_width), (height, width))
    interpolation = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
    scaled_HWC = with_channel_axis(
        cv2.resize(image_HWC, (scaled_width, scaled_height), interpolation=interpolation), image_HWC.shape[2]
    )
    top, left = (scaled_height - height) // 2, (scaled_width - width) // 2
    return scaled_HWC[top : top + height, left : left + width]


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
