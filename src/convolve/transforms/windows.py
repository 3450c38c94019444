"""Pad, crop and mirror a whole batch of images of one size: the same choices as for single images."""

from __future__ import annotations

from dataclasses import dataclass, replace

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

    def part(self, mine: slice) -> Windows:
        """The windows of some of the images."""
        return replace(self, left_N=self.left_N[mine], top_N=self.top_N[mine], mirrored_N=self.mirrored_N[mine])


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
    """The pixels inside each window, mirrored where it says so. Copying window by window takes half of a gather's time.

    The images are in the processor's memory.
    """
    count, channels, _, _ = images_NCHW.shape
    cut_NCHW = torch.empty((count, channels, windows.height, windows.width), dtype=images_NCHW.dtype)
    choices = zip(windows.left_N.tolist(), windows.top_N.tolist(), windows.mirrored_N.tolist(), strict=True)
    for cut_CHW, image_CHW, (left, top, mirrored) in zip(cut_NCHW.numpy(), images_NCHW.numpy(), choices, strict=True):
        window_CHW = image_CHW[:, top : top + windows.height, left : left + windows.width]
        cut_CHW[...] = window_CHW[:, :, ::-1] if mirrored else window_CHW
    return cut_NCHW


def draw_mirrors(spec: Flip, count: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which of `count` images to mirror: what `draw_flip` chooses."""
    return rng.random(count) < spec.probability


def apply_mirrors(images_NCHW: torch.Tensor, mirrored_N: NDArray[np.bool_]) -> torch.Tensor:
    """The images, some mirrored left to right."""
    mirrored = torch.from_numpy(mirrored_N).to(images_NCHW.device)
    return torch.where(mirrored[:, None, None, None], images_NCHW.flip(3), images_NCHW)


def apply_pad(images_NCHW: torch.Tensor, spec: Pad) -> torch.Tensor:
    """The images with a border of `spec.value`."""
    height, width = images_NCHW.shape[2:]
    return F.pad(images_NCHW, (spec.border(height, width),) * 4, value=spec.value)
