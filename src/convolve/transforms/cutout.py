"""Cutout: a grey square somewhere in each image of a batch."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from convolve.transforms.spec import Cutout


def draw_cutout(count: int, height: int, width: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The row and column of each square's centre, uniform over the image: shape (count, 2)."""
    return rng.integers((0, 0), (height, width), size=(count, 2), dtype=np.int64)


def apply_cutout(images_NCHW: torch.Tensor, spec: Cutout, centres_N2: NDArray[np.int64]) -> torch.Tensor:
    """A copy with the squares, as much of them as lies within the image, at `spec.value`."""
    starts_N2 = centres_N2 - spec.pixels // 2
    height, width = images_NCHW.shape[2:]
    rows_NH, columns_NW = (
        (first_N[:, None] <= np.arange(side)) & (np.arange(side) < first_N[:, None] + spec.pixels)
        for first_N, side in zip(starts_N2.T, (height, width), strict=True)
    )
    square_NHW = torch.from_numpy(rows_NH[:, :, None] & columns_NW[:, None, :])
    return images_NCHW.masked_fill(square_NHW[:, None].to(images_NCHW.device), spec.value)
