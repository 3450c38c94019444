"""CNTK's rules for sliding windows: which padding "auto" means, and vectors that are shorter than the filter's rank.

Source: design of CNTK's ConvolveGeometry, checked against 60 cases of the real CNTK 2.7 (tests/golden/importers).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from convolve.graph.shapes import require


@dataclass(frozen=True)
class Sliding:
    """One axis of a window that slides: padding may be negative, which cuts cells off."""

    lower: int
    upper: int
    count: int


def completed(values: Sequence[Any], window_rank: int, rank: int, fill: Any) -> list[Any]:
    """`rank` values from fewer: the last one serves the rest of the window's axes, `fill` those beyond."""
    require(1 <= len(values) <= rank, f"{len(values)} values for {rank} axes")
    repeated = [*values, *[values[-1]] * (window_rank - len(values))]
    return [*repeated, *[fill] * (rank - len(repeated))]


def sliding(size: int, window: int, stride: int, auto: bool, lower: int, upper: int, ceil: bool = False) -> Sliding:
    """How a window of `window` cells (dilation counted in) slides over `size` cells.

    The upper padding that comes back is what the last window needs, so that windows fit exactly: cells that "ceil"
    makes a window reach beyond the image count as padding, and cells that no window reaches are left out.
    Automatic padding is not TensorFlow's "same": it centers the windows on the image, so that with a stride of 4
    and a window of 1 the first one reads cell 1 of 8, not cell 0.
    """
    require(window >= 1 and stride >= 1 and size >= 1, f"a window of {window} with stride {stride} over {size} cells")
    room = (size - 1 if auto else size + lower + upper - window) + (stride - 1 if ceil else 0)
    require(room >= 0, f"a window of {window} over {size} cells padded by {lower} and {upper}")
    count = room // stride + 1
    if auto:
        spare = size - ((count - 1) * stride + 1)
        before = abs(spare) // 2 * (1 if spare >= 0 else -1)  # C's division, which rounds towards 0
        lower = (window - 1) // 2 - before
    return Sliding(lower, (count - 1) * stride + window - lower - size, count)
