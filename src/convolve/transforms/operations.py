"""The fourteen operations that RandAugment and TrivialAugment choose from, on 8-bit images, each with a magnitude.

Source: torchvision 0.23, `transforms/autoaugment.py`, and Pillow's ImageEnhance and ImageOps, which the papers used.
Checked against both: `tests/transforms/record_augmentations.py`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from convolve.transforms.transform import EachImage, Image, require, require_one_of, with_channel_axis

Chosen = tuple[str, float]  # the name of an operation and its magnitude
Ranges = dict[str, tuple[float, float, bool]]  # the first bin's magnitude, the last one's, whether it has a sign
Bytes = NDArray[np.uint8]
Table = NDArray[Any]  # a lookup table of the 256 gray levels: (256,), or (256, C)
Interpolation = Literal["nearest", "linear"]
_LEVELS = np.arange(256, dtype=np.float32)  # Pillow multiplies in 32 bits


class Augmentation(EachImage):
    """Operations are drawn for each image; those that move pixels fill with gray level `fill`. Floats become bytes."""

    called: ClassVar[str]
    num_magnitude_bins: int
    interpolation: Interpolation
    fill: int

    def __post_init__(self) -> None:
        name = self.called
        require(self.num_magnitude_bins >= 2, f"{name}.num_magnitude_bins", "at least 2", self.num_magnitude_bins)
        require(0 <= self.fill <= 255, f"{name}.fill", "in 0..255", self.fill)
        require_one_of(f"{name}.interpolation", self.interpolation, Interpolation)

    def draw_one(self, rng: np.random.Generator, ranges: Ranges, magnitude: int) -> Chosen:
        """Any of the operations, at this bin (from 0); for those with a sign, it is negative half of the time."""
        name, (first, last, signed) = list(ranges.items())[int(rng.integers(len(ranges)))]
        sign = -1.0 if signed and rng.integers(2) else 1.0
        return name, sign * (first + (last - first) * magnitude / (self.num_magnitude_bins - 1))

    def apply(self, image_HWC: Image, drawn: Sequence[Chosen]) -> Image:
        if image_HWC.dtype != np.uint8:
            image_HWC = np.clip(np.rint(image_HWC), 0, 255).astype(np.uint8)
        result = cast(Bytes, image_HWC)
        for name, magnitude in drawn:
            if name in _WARPS:
                result = _warped(result, _WARPS[name](magnitude, *result.shape[:2]), self.interpolation, self.fill)
            elif name in _COLORS:
                result = _COLORS[name](result, magnitude)
        return result


def ranges(shear: float, shift: float, degrees: float, change: float, fewest_bits: float) -> Ranges:
    """The strongest magnitude of each operation, in the order of torchvision's tables."""
    signed = {
        "shear_x": shear, "shear_y": shear, "translate_x": shift, "translate_y": shift, "rotate": degrees,
        "brightness": change, "color": change, "contrast": change, "sharpness": change,
    }  # fmt: skip
    return {
        "identity": (0.0, 0.0, False), **{name: (0.0, strongest, True) for name, strongest in signed.items()},
        "posterize": (8.0, fewest_bits, False), "solarize": (255.0, 0.0, False),
        "auto_contrast": (0.0, 0.0, False), "equalize": (0.0, 0.0, False),
    }  # fmt: skip


def shear_x(amount: float, height: int, width: int) -> Table:
    """Like all operations that move pixels: a matrix from output to input coordinates, measured from pixel corners."""
    return np.array([[1, amount, 0], [0, 1, 0]], np.float64)


def shear_y(amount: float, height: int, width: int) -> Table:
    return np.array([[1, 0, 0], [amount, 1, 0]], np.float64)


def translate_x(pixels: float, height: int, width: int) -> Table:
    return np.array([[1, 0, -int(pixels)], [0, 1, 0]], np.float64)


def translate_y(pixels: float, height: int, width: int) -> Table:
    return np.array([[1, 0, 0], [0, 1, -int(pixels)]], np.float64)


def rotate(degrees: float, height: int, width: int) -> Table:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    linear, center = np.array([[cosine, -sine], [sine, cosine]]), np.array([width / 2, height / 2])
    return np.column_stack([linear, center - linear @ center])


def brightness(image_HWC: Bytes, change: float) -> Bytes:
    return _mapped(image_HWC, _LEVELS * np.float32(1 + change))


def contrast(image_HWC: Bytes, change: float) -> Bytes:
    """Away from the mean gray level, or towards it."""
    mean = int(_gray(image_HWC).mean() + 0.5)
    return _mapped(image_HWC, mean + (_LEVELS - mean) * np.float32(1 + change))


def color(image_HWC: Bytes, change: float) -> Bytes:
    """Away from gray, or towards it. A gray image stays as it is."""
    if image_HWC.shape[2] == 1:
        return image_HWC
    return _blended(cv2.cvtColor(_gray(image_HWC), cv2.COLOR_GRAY2BGR), image_HWC, 1 + change)


def sharpness(image_HWC: Bytes, change: float) -> Bytes:
    """Away from a smoothed image, or towards it; the outermost pixels are not changed."""
    kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13
    smooth_HWC = image_HWC.copy()
    filtered = with_channel_axis(cv2.filter2D(image_HWC, -1, kernel), image_HWC.shape[2])
    smooth_HWC[1:-1, 1:-1] = filtered[1:-1, 1:-1]
    return _blended(smooth_HWC, image_HWC, 1 + change)


def posterize(image_HWC: Bytes, bits: float) -> Bytes:
    dropped = round(8 - bits)
    return _mapped(image_HWC, np.arange(256) >> dropped << dropped)


def solarize(image_HWC: Bytes, threshold: float) -> Bytes:
    levels = np.arange(256)
    return _mapped(image_HWC, np.where(levels < threshold, levels, 255 - levels))


def auto_contrast(image_HWC: Bytes, _: float) -> Bytes:
    """The levels of each channel stretched to 0..255."""
    low_C, high_C = (end(image_HWC.reshape(-1, image_HWC.shape[2]), axis=0).astype(int) for end in (np.min, np.max))
    scale_C = np.where(high_C > low_C, 255 / np.maximum(high_C - low_C, 1), 1)
    return _mapped(image_HWC, np.arange(256)[:, None] * scale_C - np.where(high_C > low_C, low_C * scale_C, 0))


def equalize(image_HWC: Bytes, _: float) -> Bytes:
    """Each channel's levels spread out, so that all occur about as often."""
    tables = []
    for plane_HW in np.moveaxis(image_HWC, 2, 0):
        counts = np.bincount(plane_HW.ravel(), minlength=256)
        step = (plane_HW.size - int(counts[counts.nonzero()[0][-1]])) // 255
        before = np.cumsum(counts) - counts
        tables.append((step // 2 + before) // step if step else np.arange(256))
    return _mapped(image_HWC, np.stack(tables, axis=1))


_WARPS: dict[str, Callable[[float, int, int], Table]] = {
    "shear_x": shear_x, "shear_y": shear_y, "translate_x": translate_x, "translate_y": translate_y, "rotate": rotate,
}  # fmt: skip
_COLORS: dict[str, Callable[[Bytes, float], Bytes]] = {
    "brightness": brightness, "color": color, "contrast": contrast, "sharpness": sharpness, "posterize": posterize,
    "solarize": solarize, "auto_contrast": auto_contrast, "equalize": equalize,
}  # fmt: skip


def _warped(image_HWC: Bytes, matrix_23: Table, interpolation: Interpolation, fill: int) -> Bytes:
    matrix_23[:, 2] += matrix_23[:, :2].sum(axis=1) / 2 - 0.5  # OpenCV measures from pixel centers
    flags = cv2.WARP_INVERSE_MAP | (cv2.INTER_LINEAR if interpolation == "linear" else cv2.INTER_NEAREST)
    size, value = image_HWC.shape[1::-1], (float(fill),) * 4
    warped: Any = cv2.warpAffine(image_HWC, matrix_23, size, flags=flags, borderValue=value)
    return warped.reshape(image_HWC.shape)  # type: ignore[no-any-return]


def _mapped(image_HWC: Bytes, table: Table) -> Bytes:
    """Each level replaced by its entry in `table`, whose fraction is dropped, as in Pillow."""
    levels = np.clip(table, 0, 255).astype(np.uint8)
    per_channel = levels.reshape(1, 256, -1) if levels.ndim > 1 else levels
    mapped: Any = cv2.LUT(image_HWC, per_channel)
    return mapped.reshape(image_HWC.shape)  # type: ignore[no-any-return]


def _gray(image_HWC: Bytes) -> Bytes:
    return cv2.cvtColor(image_HWC, cv2.COLOR_BGR2GRAY) if image_HWC.shape[2] == 3 else image_HWC  # type: ignore


def _blended(first_HWC: Any, second_HWC: Bytes, part: float) -> Bytes:
    mixed: Any = cv2.addWeighted(first_HWC, 1 - part, second_HWC, part, 0)
    return mixed.reshape(second_HWC.shape)  # type: ignore[no-any-return]
