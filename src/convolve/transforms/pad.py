"""Pad: a border of one gray level."""

from dataclasses import dataclass

import cv2
import numpy as np

from convolve.transforms.transform import (
    MAX_SIDE,
    Image,
    Size,
    Tensor,
    Transform,
    WholeBatch,
    require,
    with_channel_axis,
)


@dataclass(frozen=True)
class Pad(Transform):
    """Add `pixels` of gray level `value` on every side, or `side_ratio` of the shorter side if that is given."""

    pixels: int = 4
    value: int = 0
    side_ratio: float = 0.0

    def __post_init__(self) -> None:
        require(0 <= self.pixels <= MAX_SIDE, "pad.pixels", f"in 0..{MAX_SIDE}", self.pixels)
        require(0 <= self.value <= 255, "pad.value", "in 0..255", self.value)
        require(0 <= self.side_ratio <= 1, "pad.side_ratio", "in 0..1", self.side_ratio)

    def border(self, height: int, width: int) -> int:
        """How many pixels an image of this size gets on each side."""
        return round(self.side_ratio * min(height, width)) if self.side_ratio else self.pixels

    def size_after(self, size: Size | None) -> Size | None:
        return size and (size[0] + 2 * self.border(*size), size[1] + 2 * self.border(*size))

    def apply(self, image_HWC: Image) -> Image:
        height, width, channels = image_HWC.shape
        sides, value = (self.border(height, width),) * 4, (float(self.value),) * 4
        return with_channel_axis(cv2.copyMakeBorder(image_HWC, *sides, cv2.BORDER_CONSTANT, value=value), channels)

    def apply_batch(self, images_NCHW: Tensor) -> Tensor:
        from torch.nn import functional as F

        height, width = images_NCHW.shape[2:]
        return F.pad(images_NCHW, (self.border(height, width),) * 4, value=self.value)

    def on_image(self, image_HWC: Image, rng: np.random.Generator) -> Image:
        return self.apply(image_HWC)

    def on_batch(self, images_NCHW: Tensor, whole: WholeBatch) -> Tensor:
        return self.apply_batch(images_NCHW)
