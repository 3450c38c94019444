"""MixUp: a weighted mean of two images, and of their labels."""

from dataclasses import dataclass

import numpy as np

from convolve.transforms.mixing import Mix, Mixing


@dataclass(frozen=True)
class MixUp(Mixing):
    """Each image becomes the weighted mean of itself and another of the batch; the weight is drawn from Beta(`alpha`,
    `alpha`).

    Source: Zhang et al. (2017), arXiv:1710.09412; as torchvision's v2.MixUp, with timm's probability.
    """

    def draw_mix(self, rng: np.random.Generator, height: int, width: int) -> Mix:
        return Mix(float(rng.beta(self.alpha, self.alpha)))
