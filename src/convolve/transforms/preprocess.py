"""A model's preprocessing: how any image becomes the network's input, described once for everything that runs it."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from convolve.errors import UsageError
from convolve.formats.decode import MAX_PIXELS, Decoding, Orientation, to_planes
from convolve.transforms.crop import Crop, cut_box
from convolve.transforms.scale import Interpolation, Scale, ScaleMode, require_scalable, resized
from convolve.transforms.transform import MAX_SIDE, Image, Size, require, require_one_of

# Legend: C channel, H row, W column.

ChannelOrder = Literal["rgb", "bgr", "gray"]
Resize = Literal["cover", "letterbox", "squash", "square"]

TURNED = {
    "exif": "turned as EXIF says",
    "stored": "as stored, whatever EXIF says",
    "cntk": "turned as EXIF says but in zip archives and base64, as by CNTK",
}
_CHOICES = {"channel_order": ChannelOrder, "resize": Resize, "filter": Interpolation, "orientation": Orientation}
COMMAND_LINE = "the command line"  # where the user has said what the network needs
LETTERBOX_GRAY = 114  # around whole images, as in YOLO's letterbox (github.com/ultralytics/ultralytics)
_NOTHING_DRAWN = np.random.default_rng(0)  # by a crop at the center


@dataclass(frozen=True)
class Preprocess:
    """The network sees `(pixel - mean) * scale` of an image with `channels` planes (1: gray; 3: color) of that size.

    `mean` and `scale` are one number, or one a channel in the network's own order; `mean_image_CHW`, if there is one,
    is subtracted in place of the mean. `resize` says how an image of another size comes to the wanted one: "cover"
    scales it to cover that and cuts the center; "letterbox" scales the whole image to fit into it, and fills the rest
    with `padding_value` (-1: the image's own border, repeated); "squash" scales the whole image, whatever that does to
    its proportions; "square" is what CNTK's examples do, scale the central square. With a `crop_ratio` below 1 the
    network sees that part of the center only: of the sides that the image is scaled to, with "square" of its shorter
    side. `interpolation`: "area" averages what it shrinks, so that thin strokes survive, as "cover" and "letterbox" do;
    "linear" does not, nor does CNTK; "linear_antialiased" is ONNX's Resize, which other programs compute the same.
    `orientation`: whether photographs are turned as EXIF says; see `formats/decode.py`.
    `padding` pixels of gray level `padding_value` around the image are what training cropped from; only test-time
    augmentation uses them.
    `known_from` says who described all this; empty: nobody did, it is assumed. Raises UsageError for what does not fit
    together, ValueError for sizes that are none.
    """

    channels: int
    height: int
    width: int
    mean: float | tuple[float, ...] = 0.0
    scale: float | tuple[float, ...] = 1.0
    channel_order: ChannelOrder | None = None  # None: gray for one channel, otherwise rgb
    resize: Resize = "cover"
    crop_ratio: float = 1.0
    interpolation: Interpolation | None = None  # None: area with cover and letterbox, otherwise linear
    padding: int = 0
    padding_value: int = 0
    orientation: Orientation = "exif"
    known_from: str = "training"
    mean_image_CHW: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.channel_order is None:
            object.__setattr__(self, "channel_order", "gray" if self.channels == 1 else "rgb")
        if self.interpolation == self._usual_interpolation:  # so that equal values compare equal
            object.__setattr__(self, "interpolation", None)
        for name in ("mean", "scale"):
            if isinstance(getattr(self, name), list):  # as in JSON
                object.__setattr__(self, name, tuple(getattr(self, name)))
        if any(type(size) is not int or size < 1 for size in self.shape_CHW):
            raise ValueError(f"sizes must be whole numbers from 1, they are {self.shape_CHW}")
        for name, choices in _CHOICES.items():
            require_one_of(f"preprocess.{name}", str(getattr(self, name)), choices)
        fits = self.channels == (1 if self.channel_order == "gray" else 3)
        known = f"gray for 1 channel, rgb or bgr for 3, not {self.channels}"
        require(fits, "preprocess.channel_order", known, self.channel_order)
        factors = f"one number other than 0, or {self.channels}"
        require(self._are_numbers(self.scale) and 0 not in _each(self.scale), "preprocess.scale", factors, self.scale)
        ratio, padding, level = self.crop_ratio, self.padding, self.padding_value
        require(_is_number(ratio) and 0 < ratio <= 1, "preprocess.crop_ratio", "in (0, 1]", ratio)
        require_whole(self.resize, ratio)
        is_padding = type(padding) is int and 0 <= padding <= MAX_SIDE
        require(is_padding, "preprocess.padding", f"in 0..{MAX_SIDE}", padding)
        require(type(level) is int and -1 <= level <= 255, "preprocess.padding_value", "-1 or in 0..255", level)
        require(self._are_numbers(self.mean), "preprocess.mean", f"one number or {self.channels}", self.mean)
        shape = self.shape_CHW if self.mean_image_CHW is None else self.mean_image_CHW.shape
        require(shape == self.shape_CHW, "preprocess.mean", f"an image {self.shape_CHW}", shape)

    def _are_numbers(self, value: Any) -> bool:
        return all(map(_is_number, _each(value))) and (not isinstance(value, tuple) or len(value) == self.channels)

    @property
    def shape_CHW(self) -> tuple[int, int, int]:
        return self.channels, self.height, self.width

    @property
    def subtracted(self) -> float | NDArray[np.float32]:
        """The mean, shaped for subtraction from images_NCHW whose planes are in the network's order."""
        if self.mean_image_CHW is not None:
            return self.mean_image_CHW
        return _broadcasting(self.mean)

    @property
    def factors(self) -> float | NDArray[np.float32]:
        """The scale, shaped likewise."""
        return _broadcasting(self.scale)

    @property
    def filter(self) -> Interpolation:
        """The `interpolation`, or the default one."""
        return self.interpolation or self._usual_interpolation

    @property
    def _usual_interpolation(self) -> Interpolation:
        return "area" if self.resize in ("cover", "letterbox") else "linear"

    @property
    def size_before_crop(self) -> Size:
        """(height, width) before `crop_ratio` cuts out the wanted size."""
        return round(self.height / self.crop_ratio), round(self.width / self.crop_ratio)

    def leaves(self, size: tuple[int, ...]) -> bool:
        """Whether an image of that (height, width) is left unchanged."""
        cuts_square = self.resize == "square" and self.height != self.width
        return size == (self.height, self.width) and self.crop_ratio == 1 and not cuts_square

    def seen(self, size: Size) -> float:
        """The fraction of the area that the network gets of an image of that (height, width)."""
        height, width = size
        form = self.width * height / (self.height * width)
        if self.resize == "square":
            return (min(size) * self.crop_ratio) ** 2 / (height * width)
        return self.crop_ratio**2 * (min(form, 1 / form) if self.resize == "cover" else 1)

    def decoding(self, max_pixels: int = MAX_PIXELS) -> Decoding:
        """How images are decoded before they are fitted."""
        return Decoding(self.channels == 1, self.orientation, max_pixels)

    def mapping(self) -> dict[str, Any]:
        """The fields as JSON takes them, without the mean image."""
        values = asdict(self)
        del values["mean_image_CHW"]
        values["interpolation"] = self.filter
        return values

    def __str__(self) -> str:
        color = str(self.channel_order) if self.channels == 1 else str(self.channel_order).upper()
        is_usual = self.resize == "cover" and self.crop_ratio == 1
        size = f"{self.width}x{self.height}" if is_usual else self.size_in_words
        return f"{size} {color}, {self.arithmetic()}, {TURNED[self.orientation]}"

    def arithmetic(self, digits: int = 6) -> str:
        """What the network sees of a pixel, as a formula of what is done: nothing stands there that changes nothing."""
        mean = _in_words(self.mean, digits) if self.mean_image_CHW is None else "mean image"
        if not self.multiplies:
            return f"pixel - {mean}" if self.subtracts else "pixels as they are"
        return f"{f'(pixel - {mean})' if self.subtracts else 'pixel'} * {_in_words(self.scale, digits)}"

    @property
    def subtracts(self) -> bool:
        """Whether the mean changes anything."""
        return self.mean_image_CHW is not None or any(_each(self.mean))

    @property
    def multiplies(self) -> bool:
        """Whether the scale changes anything."""
        return any(factor != 1 for factor in _each(self.scale))

    @property
    def asked(self) -> tuple[str, ...]:
        """The first words of what the user's --mean and --scale do, as `graph.classifier.input_arithmetic` says it."""
        if self.known_from != COMMAND_LINE:
            return ()
        return ("minus", "plus") * self.subtracts + ("times", "divided") * self.multiplies

    @property
    def size_in_words(self) -> str:
        """How an image of another size is fitted, in words."""
        (height, width), size = self.size_before_crop, f"{self.width}x{self.height}"
        if self.resize == "square":
            part = "square" if self.crop_ratio == 1 else f"{self.crop_ratio:.10g} of the shorter side"
            return f"central {part} scaled to {size}"
        how = {"cover": "image scaled to cover", "squash": "whole image scaled to", "letterbox": "whole image within"}
        cut = f"{width}x{height}, of which the central " if self.crop_ratio < 1 else ""
        return f"{how[self.resize]} {cut}{size}"


def require_whole(resize: str, crop_ratio: float) -> None:
    """Raise `UsageError` for a crop together with letterbox."""
    if resize == "letterbox" and crop_ratio != 1:
        raise UsageError("crop_ratio cuts the image, and resize=letterbox keeps it whole; leave one of them out")


def fit_image(image_HWC: np.ndarray, preprocess: Preprocess) -> tuple[np.ndarray, str]:
    """(image_CHW uint8 of the wanted size, gray or in RGB planes; a description of what was done: "" if nothing).

    `image_HWC` is uint8, gray (C=1) or BGR as OpenCV decodes.
    """
    done = []
    height, width, channels = image_HWC.shape
    fit_HWC = fit_size(image_HWC, preprocess)
    if fit_HWC is not image_HWC:
        how = {"squash": "scaled", "letterbox": "scaled and padded"}.get(preprocess.resize, "scaled and center-cropped")
        how = how if preprocess.crop_ratio == 1 else "scaled and center-cropped"
        done.append(f"{how} from {width}x{height} to {preprocess.width}x{preprocess.height}")
    if channels != preprocess.channels:
        done.append("made gray" if preprocess.channels == 1 else "gray repeated in three planes")
    return to_planes(fit_HWC, preprocess.channels), ", ".join(done)


def fit_size(image_HWC: Image, preprocess: Preprocess) -> Image:
    """The image resized to the wanted size, its channels unchanged."""
    if preprocess.leaves(image_HWC.shape[:2]):
        return image_HWC
    scaled_HWC = scaled(image_HWC, preprocess)
    top, left = (scaled_HWC.shape[0] - preprocess.height) // 2, (scaled_HWC.shape[1] - preprocess.width) // 2
    return scaled_HWC[top : top + preprocess.height, left : left + preprocess.width]


def scaled(image_HWC: Image, preprocess: Preprocess) -> Image:
    """The image scaled, ready for the crop at its center, if there is one."""
    height, width = preprocess.size_before_crop
    if preprocess.resize == "cover":
        return _cover(image_HWC, preprocess)
    if preprocess.resize == "square":  # as CNTK's readers: Crop with sideRatio at the center, then Scale
        box = Crop(side_ratio=(preprocess.crop_ratio,)).draw(_NOTHING_DRAWN, *image_HWC.shape[:2])
        image_HWC, height, width = cut_box(image_HWC, box), preprocess.height, preprocess.width
    mode: ScaleMode = "pad" if preprocess.resize == "letterbox" else "fill"
    return Scale(width, height, preprocess.filter, mode, preprocess.padding_value).apply(image_HWC)


def _cover(image_HWC: Image, preprocess: Preprocess) -> Image:
    """The image scaled so that it just covers the size to cut out; its proportions are kept."""
    height, width = preprocess.size_before_crop
    ratio = max(height / image_HWC.shape[0], width / image_HWC.shape[1])
    sizes = ((image_HWC.shape[0], height), (image_HWC.shape[1], width))
    full_height, full_width = (max(round(side * ratio), wanted) for side, wanted in sizes)
    require_scalable(image_HWC, (full_height, full_width), (preprocess.height, preprocess.width))
    return resized(image_HWC, (full_height, full_width), preprocess.filter)


def _each(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _broadcasting(value: float | tuple[float, ...]) -> float | NDArray[np.float32]:
    return np.array(value, np.float32)[:, None, None] if isinstance(value, tuple) else value


def _in_words(value: float | tuple[float, ...], digits: int) -> str:
    numbers = ", ".join(f"{number:.{digits}g}" for number in _each(value))
    return f"({numbers})" if isinstance(value, tuple) else numbers


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
