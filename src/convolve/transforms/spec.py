"""What can be done to an image, as frozen values. Each file beside this one draws and applies one of them."""

from __future__ import annotations

from dataclasses import dataclass

from convolve.errors import UsageError
from convolve.transforms.image_spec import MAX_SIDE, Colour, Crop, Flip, Intensity, Scale


@dataclass(frozen=True)
class Pad:
    """Add `pixels` of grey level `value` on every side, or, where that is given, `side_ratio` of the shorter side."""

    pixels: int = 4
    value: int = 0
    side_ratio: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.pixels <= MAX_SIDE:
            raise UsageError(f"pad.pixels must be in 0..{MAX_SIDE}, got {self.pixels}")
        if not 0 <= self.value <= 255:
            raise UsageError(f"pad.value must be in 0..255, got {self.value}")
        if not 0 <= self.side_ratio <= 1:
            raise UsageError(f"pad.side_ratio must be in 0..1, got {self.side_ratio:g}")

    def border(self, height: int, width: int) -> int:
        """How many pixels an image of this size gets on each side."""
        return round(self.side_ratio * min(height, width)) if self.side_ratio else self.pixels


@dataclass(frozen=True)
class Shift:
    """Move the image by up to `pixels` in each direction, whole pixels, zeros moving in."""

    pixels: int = 2

    def __post_init__(self) -> None:
        if self.pixels < 0:
            raise UsageError(f"shift.pixels must be at least 0, got {self.pixels}")


@dataclass(frozen=True)
class Affine:
    """Rotate, scale each axis, shear and shift by amounts drawn uniformly within plus-minus these; zeros move in."""

    degrees: float = 10.0
    scale_fraction: float = 0.1
    shear_degrees: float = 0.0
    pixels: float = 2.0

    def __post_init__(self) -> None:
        for field, value in vars(self).items():
            if value < 0:
                raise UsageError(f"affine.{field} must be at least 0, got {value}")
        if self.scale_fraction >= 1:
            raise UsageError(f"affine.scale_fraction must be below 1, got {self.scale_fraction}")


@dataclass(frozen=True)
class AlternatingFlip:
    """Mirror half of the images, left to right, in one pass over the data and the other half in the next.

    Two passes show each image both ways, where `Flip` shows half of them twice the same. Source: Jordan (2024),
    arXiv:2404.00498, section 3.6.
    """


@dataclass(frozen=True)
class Cutout:
    """Cover a square of `pixels` by `pixels`, centred anywhere in the image, with grey level `value`.

    Source: DeVries, Taylor (2017), arXiv:1708.04552.
    """

    pixels: int = 8
    value: int = 128

    def __post_init__(self) -> None:
        if not 0 <= self.pixels <= MAX_SIDE:
            raise UsageError(f"cutout.pixels must be in 0..{MAX_SIDE}, got {self.pixels}")
        if not 0 <= self.value <= 255:
            raise UsageError(f"cutout.value must be in 0..255, got {self.value}")


Transform = Shift | Affine | Pad | Crop | Flip | AlternatingFlip | Cutout | Scale | Colour | Intensity

# The name a recipe file uses for each.
TRANSFORMS: dict[str, type[Transform]] = {
    "shift": Shift,
    "affine": Affine,
    "pad": Pad,
    "crop": Crop,
    "flip": Flip,
    "alternating_flip": AlternatingFlip,
    "cutout": Cutout,
    "scale": Scale,
    "colour": Colour,
    "intensity": Intensity,
}
