"""What happens to a batch on its way into the network: augmentation in the recipe's order, then normalization."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from convolve.transforms.affine import apply_affine, draw_affine
from convolve.transforms.preprocess import Preprocess
from convolve.transforms.shift import apply_shift, draw_shift
from convolve.transforms.spec import Affine, Shift, Transform

# spec -> (draw: spec, count, rng -> choices; apply: images_NCHW, choices -> images_NCHW)
_BATCH_TRANSFORMS: dict[type[Transform], tuple[Callable[..., Any], Callable[..., torch.Tensor]]] = {
    Shift: (draw_shift, apply_shift),
    Affine: (draw_affine, apply_affine),
}


def augment(images_NCHW: torch.Tensor, transforms: Sequence[Transform], rng: np.random.Generator) -> torch.Tensor:
    """Random `transforms`, in order; all choices come from `rng`. Pixels stay in 0..255."""
    for spec in transforms:
        draw, apply = _BATCH_TRANSFORMS[type(spec)]
        images_NCHW = apply(images_NCHW, draw(spec, len(images_NCHW), rng))
    return images_NCHW


def mean_of(preprocess: Preprocess) -> float | torch.Tensor:
    """What `normalize` subtracts."""
    mean = preprocess.subtracted
    return torch.from_numpy(mean) if isinstance(mean, np.ndarray) else mean


def normalize(images_NCHW: torch.Tensor, mean: float | torch.Tensor, scale: float, bgr: bool = False) -> torch.Tensor:
    """Pixels in 0..255 -> what the network sees: `(pixel - mean) * scale`, float32, channels_last.

    Planes are grey or RGB; with `bgr` the network sees them in that order. `mean` is a number or broadcasts.
    """
    if bgr:
        images_NCHW = images_NCHW.flip(1)
    if isinstance(mean, torch.Tensor):
        mean = mean.to(images_NCHW.device)
    # With one channel both layouts are the same bytes, and `to` would leave strides that convolutions reorder.
    images = images_NCHW.to(torch.float32, memory_format=torch.channels_last)
    return images.sub_(mean).mul_(scale) if images is not images_NCHW else (images - mean) * scale
