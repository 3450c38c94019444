"""Intensity: AlexNet's lighting noise, as CNTK's IntensityTransformer does it.

Source: Krizhevsky et al. 2012, section 4.1, and `Source/Readers/ImageReader/ImageTransformers.cpp` of CNTK 2.7;
checked against its output.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from convolve.formats.mean_xml import ColorAxes, read_color_axes
from convolve.transforms.transform import Image, Transform, require


@dataclass(frozen=True)
class Intensity(Transform):
    """AlexNet's lighting noise: shift the colors along the principal axes in `file` (XML with EigVal and EigVec)."""

    file: str = ""
    standard_deviation: float = 0.1

    def __post_init__(self) -> None:
        require(bool(self.file), "intensity.file", "the path of an XML file with EigVal and EigVec", self.file)
        finite = math.isfinite(self.standard_deviation) and self.standard_deviation >= 0
        require(finite, "intensity.standard_deviation", "at least 0", self.standard_deviation)

    def draw(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """The shift along each of the three axes: normal, mean 0; shape (3,)."""
        return rng.normal(0.0, self.standard_deviation, size=3).astype(np.float32)

    def on_image(self, image_HWC: Image, rng: np.random.Generator) -> Image:
        return apply_intensity(image_HWC, self.draw(rng), axes_in(self.file))


def apply_intensity(image_HWC: Image, alphas: NDArray[np.float32], axes: ColorAxes) -> Image:
    """The image with its channels shifted, float32 in 0..255. The axes are in R, G, B order, the image in B, G, R."""
    shift_rgb = axes.vectors @ (alphas * axes.values)
    shifted_HWC = image_HWC.astype(np.float32, copy=False) + shift_rgb[: image_HWC.shape[2]][::-1]
    return np.clip(shifted_HWC, np.float32(0), np.float32(255))


@cache
def axes_in(file: str) -> ColorAxes:
    return read_color_axes(file)
