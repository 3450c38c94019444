"""RandAugment: a few operations on each image, all of one magnitude."""

from dataclasses import dataclass

import numpy as np

from convolve.transforms.operations import Augmentation, Chosen, Interpolation, ranges
from convolve.transforms.transform import require

# Source: torchvision 0.23, RandAugment._augmentation_space. Translations: in sides of the image.
RANGES = ranges(shear=0.3, shift=150 / 331, degrees=30.0, change=0.9, fewest_bits=4.0)


@dataclass(frozen=True)
class RandAugment(Augmentation):
    """`num_ops` operations, drawn with replacement, at bin `magnitude` of 0..`num_magnitude_bins` - 1.

    Source: Cubuk et al. (2019), arXiv:1909.13719; names, operations, ranges and defaults are torchvision's.
    """

    num_ops: int = 2
    magnitude: int = 9
    num_magnitude_bins: int = 31
    interpolation: Interpolation = "nearest"
    fill: int = 0
    called = "rand_augment"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.num_ops >= 0, "rand_augment.num_ops", "at least 0", self.num_ops)
        last = self.num_magnitude_bins - 1
        require(0 <= self.magnitude <= last, "rand_augment.magnitude", f"in 0..{last}", self.magnitude)

    def draw(self, rng: np.random.Generator, height: int, width: int) -> list[Chosen]:
        sides = {"translate_x": width, "translate_y": height}
        drawn = [self.draw_one(rng, RANGES, self.magnitude) for _ in range(self.num_ops)]
        return [(name, magnitude * sides.get(name, 1)) for name, magnitude in drawn]
