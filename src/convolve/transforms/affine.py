"""Affine: rotation, scale, shear and translation of a batch by bilinear sampling, zeros moving in."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from convolve.transforms.spec import Affine


def draw_affine(spec: Affine, count: int, rng: np.random.Generator) -> np.ndarray:
    """Matrices (count, 2, 3), float32: output pixel coordinates, measured from the centre, to input coordinates."""
    angle, shear = (np.radians(limit * rng.uniform(-1, 1, count)) for limit in (spec.degrees, spec.shear_degrees))
    scale = 1 + spec.scale_fraction * rng.uniform(-1, 1, count)
    cosine, sine, slant = np.cos(angle), np.sin(angle), np.tan(shear)
    matrices = np.empty((count, 2, 3), np.float32)
    matrices[:, 0, 0], matrices[:, 0, 1] = cosine / scale, (cosine * slant + sine) / scale
    matrices[:, 1, 0], matrices[:, 1, 1] = -sine / scale, (cosine - sine * slant) / scale
    matrices[:, :, 2] = spec.pixels * rng.uniform(-1, 1, (count, 2))
    return matrices


def apply_affine(images_NCHW: torch.Tensor, matrices_N23: np.ndarray) -> torch.Tensor:
    """The images sampled where `matrices_N23` send each pixel: float32, not rounded."""
    _, _, height, width = images_NCHW.shape
    # torch measures from -1 to 1 over the image, so the matrix is conjugated by half the size.
    half = np.array([width / 2, height / 2], np.float32)
    theta = (
        np.concatenate([matrices_N23[:, :, :2] * half[None, None, :], matrices_N23[:, :, 2:]], axis=2)
        / half[None, :, None]
    )
    grid = F.affine_grid(torch.from_numpy(theta).to(images_NCHW.device), list(images_NCHW.shape), align_corners=False)
    return F.grid_sample(images_NCHW.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
