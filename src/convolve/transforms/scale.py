"""Scale: resize one image exactly as CNTK's ScaleTransformer does, which is OpenCV's resize without antialiasing.

A uint8 image is resized in OpenCV's 8-bit arithmetic, a float32 one (after `mean`) in floats, as there.
"""

from __future__ import annotations

import cv2

from convolve.errors import DataError
from convolve.transforms.image_spec import Scale
from convolve.transforms.pixels import Image, like, round_half_up

MAX_PIXELS = 1 << 27  # of what is scaled before it is cut: a picture of 1 x 50000 pixels would take 7 GB
_INTERPOLATIONS = {
    "linear": cv2.INTER_LINEAR,
    "nearest": cv2.INTER_NEAREST,
    "cubic": cv2.INTER_CUBIC,
    "lanczos": cv2.INTER_LANCZOS4,
}


def apply_scale(image_HWC: Image, spec: Scale) -> Image:
    """The image in `spec.width` x `spec.height`, same type and channels. `DataError` for extremely narrow ones."""
    height, width, _ = image_HWC.shape
    full_width, full_height = _size_before_fit(spec, height, width)
    require_scalable(image_HWC, (full_height, full_width), (spec.height, spec.width))
    flag = _INTERPOLATIONS[spec.interpolation]
    resized = like(image_HWC, cv2.resize(image_HWC, (full_width, full_height), interpolation=flag))
    if spec.scale_mode == "crop":
        left, top = (full_width - spec.width) // 2, (full_height - spec.height) // 2
        return resized[top : top + spec.height, left : left + spec.width]
    if spec.scale_mode == "pad":
        return _pad(resized, spec)
    return resized


def require_scalable(image_HWC: Image, full: tuple[int, int], wanted: tuple[int, int]) -> None:
    """Raise `DataError` where the (height, width) `full`, from which `wanted` is cut, would fill the memory."""
    if full[0] * full[1] > MAX_PIXELS:
        height, width, _ = image_HWC.shape
        raise DataError(f"{width} x {height} pixels are too narrow to be cut to {wanted[1]} x {wanted[0]}")


def _size_before_fit(spec: Scale, height: int, width: int) -> tuple[int, int]:
    """Width and height to resize to: the aspect ratio is kept where something is cut or padded afterwards."""
    if spec.scale_mode == "fill":
        return spec.width, spec.height
    width_scales_more = spec.width * height > spec.height * width
    if width_scales_more == (spec.scale_mode == "crop"):
        return spec.width, max(round_half_up(height * spec.width / width), 1)
    return max(round_half_up(width * spec.height / height), 1), spec.height


def _pad(image_HWC: Image, spec: Scale) -> Image:
    height, width = image_HWC.shape[:2]
    down, right = spec.height - height, spec.width - width
    border = cv2.BORDER_REPLICATE if spec.pad_value < 0 else cv2.BORDER_CONSTANT
    value = (float(spec.pad_value),) * 4
    sides = (down // 2, down - down // 2, right // 2, right - right // 2)
    return like(image_HWC, cv2.copyMakeBorder(image_HWC, *sides, border, value=value))
