"""What the CNTK image reader can do to one image, as frozen values; the names and meanings are CNTK's.

A ratio is one number or a range (min, max). CNTK uses a range only with `jitter_type="uniratio"`; otherwise its
minimum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from convolve.errors import UsageError, unknown_name

MAX_SIDE = 8192  # pixels; larger inputs than any network takes
Ratio = tuple[float, ...]
CropType = Literal["center", "randomside", "randomarea", "multiview10"]
JitterType = Literal["none", "uniratio"]
Interpolation = Literal["linear", "nearest", "cubic", "lanczos"]
ScaleMode = Literal["fill", "crop", "pad"]
MeanLayout = Literal["interleaved_bgr", "planar_rgb"]
WrongSize = Literal["refuse", "ignore"]


@dataclass(frozen=True)
class Crop:
    """Cut a rectangle out of the image, then perhaps mirror it.

    Its size is `crop_width` x `crop_height` where given, else a square of `side_ratio` of the shorter side, or of
    `area_ratio` of the area, else the whole image; `aspect_ratio` below 1 then makes it flat or tall with equal
    chance. "center" takes the middle, "randomside" and "randomarea" any place, "multiview10" the corners and the
    middle, then the same five mirrored. `hflip=None` is CNTK's default: mirror half of the images for the random
    types only.
    """

    crop_type: CropType = "center"
    crop_width: int = 0
    crop_height: int = 0
    side_ratio: Ratio = ()
    area_ratio: Ratio = ()
    aspect_ratio: Ratio = (1.0,)
    jitter_type: JitterType = "none"
    hflip: bool | None = None

    def __post_init__(self) -> None:
        _one_of("crop.crop_type", self.crop_type, CropType)
        _one_of("crop.jitter_type", self.jitter_type, JitterType)
        sizes = (self.crop_width, self.crop_height)
        usable = sizes == (0, 0) or min(sizes) > 0
        _require(usable, "crop.crop_width and crop.crop_height", "both 0 or both positive", sizes)
        for name in ("side_ratio", "area_ratio", "aspect_ratio"):
            _ratio(f"crop.{name}", getattr(self, name))
        _require(bool(self.aspect_ratio), "crop.aspect_ratio", "one number or min:max", self.aspect_ratio)
        if self.side_ratio and self.area_ratio:
            raise UsageError("crop.side_ratio and crop.area_ratio exclude each other; leave one of them out")

    @property
    def mirrors(self) -> bool:
        """Whether half of the crops are mirrored at random."""
        if self.crop_type == "multiview10":  # five of its views are the mirrored ones
            return False
        return self.crop_type != "center" if self.hflip is None else self.hflip

    @property
    def varies(self) -> bool:
        """Whether images of one size give rectangles of several sizes."""
        if self.crop_width:
            return False
        ranges = (self.side_ratio, self.area_ratio, self.aspect_ratio)
        jitters = self.jitter_type == "uniratio" and any(ratio and ratio[0] < ratio[-1] for ratio in ranges)
        return jitters or self.aspect_ratio[0] != 1


@dataclass(frozen=True)
class Flip:
    """Mirror the image, left to right, with this probability."""

    probability: float = 0.5

    def __post_init__(self) -> None:
        _require(0 <= self.probability <= 1, "flip.probability", "in [0, 1]", self.probability)


@dataclass(frozen=True)
class Scale:
    """Resize to `width` x `height` as OpenCV does, without antialiasing.

    "fill" ignores the aspect ratio; "crop" keeps it and cuts what stands over; "pad" keeps it and fills the rest with
    `pad_value`, or with the border pixels where that is -1.
    """

    width: int = 0
    height: int = 0
    interpolation: Interpolation = "linear"
    scale_mode: ScaleMode = "fill"
    pad_value: int = -1

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            _require(1 <= getattr(self, name) <= MAX_SIDE, f"scale.{name}", f"in 1..{MAX_SIDE}", getattr(self, name))
        _one_of("scale.interpolation", self.interpolation, Interpolation)
        _one_of("scale.scale_mode", self.scale_mode, ScaleMode)
        _require(-1 <= self.pad_value <= 255, "scale.pad_value", "-1 (repeat the border) or in 0..255", self.pad_value)


@dataclass(frozen=True)
class Mean:
    """Subtract the mean image in `file` (XML as CNTK and OpenCV write it), or `values_bgr`: one, or one a channel.

    `layout` says how to read the file. CNTK reads every file as "interleaved_bgr", also its own CIFAR-10_mean.xml,
    which its script writes "planar_rgb": the first reading repeats CNTK's training, the second gives the true mean.
    CNTK skips a mean of another size than the image; `wrong_size="ignore"` does so too.
    """

    file: str = ""
    layout: MeanLayout = "interleaved_bgr"
    wrong_size: WrongSize = "refuse"
    values_bgr: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _one_of("mean.layout", self.layout, MeanLayout)
        _one_of("mean.wrong_size", self.wrong_size, WrongSize)
        if bool(self.file) == bool(self.values_bgr):
            raise UsageError("mean needs either mean.file or mean.values_bgr")
        finite = all(math.isfinite(value) for value in self.values_bgr)
        whole = len(self.values_bgr) in (0, 1, 3)
        _require(finite and whole, "mean.values_bgr", "one finite number or three", self.values_bgr)


@dataclass(frozen=True)
class Colour:
    """Change brightness, contrast and saturation by random amounts up to these radii, each in [0, 1]; 0 is off."""

    brightness_radius: float = 0.0
    contrast_radius: float = 0.0
    saturation_radius: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            _require(0 <= value <= 1, f"colour.{name}", "in [0, 1]", value)


@dataclass(frozen=True)
class Intensity:
    """AlexNet's lighting noise: shift the colours along the principal axes in `file` (XML with EigVal and EigVec)."""

    file: str = ""
    standard_deviation: float = 0.1

    def __post_init__(self) -> None:
        _require(bool(self.file), "intensity.file", "the path of an XML file with EigVal and EigVec", self.file)
        finite = math.isfinite(self.standard_deviation) and self.standard_deviation >= 0
        _require(finite, "intensity.standard_deviation", "at least 0", self.standard_deviation)


def _require(holds: bool, path: str, expected: str, came: object) -> None:
    if not holds:
        raise UsageError(f"{path} must be {expected}, got {came!r}")


def _one_of(path: str, value: str, choices: Any) -> None:
    if value not in get_args(choices):
        raise UsageError(f"{path}: {unknown_name('value', str(value), get_args(choices))}")


def _ratio(path: str, ratio: Ratio) -> None:
    ordered = len(ratio) <= 2 and all(0 < value <= 1 for value in ratio) and list(ratio) == sorted(ratio)
    _require(ordered, path, "one number or min:max, in (0, 1]", ratio)
