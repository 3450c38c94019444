"""What a model wants its images to be, and how any image becomes that: one description, read by all who ask a model."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Preprocess:
    """The network sees `(pixel - mean) * scale` of an image with `channels` planes (1: grey; 3: RGB) of that size."""

    channels: int
    height: int
    width: int
    mean: float
    scale: float

    @property
    def shape_CHW(self) -> tuple[int, int, int]:
        return self.channels, self.height, self.width

    def __str__(self) -> str:
        colour = "grey" if self.channels == 1 else "RGB"
        return f"{self.width}x{self.height} {colour}, (pixel - {self.mean:g}) * {self.scale:g}"


def fit_image(image_HWC: np.ndarray, want: Preprocess) -> tuple[np.ndarray, str]:
    """(image_CHW uint8 as the model wants it, what was done to it in words: "" if nothing).

    `image_HWC` is uint8, grey (C=1) or BGR as OpenCV decodes. Another size is scaled to cover the wanted one (by area
    when shrinking, so that thin strokes survive) and cut at the centre.
    """
    done = []
    height, width, channels = image_HWC.shape
    if (height, width) != (want.height, want.width):
        image_HWC = _cover(image_HWC, want.height, want.width)
        done.append(f"scaled and centre-cropped from {width}x{height} to {want.width}x{want.height}")
    if channels != want.channels:
        done.append("made grey" if want.channels == 1 else "grey repeated in three planes")
    if want.channels == 1:
        planes = image_HWC if channels == 1 else cv2.cvtColor(image_HWC, cv2.COLOR_BGR2GRAY)[:, :, None]
    else:
        planes = np.repeat(image_HWC, 3, axis=2) if channels == 1 else image_HWC[:, :, ::-1]
    return np.ascontiguousarray(planes.transpose(2, 0, 1)), ", ".join(done)


def _cover(image_HWC: np.ndarray, height: int, width: int) -> np.ndarray:
    ratio = max(height / image_HWC.shape[0], width / image_HWC.shape[1])
    scaled_width, scaled_height = (
        max(round(side * ratio), least) for side, least in ((image_HWC.shape[1], width), (image_HWC.shape[0], height))
    )
    interpolation = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
    scaled = cv2.resize(image_HWC, (scaled_width, scaled_height), interpolation=interpolation)
    top, left = (scaled_height - height) // 2, (scaled_width - width) // 2
    return scaled[top : top + height, left : left + width].reshape(height, width, -1)
