"""Crop: choose a rectangle as CNTK's CropTransformer does, then cut it out.

Source: `Source/Readers/ImageReader/ImageTransformers.cpp` of CNTK 2.7; checked against its output.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from convolve.errors import UsageError
from convolve.transforms.transform import Image, Size, Tensor, Transform, WholeBatch, require, require_one_of

VIEWS = 10  # of "multiview10"
_ASPECT = ("aspect_ratio", 100, "above 0, up to 100")
_ATTEMPTS = 10  # CNTK then gives up and takes the whole image

Ratio = tuple[float, ...]  # one number or a range (min, max)
CropType = Literal["center", "randomside", "randomarea", "multiview10"]
JitterType = Literal["none", "uniratio"]


@dataclass(frozen=True)
class CropBox:
    """A rectangle in pixels, and whether it is mirrored after it is cut out."""

    left: int
    top: int
    width: int
    height: int
    mirrored: bool = False


@dataclass(frozen=True)
class CropBoxes:
    """A rectangle in each image of a batch, all of one size in pixels, and whether each is mirrored afterwards."""

    left_N: NDArray[np.int64]
    top_N: NDArray[np.int64]
    mirrored_N: NDArray[np.bool_]
    width: int
    height: int

    def part(self, mine: slice | NDArray[np.int64]) -> Self:
        """The boxes of some of the images."""
        return replace(self, left_N=self.left_N[mine], top_N=self.top_N[mine], mirrored_N=self.mirrored_N[mine])


@dataclass(frozen=True)
class Crop(Transform):
    """Cut a rectangle out of the image, then perhaps mirror it; names and meanings are CNTK's.

    Its size is `crop_width` x `crop_height` if given, else a square of `side_ratio` of the shorter side, or of
    `area_ratio` of the area, else the whole image; an `aspect_ratio` other than 1, above or below, then makes it wide
    or tall with equal probability. If a ratio is a range, CNTK uses its minimum, unless `jitter_type` is "uniratio".
    "center" takes the center, "randomside" and "randomarea" any place, "multiview10" the corners and the center, then
    the same five mirrored. `hflip=None` is CNTK's default: mirror half of the images for the random types only.
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
        require_one_of("crop.crop_type", self.crop_type, CropType)
        require_one_of("crop.jitter_type", self.jitter_type, JitterType)
        sizes = (self.crop_width, self.crop_height)
        usable = sizes == (0, 0) or min(sizes) > 0
        require(usable, "crop.crop_width and crop.crop_height", "both 0 or both positive", sizes)
        for name, most, words in (("side_ratio", 1, "in (0, 1]"), ("area_ratio", 1, "in (0, 1]"), _ASPECT):
            ratio = getattr(self, name)
            ordered = len(ratio) <= 2 and all(0 < value <= most for value in ratio) and list(ratio) == sorted(ratio)
            require(ordered, f"crop.{name}", f"one number or min:max, {words}", ratio)
        require(bool(self.aspect_ratio), "crop.aspect_ratio", "one number or min:max", self.aspect_ratio)
        if self.side_ratio and self.area_ratio:
            raise UsageError("crop.side_ratio and crop.area_ratio exclude each other; leave one of them out")

    @property
    def mirrors(self) -> bool:
        """Whether half of the crops are mirrored at random."""
        if self.crop_type == "multiview10":  # five of its views are mirrored already
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

    @property
    def fits_batches(self) -> bool:
        return not self.varies

    def size_after(self, size: Size | None) -> Size | None:
        return None if size is None or self.varies else self._draw_size(np.random.default_rng(0), *size)

    def draw(self, rng: np.random.Generator, height: int, width: int, view: int = 0) -> CropBox:
        """The rectangle for one image of `height` x `width` pixels; `view` 0..9 counts the views of "multiview10".

        Draws in this order, and only what is not fixed: ratio, aspect ratio, wide or tall, left, top, mirrored.
        """
        box_height, box_width = self._draw_size(rng, height, width)
        right, down = width - box_width, height - box_height
        if self.crop_type == "multiview10":
            corners = ((0, 0), (right, 0), (0, down), (right, down), (right // 2, down // 2))
            left, top = corners[view % 5]
            return CropBox(left, top, box_width, box_height, mirrored=view % VIEWS >= 5)
        if self.crop_type == "center":
            left, top = right // 2, down // 2
        else:
            left, top = int(rng.integers(right + 1)), int(rng.integers(down + 1))
        return CropBox(left, top, box_width, box_height, mirrored=self.mirrors and bool(rng.random() < 0.5))

    def draw_batch(self, rng: np.random.Generator, count: int, height: int, width: int) -> CropBoxes:
        """The choices of `draw` for `count` images of one size; the crop's size must not vary."""
        box_height, box_width = self._draw_size(rng, height, width)
        right, down = width - box_width, height - box_height
        if self.crop_type == "center":
            left_N, top_N = np.full(count, right // 2), np.full(count, down // 2)
        else:
            left_N, top_N = rng.integers(right + 1, size=count), rng.integers(down + 1, size=count)
        mirrored_N = rng.random(count) < 0.5 if self.mirrors else np.zeros(count, np.bool_)
        return CropBoxes(left_N, top_N, mirrored_N, box_width, box_height)

    def on_image(self, image_HWC: Image, rng: np.random.Generator) -> Image:
        height, width, _ = image_HWC.shape
        return cut_box(image_HWC, self.draw(rng, height, width))

    def on_batch(self, images_NCHW: Tensor, whole: WholeBatch) -> Tensor:
        height, width = images_NCHW.shape[2:]
        return cut_boxes(images_NCHW, self.draw_batch(whole.rng, whole.count, height, width).part(whole.part))

    def _draw_size(self, rng: np.random.Generator, height: int, width: int) -> Size:
        """The size of the rectangle, at least one pixel each way; random only if the crop `varies`."""
        if self.crop_width:
            return min(height, self.crop_height), min(width, self.crop_width)
        box_width, box_height = width, height
        for _ in range(_ATTEMPTS):
            if self.side_ratio:
                box_width = box_height = round_half_up(min(height, width) * self._draw_ratio(rng, self.side_ratio))
            elif self.area_ratio:
                area = height * width * self._draw_ratio(rng, self.area_ratio)
                box_width = box_height = round_half_up(math.sqrt(area))
            aspect = self._draw_ratio(rng, self.aspect_ratio)
            if aspect != 1:
                area = box_width * box_height
                shorter, longer = int(math.sqrt(area * aspect)), int(math.sqrt(area / aspect))
                box_width, box_height = (shorter, longer) if rng.random() < 0.5 else (longer, shorter)
            if box_width <= width and box_height <= height:
                return max(box_height, 1), max(box_width, 1)
        return height, width

    def _draw_ratio(self, rng: np.random.Generator, ratio: Ratio) -> float:
        low, high = float(np.float32(ratio[0])), float(np.float32(ratio[-1]))  # CNTK parses ratios as 32-bit floats
        return float(rng.uniform(low, high)) if self.jitter_type == "uniratio" and low < high else low


def cut_box(image_HWC: Image, box: CropBox) -> Image:
    """The pixels inside `box`: a view of the image, or a mirrored copy."""
    cut_HWC = image_HWC[box.top : box.top + box.height, box.left : box.left + box.width]
    if not box.mirrored:
        return cut_HWC
    mirrored_HWC: Any = cv2.flip(cut_HWC, 1)
    result: Image = mirrored_HWC.reshape(cut_HWC.shape)  # OpenCV drops the axis of one channel
    return result


def cut_boxes(images_NCHW: Tensor, boxes: CropBoxes) -> Tensor:
    """The pixels inside each box, mirrored where it says so. Copying box by box takes half of a gather's time.

    The images are in the processor's memory.
    """
    import torch

    count, channels, _, _ = images_NCHW.shape
    cut_NCHW = torch.empty((count, channels, boxes.height, boxes.width), dtype=images_NCHW.dtype)
    choices = zip(boxes.left_N.tolist(), boxes.top_N.tolist(), boxes.mirrored_N.tolist(), strict=True)
    for cut_CHW, image_CHW, (left, top, mirrored) in zip(cut_NCHW.numpy(), images_NCHW.numpy(), choices, strict=True):
        box_CHW = image_CHW[:, top : top + boxes.height, left : left + boxes.width]
        cut_CHW[...] = box_CHW[:, :, ::-1] if mirrored else box_CHW
    return cut_NCHW


def round_half_up(positive: float) -> int:
    """To the nearest whole number, halves away from zero, as C's round (unlike Python's)."""
    return math.floor(positive + 0.5)
