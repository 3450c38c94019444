"""CutMix: paste a rectangle of another image, and mix the labels by its area."""

import math
from dataclasses import dataclass

import numpy as np

from convolve.transforms.mixing import Mix, Mixing


@dataclass(frozen=True)
class CutMix(Mixing):
    """Each image gets a rectangle of another image of the batch; its fraction of the area is drawn from Beta(`alpha`,
    `alpha`).

    Source: Yun et al. (2019), arXiv:1905.04899; as torchvision's v2.CutMix, with timm's probability.
    """

    def draw_mix(self, rng: np.random.Generator, height: int, width: int) -> Mix:
        """A rectangle of the image's shape around any pixel; only its part inside the image counts."""
        half = 0.5 * math.sqrt(1 - rng.beta(self.alpha, self.alpha))
        column, row = int(rng.integers(width)), int(rng.integers(height))
        left, right = max(column - int(half * width), 0), min(column + int(half * width), width)
        top, bottom = max(row - int(half * height), 0), min(row + int(half * height), height)
        own = 1 - (right - left) * (bottom - top) / (width * height)
        return Mix(own, (slice(top, bottom), slice(left, right)))
