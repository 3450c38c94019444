"""Intensity: AlexNet's lighting noise, as CNTK's IntensityTransformer does it.

Source: Krizhevsky et al. 2012, section 4.1, and `Source/Readers/ImageReader/ImageTransformers.cpp` of CNTK 2.7;
checked against its output.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convolve.formats.mean_xml import ColourAxes
from convolve.transforms.image_spec import Intensity
from convolve.transforms.pixels import Image, as_float


def draw_intensity(spec: Intensity, rng: np.random.Generator) -> NDArray[np.float32]:
    """How far to go along each of the three axes: normal, mean 0, with the standard deviation of `spec`; shape (3,)."""
    return rng.normal(0.0, spec.standard_deviation, size=3).astype(np.float32)


def apply_intensity(image_HWC: Image, alphas: NDArray[np.float32], axes: ColourAxes) -> Image:
    """The image with its channels shifted, float32 in 0..255. The axes are in R, G, B order, the image in B, G, R."""
    shift_rgb = axes.vectors @ (alphas * axes.values)
    channels = image_HWC.shape[2]
    return np.clip(as_float(image_HWC) + shift_rgb[:channels][::-1], np.float32(0), np.float32(255))
