"""Cutout: a gray square somewhere in each image of a batch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convolve.transforms.transform import MAX_SIDE, Tensor, Transform, WholeBatch, require


@dataclass(frozen=True)
class Cutout(Transform):
    """Cover a square of `pixels` by `pixels`, centered anywhere in the image, with gray level `value`.

    Source: DeVries, Taylor (2017), arXiv:1708.04552.
    """

    pixels: int = 8
    value: int = 128

    def __post_init__(self) -> None:
        require(0 <= self.pixels <= MAX_SIDE, "cutout.pixels", f"in 0..{MAX_SIDE}", self.pixels)
        require(0 <= self.value <= 255, "cutout.value", "in 0..255", self.value)

    def draw_batch(self, rng: np.random.Generator, count: int, height: int, width: int) -> NDArray[np.int64]:
        """The row and column of each square's center, uniform over the image: shape (count, 2)."""
        return rng.integers((0, 0), (height, width), size=(count, 2), dtype=np.int64)

    def apply_batch(self, images_NCHW: Tensor, centers_N2: NDArray[np.int64]) -> Tensor:
        """A copy in which the squares, clipped to the image, have gray level `value`."""
        import torch

        starts_N2 = centers_N2 - self.pixels // 2
        height, width = images_NCHW.shape[2:]
        rows_NH, columns_NW = (
            (first_N[:, None] <= np.arange(side)) & (np.arange(side) < first_N[:, None] + self.pixels)
            for first_N, side in zip(starts_N2.T, (height, width), strict=True)
        )
        square_NHW = torch.from_numpy(rows_NH[:, :, None] & columns_NW[:, None, :])
        return images_NCHW.masked_fill(square_NHW[:, None].to(images_NCHW.device), self.value)

    def on_batch(self, images_NCHW: Tensor, whole: WholeBatch) -> Tensor:
        height, width = images_NCHW.shape[2:]
        return self.apply_batch(images_NCHW, self.draw_batch(whole.rng, whole.count, height, width)[whole.part])
