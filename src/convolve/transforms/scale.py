"""Scale: resize one image exactly as CNTK's ScaleTransformer does, which is OpenCV's resize without antialiasing.

As there, a uint8 image is resized in OpenCV's 8-bit arithmetic, a float32 image in floats.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np

from convolve.errors import DataError
from convolve.transforms.antialiased import resize_antialiased
from convolve.transforms.transform import MAX_SIDE, Image, Size, Transform, require, require_one_of, with_channel_axis

MAX_PIXELS = 1 << 27  # limit for an image scaled before it is cut: one of 1 x 50000 pixels would take 7 GB
Interpolation = Literal["area", "linear", "linear_antialiased", "nearest", "cubic", "lanczos"]
ScaleMode = Literal["fill", "crop", "pad"]
_INTERPOLATIONS = {
    "area": cv2.INTER_AREA,
    "linear": cv2.INTER_LINEAR,
    "nearest": cv2.INTER_NEAREST,
    "cubic": cv2.INTER_CUBIC,
    "lanczos": cv2.INTER_LANCZOS4,
}


@dataclass(frozen=True)
class Scale(Transform):
    """Resize to `width` x `height` as OpenCV does; CNTK has neither "area" nor "linear_antialiased".

    "linear_antialiased" is ONNX's Resize in place of OpenCV's. It and "area" average pixels when shrinking; the others
    skip some. "fill" ignores the aspect ratio; "crop" keeps it and cuts off the excess; "pad" keeps it and fills the
    rest with `pad_value`, or with the border pixels if that is -1.
    """

    width: int = 0
    height: int = 0
    interpolation: Interpolation = "linear"
    scale_mode: ScaleMode = "fill"
    pad_value: int = -1

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            require(1 <= getattr(self, name) <= MAX_SIDE, f"scale.{name}", f"in 1..{MAX_SIDE}", getattr(self, name))
        require_one_of("scale.interpolation", self.interpolation, Interpolation)
        require_one_of("scale.scale_mode", self.scale_mode, ScaleMode)
        require(-1 <= self.pad_value <= 255, "scale.pad_value", "-1 (repeat the border) or in 0..255", self.pad_value)

    def size_after(self, size: Size | None) -> Size | None:
        return self.height, self.width

    def apply(self, image_HWC: Image) -> Image:
        """The image in `width` x `height`, same type and channels. Raises `DataError` for extremely narrow images."""
        height, width, channels = image_HWC.shape
        full = self._size_before_fit(height, width)
        require_scalable(image_HWC, full, (self.height, self.width))
        scaled_HWC: Any = resized(image_HWC, full, self.interpolation)
        if self.scale_mode == "crop":
            top, left = (full[0] - self.height) // 2, (full[1] - self.width) // 2
            scaled_HWC = scaled_HWC[top : top + self.height, left : left + self.width]
        elif self.scale_mode == "pad":
            down, right = self.height - full[0], self.width - full[1]
            border = cv2.BORDER_REPLICATE if self.pad_value < 0 else cv2.BORDER_CONSTANT
            sides, value = (down // 2, down - down // 2, right // 2, right - right // 2), (float(self.pad_value),) * 4
            scaled_HWC = cv2.copyMakeBorder(scaled_HWC, *sides, border, value=value)
        result: Image = scaled_HWC.reshape(self.height, self.width, channels)  # OpenCV drops the axis of one channel
        return result

    def on_image(self, image_HWC: Image, rng: np.random.Generator) -> Image:
        return self.apply(image_HWC)

    def _size_before_fit(self, height: int, width: int) -> Size:
        """The size to resize to: the aspect ratio is kept if something is cut off or padded afterwards."""
        if self.scale_mode == "fill":
            return self.height, self.width
        width_scales_more = self.width * height > self.height * width
        if width_scales_more == (self.scale_mode == "crop"):
            return max(math.floor(height * self.width / width + 0.5), 1), self.width  # halves up, as in C
        return self.height, max(math.floor(width * self.height / height + 0.5), 1)


def resized(image_HWC: Image, size: Size, interpolation: Interpolation) -> Image:
    """The image resized to that (height, width). For enlarging, "area" becomes linear, as it is meant for shrinking."""
    if interpolation == "linear_antialiased":
        return resize_antialiased(image_HWC, size)
    height, width, channels = image_HWC.shape
    grows = interpolation == "area" and size[0] >= height and size[1] >= width
    method = cv2.INTER_LINEAR if grows else _INTERPOLATIONS[interpolation]
    return with_channel_axis(cv2.resize(image_HWC, size[::-1], interpolation=method), channels)


def require_scalable(image_HWC: Image, full: Size, wanted: Size) -> None:
    """Raise `DataError` if the size `full`, from which `wanted` is cut, would need too much memory."""
    if full[0] * full[1] > MAX_PIXELS:
        height, width, _ = image_HWC.shape
        raise DataError(f"{width} x {height} pixels are too narrow to be cut to {wanted[1]} x {wanted[0]}")
