"""Where a model looks: cover one part of the picture after the other, and see how the answer changes.

Source: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4.2. It asks any
network through the same door as everybody else, where a method of gradients would need layers and a backward pass.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable

import numpy as np
from numpy.typing import NDArray

from convolve.model import Model

# Legend: C channels, H rows, W columns, K classes; R rows and S columns of the map.

FEWEST_CELLS, MOST_CELLS = 6, 14  # of a side of the map
PATIENCE_SECONDS = 1.0  # that a map may take, as far as FEWEST_CELLS allow
COVER_CELLS = 2.5  # side of the cover; neighbors overlap, so that the map is smooth
_TINY = 1e-37  # about the smallest probability in float32

Image = NDArray[np.uint8]
Ask = Callable[[Image], Awaitable[NDArray[np.float32]]]  # image_CHW -> probabilities_K


async def occlusion(
    ask: Ask, image_CHW: Image, class_index: int, cells: int, by_itself: bool = False
) -> NDArray[np.float64]:
    """change_RS: by how many nats the log-odds of the class fall when the part around a cell is covered.

    Positive: the part speaks for the class; negative: against it. The cover has the mean color of the picture.
    Log-odds do not saturate: 99.99 % that becomes 99 % is a change as large as 50 % that becomes 1 %. `by_itself`: the
    class is one of several that an image can be of.
    """
    _, height, width = image_CHW.shape
    rows, columns = min(cells, height), min(cells, width)
    before = log_odds(await ask(image_CHW), class_index, by_itself)
    change_RS = np.zeros((rows, columns))
    for row in range(rows):  # a row at a time, so that others are answered in between
        vertical = _span(row, rows, height)
        covered = [_covered(image_CHW, vertical, _span(column, columns, width)) for column in range(columns)]
        answers = await asyncio.gather(*map(ask, covered))
        change_RS[row] = [before - log_odds(probabilities_K, class_index, by_itself) for probabilities_K in answers]
    return change_RS


def log_odds(probabilities_K: NDArray[np.float32], class_index: int, by_itself: bool = False) -> float:
    """log(p / (1 - p)) of a class. 1 - p is the sum of the others: exact where p rounds to 1."""
    p = float(probabilities_K[class_index])
    others = 1 - p if by_itself else float(np.delete(probabilities_K, class_index).sum(dtype=np.float64))
    return math.log(max(p, _TINY)) - math.log(max(others, _TINY))


def cells_for(model: Model) -> int:
    """Cells a side for which `model` answers within PATIENCE_SECONDS on this machine; asking also warms it up."""
    images_NCHW = np.zeros((8, *model.preprocess.shape_CHW), np.uint8)
    model.probabilities(images_NCHW)
    start = time.perf_counter()
    model.probabilities(images_NCHW)
    images = PATIENCE_SECONDS / (time.perf_counter() - start) * len(images_NCHW)
    return max(FEWEST_CELLS, min(MOST_CELLS, math.isqrt(int(images))))


def _span(cell: int, cells: int, pixels: int) -> slice:
    """The pixels that are covered around a cell, along one axis."""
    cell_pixels = pixels / cells
    center, half = (cell + 0.5) * cell_pixels, COVER_CELLS / 2 * cell_pixels
    return slice(max(round(center - half), 0), min(round(center + half), pixels))


def _covered(image_CHW: Image, vertical: slice, horizontal: slice) -> Image:
    covered_CHW = image_CHW.copy()
    covered_CHW[:, vertical, horizontal] = np.rint(image_CHW.mean(axis=(1, 2), keepdims=True)).astype(np.uint8)
    return covered_CHW
