"""Affine: rotation, scale, shear and translation of a batch by bilinear sampling; zeros fill the border."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convolve.transforms.transform import Tensor, Transform, WholeBatch, require


@dataclass(frozen=True)
class Affine(Transform):
    """Rotate, scale each axis, shear and shift by uniform random amounts within plus-minus these; zeros fill the
    border."""

    degrees: float = 10.0
    scale_fraction: float = 0.1
    shear_degrees: float = 0.0
    pixels: float = 2.0

    def __post_init__(self) -> None:
        for field, value in vars(self).items():
            require(value >= 0, f"affine.{field}", "at least 0", value)
        require(self.scale_fraction < 1, "affine.scale_fraction", "below 1", self.scale_fraction)

    def draw_batch(self, rng: np.random.Generator, count: int) -> NDArray[np.float32]:
        """Matrices (count, 2, 3): output pixel coordinates, measured from the center, to input coordinates."""
        angle, shear = (np.radians(limit * rng.uniform(-1, 1, count)) for limit in (self.degrees, self.shear_degrees))
        across, down = 1 + self.scale_fraction * rng.uniform(-1, 1, (2, count))
        cosine, sine, slant = np.cos(angle), np.sin(angle), np.tan(shear)
        matrices = np.empty((count, 2, 3), np.float32)
        matrices[:, 0, 0], matrices[:, 0, 1] = cosine / across, (cosine * slant + sine) / down
        matrices[:, 1, 0], matrices[:, 1, 1] = -sine / across, (cosine - sine * slant) / down
        matrices[:, :, 2] = self.pixels * rng.uniform(-1, 1, (count, 2))
        return matrices

    def apply_batch(self, images_NCHW: Tensor, matrices_N23: NDArray[np.float32]) -> Tensor:
        """The images sampled where `matrices_N23` map each pixel: float32, not rounded."""
        import torch
        from torch.nn import functional as F

        count, _, height, width = images_NCHW.shape
        # Pixel centers measured from the middle of the image, one row (x, y, 1) each. A matrix product over them takes
        # a thirtieth of F.affine_grid's time.
        x_W, y_H = np.arange(width) - (width - 1) / 2, np.arange(height) - (height - 1) / 2
        homogeneous = np.stack([np.tile(x_W, height), np.repeat(y_H, width), np.ones(height * width)], axis=1)
        # grid_sample takes coordinates in -1..1.
        half = np.array([width / 2, height / 2])
        matrices = torch.from_numpy((matrices_N23 / half[:, None]).transpose(0, 2, 1).astype(np.float32))
        grid = torch.from_numpy(homogeneous.astype(np.float32)) @ matrices
        grid_NHW2 = grid.view(count, height, width, 2).to(images_NCHW.device)
        return F.grid_sample(images_NCHW.float(), grid_NHW2, mode="bilinear", padding_mode="zeros", align_corners=False)

    def on_batch(self, images_NCHW: Tensor, whole: WholeBatch) -> Tensor:
        return self.apply_batch(images_NCHW, self.draw_batch(whole.rng, whole.count)[whole.part])
