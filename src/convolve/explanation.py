"""Where a model looks: cover one part of the picture after another, and measure how the answer changes.

Source: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4.2. It works with
any network that can predict; gradient-based methods would need its layers and a backward pass.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from convolve.data.file_batches import file_batches
from convolve.data.image_files import find_images
from convolve.errors import DataError, UsageError, look_up
from convolve.model import Model
from convolve.notebook import image, table
from convolve.records import TargetKind

# Legend: C channels, H rows, W columns, K classes; R rows and S columns of the map.

FEWEST_CELLS, MOST_CELLS = 6, 14  # of a side of the map
PATIENCE_SECONDS = 1.0  # that a map may take, as far as FEWEST_CELLS allow
COVER_CELLS = 2.5  # side of the cover; neighbors overlap, so that the map is smooth
_FOR, _AGAINST = (240, 120, 0), (0, 90, 220)  # orange and blue, in RGB
_FAINT = 1.0  # nats: where no part changes the answer by as much, the map stays pale
_TINY = 1e-37  # about the smallest probability in float32

Image = NDArray[np.uint8]
Ask = Callable[[Image], Awaitable[NDArray[np.float32]]]  # image_CHW -> probabilities_K


async def occlusion(
    ask: Ask, image_CHW: Image, class_index: int, cells: int, by_itself: bool = False
) -> NDArray[np.float64]:
    """change_RS: by how many nats the log-odds of the class fall when the part around a cell is covered.

    Positive: the part is evidence for the class; negative: against it. The cover has the picture's mean color.
    Log-odds do not saturate: 99.99 % that becomes 99 % is a change as large as 50 % that becomes 1 %. `by_itself`: an
    image can have several classes, and this is one of them.
    """
    before = log_odds(await ask(image_CHW), class_index, by_itself)
    rows = []
    for covered in _covered_rows(image_CHW, cells):  # one row at a time, so that other requests are answered in between
        answers = await asyncio.gather(*map(ask, covered))
        rows.append([before - log_odds(probabilities_K, class_index, by_itself) for probabilities_K in answers])
    return np.array(rows)


@dataclass(frozen=True)
class Explanation:
    """Where a model looks for a class: `image_CHW`, the network's input, and `change_RS`, see `occlusion`."""

    path: str
    class_name: str
    image_CHW: Image
    change_RS: NDArray[np.float64]

    def picture(self) -> Image:
        """image_HWC in RGB, overlaid with the map: orange is evidence for the class, blue against it."""
        height, width = self.image_CHW.shape[1:]
        change_HW = cv2.resize(self.change_RS, (width, height), interpolation=cv2.INTER_LINEAR)
        weight_HW1 = (0.75 * np.abs(change_HW) / max(_FAINT, np.abs(self.change_RS).max()))[..., None]
        color_HWC = np.where(change_HW[..., None] > 0, _FOR, _AGAINST)
        seen_HWC = self.image_CHW.transpose(1, 2, 0)
        mixed_HWC: Image = np.rint(seen_HWC * (1 - weight_HW1) + color_HWC * weight_HW1).astype(np.uint8)
        return mixed_HWC

    def _repr_html_(self) -> str:
        seen_HWC = np.ascontiguousarray(self.image_CHW.transpose(1, 2, 0))
        shown = image(seen_HWC, self.path, 224) + image(self.picture(), f"where {self.class_name} is seen", 224)
        return shown + table([("class", self.class_name), ("orange", "speaks for it"), ("blue", "against it")])


def explain(model: Model, path: str | Path, class_name: str | None = None, cells: int = 8) -> Explanation:
    """Where `model` looks in an image for a class, by default the most probable; the map has `cells` per side."""
    model.require_classes()
    model.require_images()
    if model.target.kind == TargetKind.NUMBER:
        raise UsageError("the model gives numbers, and an explanation needs a class")
    locations = list(find_images([path]))
    if len(locations) != 1:
        raise UsageError(f"{path} holds {len(locations)} images, and an explanation needs one; name one of them")
    [batch] = file_batches(locations, model.preprocess, model.decoding, batch_size=1, threads=1)
    if batch.errors[0]:
        raise DataError(f"{path}: {batch.errors[0]}")
    [image_CHW] = batch.images_NCHW
    [answer_K] = model.probabilities(batch.images_NCHW).numpy()
    names = {name: k for k, name in enumerate(model.class_names)}
    index = int(answer_K.argmax()) if class_name is None else look_up(names, class_name, "class")
    by_itself = model.target.kind == TargetKind.CLASSES
    before = log_odds(answer_K, index, by_itself)
    answers_RSK = [model.probabilities(np.stack(covered)).numpy() for covered in _covered_rows(image_CHW, cells)]
    change = [[before - log_odds(answer_K, index, by_itself) for answer_K in row] for row in answers_RSK]
    return Explanation(str(path), model.class_names[index], image_CHW, np.array(change))


def log_odds(probabilities_K: NDArray[np.float32], class_index: int, by_itself: bool = False) -> float:
    """log(p / (1 - p)) of a class. 1 - p is summed from the other classes, which is exact even where p rounds to 1."""
    p = float(probabilities_K[class_index])
    others = 1 - p if by_itself else float(np.delete(probabilities_K, class_index).sum(dtype=np.float64))
    return math.log(max(p, _TINY)) - math.log(max(others, _TINY))


def cells_for(model: Model) -> int:
    """Cells per side for which `model` answers within PATIENCE_SECONDS here; measuring also warms it up."""
    images_NCHW = np.zeros((8, *model.preprocess.shape_CHW), np.uint8)
    model.probabilities(images_NCHW)
    start = time.perf_counter()
    model.probabilities(images_NCHW)
    images = PATIENCE_SECONDS / (time.perf_counter() - start) * len(images_NCHW)
    return max(FEWEST_CELLS, min(MOST_CELLS, math.isqrt(int(images))))


def _span(cell: int, cells: int, pixels: int) -> slice:
    """The pixels covered around a cell, along one axis."""
    cell_pixels = pixels / cells
    center, half = (cell + 0.5) * cell_pixels, COVER_CELLS / 2 * cell_pixels
    return slice(max(round(center - half), 0), min(round(center + half), pixels))


def _covered_rows(image_CHW: Image, cells: int) -> Iterator[list[Image]]:
    """Row by row of the map, the image with the part around each cell covered."""
    _, height, width = image_CHW.shape
    rows, columns = min(cells, height), min(cells, width)
    for row in range(rows):
        vertical = _span(row, rows, height)
        yield [_covered(image_CHW, vertical, _span(column, columns, width)) for column in range(columns)]


def _covered(image_CHW: Image, vertical: slice, horizontal: slice) -> Image:
    covered_CHW = image_CHW.copy()
    covered_CHW[:, vertical, horizontal] = np.rint(image_CHW.mean(axis=(1, 2), keepdims=True)).astype(np.uint8)
    return covered_CHW
