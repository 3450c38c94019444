"""Shift: whole-pixel translation of a batch, zeros moving in."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from convolve.transforms.spec import Shift


def draw_shift(spec: Shift, count: int, rng: np.random.Generator) -> np.ndarray:
    """Offsets in pixels (down, right), each uniform over -pixels..pixels: int64, shape (count, 2)."""
    return rng.integers(-spec.pixels, spec.pixels + 1, size=(count, 2), dtype=np.int64)


def apply_shift(images_NCHW: torch.Tensor, offsets_N2: np.ndarray) -> torch.Tensor:
    """Each image moved down and right by its offset. One gather over the padded batch: the cost of a copy."""
    count, channels, height, width = images_NCHW.shape
    margin = int(np.abs(offsets_N2).max(initial=0))
    padded = F.pad(images_NCHW, (margin, margin, margin, margin)).flatten(2)
    row_stride = width + 2 * margin
    origin_N = (margin - offsets_N2[:, 0]) * row_stride + (margin - offsets_N2[:, 1])
    pixel_HW = (np.arange(height)[:, None] * row_stride + np.arange(width)).reshape(-1)
    index = torch.from_numpy(origin_N[:, None] + pixel_HW).to(images_NCHW.device)
    return padded.gather(2, index[:, None].expand(-1, channels, -1)).view(count, channels, height, width)
