"""RandomErasing: replace a rectangle of the image by one gray level or by noise."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from convolve.transforms.crop import Ratio
from convolve.transforms.transform import EachImage, Image, require

_ATTEMPTS = 10  # torchvision then leaves the image unchanged


class Rectangle(NamedTuple):
    """In pixels; `seed` is that of the noise in it."""

    top: int
    left: int
    height: int
    width: int
    seed: int


@dataclass(frozen=True)
class RandomErasing(EachImage):
    """With this probability, erase a rectangle: its fraction of the area lies within `scale`, its height / width within
    `ratio`.

    It is filled with gray level `value`; "random" draws each pixel. Source: Zhong et al. (2017), arXiv:1708.04896;
    names and defaults are torchvision's, except for `value`: there, images are already normalized and 0 is the mean.
    """

    probability: float = 0.5
    scale: Ratio = (0.02, 0.33)
    ratio: Ratio = (0.3, 3.3)
    value: int | str = 128

    def __post_init__(self) -> None:
        require(0 <= self.probability <= 1, "random_erasing.probability", "in [0, 1]", self.probability)
        for name, most in (("scale", 1.0), ("ratio", math.inf)):
            ends = getattr(self, name)
            ordered = len(ends) == 2 and 0 < ends[0] <= ends[1] <= most
            require(ordered, f"random_erasing.{name}", "min:max, above 0" + (", up to 1" if most == 1 else ""), ends)
        is_level = isinstance(self.value, int) and 0 <= self.value <= 255
        require(is_level or self.value == "random", "random_erasing.value", "in 0..255, or random", self.value)

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Rectangle | None:
        if rng.random() >= self.probability:
            return None
        for _ in range(_ATTEMPTS):
            area = height * width * rng.uniform(self.scale[0], self.scale[1])
            aspect = math.exp(rng.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
            tall, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if tall < height and wide < width:
                top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
                return Rectangle(top, left, tall, wide, int(rng.integers(2**32)))
        return None

    def apply(self, image_HWC: Image, drawn: Rectangle | None) -> Image:
        """A copy with the rectangle erased."""
        if drawn is None:
            return image_HWC
        top, left, height, width, seed = drawn
        erased_HWC = image_HWC.copy()
        place_HWC = erased_HWC[top : top + height, left : left + width]
        if self.value == "random":
            place_HWC[...] = np.random.default_rng(seed).integers(256, size=place_HWC.shape, dtype=np.uint8)
        else:
            place_HWC[...] = self.value
        return erased_HWC
