"""Flip: mirror an image, left to right."""

from __future__ import annotations

import cv2
import numpy as np

from convolve.transforms.image_spec import Flip
from convolve.transforms.pixels import Image, like


def draw_flip(spec: Flip, rng: np.random.Generator) -> bool:
    """Whether to mirror: true with the probability of `spec`."""
    return bool(rng.random() < spec.probability)


def apply_flip(image_HWC: Image, mirrored: bool) -> Image:
    """The image mirrored left to right, or as it is."""
    return like(image_HWC, cv2.flip(image_HWC, 1)) if mirrored else image_HWC
