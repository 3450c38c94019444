"""Pad, crop and mirror a whole batch of images of one size: the same choices as for single images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from convolve.transforms.crop import draw_size
from convolve.transforms.image_spec import Crop, Flip
from convolve.transforms.spec import Pad

# Legend: N images, C channels, H rows, W columns.


@dataclass(frozen=True)
class Windows:
    """A rectangle in each image, all of one size in pixels, and whether it is mirrored after it was cut out."""

    left_N: NDArray[np.int64]
    top_N: NDArray[np.int64]
    mirrored_N: NDArray[np.bool_]
    width: int
    height: int


def draw_windows(spec: Crop, count: int, height: int, width: int, rng: np.random.Generator) -> Windows:
    """What `draw_crop` chooses, for `count` images of `height` x `width` pixels; `spec` must not vary in size."""
    box_width, box_height = draw_size(spec, height, width, rng)
    right, down = width - box_width, height - box_height
    if spec.crop_type == "center":
        left_N, top_N = np.full(count, right // 2), np.full(count, down // 2)
    else:
        left_N, top_N = rng.integers(right + 1, size=count), rng.integers(down + 1, size=count)
    mirrored_N = rng.random(count) < 0.5 if spec.mirrors else np.zeros(count, np.bool_)
    return Windows(left_N, top_N, mirrored_N, box_width, box_height)


def cut_windows(images_NCHW: torch.Tensor, windows: Windows) -> torch.Tensor:
    """The pixels inside each window, mirrored where it says so: one copy out of all the windows of the batch."""
    device = images_NCHW.device
    windows_NCYXHW = images_NCHW.unfold(2, windows.height, 1).unfold(3, windows.width, 1)  # a view; Y, X: places
    top_N, left_N = (torch.from_numpy(place_N).to(device) for place_N in (windows.top_N, windows.left_N))
    cut_NCHW = windows_NCYXHW[torch.arange(len(images_NCHW), device=device), :, top_N, left_N]
    return apply_mirrors(cut_NCHW, windows.mirrored_N) if windows.mirrored_N.any() else cut_NCHW


def draw_mirrors(spec: Flip, count: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which of `count` images to mirror: what `draw_flip` chooses."""
    return rng.random(count) < spec.probability


def apply_mirrors(images_NCHW: torch.Tensor, mirrored_N: NDArray[np.bool_]) -> torch.Tensor:
    """The images, some mirrored left to right."""
    mirrored = torch.from_numpy(mirrored_N).to(images_NCHW.device)
    return torch.where(mirrored[:, None, None, None], images_NCHW.flip(3), images_NCHW)


def apply_pad(images_NCHW: torch.Tensor, spec: Pad) -> torch.Tensor:
    """The images with a border of `spec.value`."""
    return F.pad(images_NCHW, (spec.pixels,) * 4, value=spec.value)
