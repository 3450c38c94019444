"""TrivialAugment: one operation on each image, of any magnitude."""

from dataclasses import dataclass

import numpy as np

from convolve.transforms.operations import Augmentation, Chosen, Interpolation, ranges

# Source: torchvision 0.23, TrivialAugmentWide._augmentation_space. Translations: in pixels.
RANGES = ranges(shear=0.99, shift=32.0, degrees=135.0, change=0.99, fewest_bits=2.0)


@dataclass(frozen=True)
class TrivialAugment(Augmentation):
    """One operation, at one of `num_magnitude_bins` magnitudes, both drawn: TrivialAugment Wide, without settings.

    Source: Müller and Hutter (2021), arXiv:2103.10158; operations, ranges and defaults are those of torchvision's
    TrivialAugmentWide.
    """

    num_magnitude_bins: int = 31
    interpolation: Interpolation = "nearest"
    fill: int = 0
    called = "trivial_augment"

    def draw(self, rng: np.random.Generator, height: int, width: int) -> list[Chosen]:
        return [self.draw_one(rng, RANGES, int(rng.integers(self.num_magnitude_bins)))]
