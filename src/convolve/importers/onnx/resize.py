"""ONNX's Resize along one axis, as a matrix: each new cell is a weighted sum of old ones.

Source of the formulas: https://onnx.ai/onnx/operators/onnx__Resize.html.
"""

from collections.abc import Callable, Mapping
from math import ceil, floor
from typing import Any

import numpy as np

from convolve.errors import UnsupportedError

_ToOld = Callable[[float, int, int, float], float]  # (new place, old size, new size, scale) -> old place


def _half_pixel_symmetric(x: float, size: int, wanted: int, scale: float) -> float:
    adjustment = wanted / (scale * size)
    return size / 2 * (1 - adjustment) + (x + 0.5) / scale - 0.5


_COORDINATES: dict[str, _ToOld] = {
    "half_pixel": lambda x, size, wanted, scale: (x + 0.5) / scale - 0.5,
    "half_pixel_symmetric": _half_pixel_symmetric,
    "pytorch_half_pixel": lambda x, size, wanted, scale: (x + 0.5) / scale - 0.5 if wanted > 1 else 0.0,
    "align_corners": lambda x, size, wanted, scale: x * (size - 1) / (wanted - 1) if wanted > 1 else 0.0,
    "asymmetric": lambda x, size, wanted, scale: x / scale,
    "tf_half_pixel_for_nn": lambda x, size, wanted, scale: (x + 0.5) / scale,  # until opset 12
}
_NEAREST: dict[str, Callable[[float], int]] = {
    "round_prefer_floor": lambda x: ceil(x - 0.5),
    "round_prefer_ceil": lambda x: floor(float(x) + 0.5 + 1e-6),  # onnxruntime (1.31) takes 3.4999998 for 3.5
    "floor": floor,
    "ceil": ceil,
}


def resize_matrix(size: int, wanted: int, scale: float, settings: Mapping[str, Any]) -> np.ndarray:
    """(wanted, size), float32."""
    mode, coordinates, nearest = settings["mode"], settings["coordinates"], settings["nearest"]
    if coordinates not in _COORDINATES or nearest not in _NEAREST or mode not in ("nearest", "linear", "cubic"):
        raise UnsupportedError(f"a resize {mode}, {coordinates}, {nearest}")
    matrix = np.zeros((wanted, size))
    number: Callable[[float], Any] = np.float32 if mode == "nearest" else float  # as runtimes round it
    for row in range(wanted):
        place = _COORDINATES[coordinates](number(row), size, wanted, number(scale))
        if mode == "nearest":
            matrix[row, min(max(_NEAREST[nearest](place), 0), size - 1)] = 1
            continue
        cells, weights = _weights(place, scale, settings)
        outside = (cells < 0) | (cells >= size)
        if settings["exclude_outside"]:
            weights = np.where(outside, 0, weights)
            weights = weights / weights.sum()
        np.add.at(matrix[row], cells.clip(0, size - 1), weights)
    return matrix.astype(np.float32)


def _weights(place: float, scale: float, settings: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """(old cells, their weights) around a place; when shrinking with antialias, the kernel is as wide as a new cell."""
    stretch = min(scale, 1.0) if settings["antialias"] else 1.0
    reach = (1 if settings["mode"] == "linear" else 2) / stretch
    cells = np.arange(floor(place - reach) + 1, floor(place + reach) + 1)
    distance = np.abs(cells - place) * stretch
    weights = np.maximum(1 - distance, 0) if settings["mode"] == "linear" else _cubic(distance, settings["cubic"])
    return cells, weights / weights.sum() if settings["antialias"] else weights


def _cubic(d: np.ndarray, a: float) -> np.ndarray:
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))
