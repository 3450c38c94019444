"""Color: random brightness, contrast and saturation, as CNTK's ColorTransformer does them.

Source: `Source/Readers/ImageReader/ImageTransformers.cpp` of CNTK 2.7; checked against its output.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from convolve.transforms.transform import Image, Transform, require


@dataclass(frozen=True)
class ColorChange:
    """Brightness is added, as a fraction of the image's mean; contrast and saturation multiply by 1 plus the amount.

    None leaves that property alone.
    """

    brightness: float | None = None
    contrast: float | None = None
    saturation: float | None = None


@dataclass(frozen=True)
class Color(Transform):
    """Change brightness, contrast and saturation by random amounts up to these radii, each in [0, 1]; 0 is off."""

    brightness_radius: float = 0.0
    contrast_radius: float = 0.0
    saturation_radius: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            require(0 <= value <= 1, f"color.{name}", "in [0, 1]", value)

    def draw(self, rng: np.random.Generator) -> ColorChange:
        """Each amount uniform within plus-minus its radius, in the order of the fields; none is drawn for a radius of
        0."""
        radii = (self.brightness_radius, self.contrast_radius, self.saturation_radius)
        return ColorChange(*(float(rng.uniform(-radius, radius)) if radius > 0 else None for radius in radii))

    def on_image(self, image_HWC: Image, rng: np.random.Generator) -> Image:
        return apply_color(image_HWC, self.draw(rng))


def apply_color(image_HWC: Image, change: ColorChange) -> Image:
    """The changed image, float32 in 0..255; unchanged if there is nothing to do. Gray images have no saturation."""
    if change == ColorChange():
        return image_HWC
    image_HWC = image_HWC.astype(np.float32, copy=False)
    if change.brightness is not None or change.contrast is not None:
        added = np.float32((change.brightness or 0.0) * image_HWC.mean(dtype=np.float64))
        factor = np.float32(1 + (change.contrast or 0.0))
        image_HWC = np.clip(image_HWC * factor + added, np.float32(0), np.float32(255))
    if change.saturation is not None and image_HWC.shape[2] == 3:
        image_HWC = _saturate(image_HWC, np.float32(1 + change.saturation))
    return image_HWC


def _saturate(image_HWC: Image, factor: np.float32) -> Image:
    hsv_HWC = cv2.cvtColor(image_HWC, cv2.COLOR_BGR2HSV)  # in floats: hue in degrees, saturation 0..1, value 0..255
    hsv_HWC[..., 1] = np.minimum(hsv_HWC[..., 1] * factor, np.float32(1))
    return cv2.cvtColor(hsv_HWC, cv2.COLOR_HSV2BGR).astype(np.float32, copy=False)
