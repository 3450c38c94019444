"""Transforms of a whole batch, as the loader does them one after the other."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from convolve.transforms.transform import Transform, WholeBatch


def transform_batch(images_NCHW: torch.Tensor, transforms: Iterable[Transform], whole: WholeBatch) -> torch.Tensor:
    """`transforms` of a batch, or of a part of it, in order."""
    for transform in transforms:
        images_NCHW = transform.on_batch(images_NCHW, whole)
    return images_NCHW
