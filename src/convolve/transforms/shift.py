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
    """Each image moved down and right by its offset: one copy out of all the windows of the padded batch."""
    count, _, height, width = images_NCHW.shape
    margin = int(np.abs(offsets_N2).max(initial=0))
    padded = F.pad(images_NCHW, (margin, margin, margin, margin))
    windows_NCYXHW = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: Y, X count the places of a window
    down_N, right_N = torch.from_numpy(margin - offsets_N2).to(images_NCHW.device).unbind(1)
    return windows_NCYXHW[torch.arange(count, device=images_NCHW.device), :, down_N, right_N]
