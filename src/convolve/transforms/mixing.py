"""What MixUp and CutMix have in common: each image of a batch is mixed with the one before it, and so is its label.

As in torchvision 0.23 (`transforms/v2/_augment.py`), the first image is mixed with the last, and all in the same
proportion.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from convolve.transforms.transform import Tensor, Transform, require


@dataclass(frozen=True)
class Mix:
    """`own`: the fraction that an image keeps of itself. `box`: the rows and columns replaced; None: a blend of all."""

    own: float = 1.0
    box: tuple[slice, slice] | None = None


@dataclass(frozen=True)
class Mixing(Transform):
    """Mix the images of a batch and their labels, with this probability; the fraction is from Beta(alpha, alpha)."""

    alpha: float = 1.0
    probability: float = 1.0

    def __post_init__(self) -> None:
        name = type(self).__name__.lower()
        require(self.alpha > 0, f"{name}.alpha", "above 0", self.alpha)
        require(0 <= self.probability <= 1, f"{name}.probability", "in [0, 1]", self.probability)

    def draw_mix(self, rng: np.random.Generator, height: int, width: int) -> Mix:
        raise NotImplementedError

    @property
    def fits_batches(self) -> bool:
        return True


def draw_mix(mixing: Sequence[Mixing], rng: np.random.Generator, height: int, width: int) -> Mix:
    """The choice for a whole batch: by one of `mixing`, or none."""
    chosen = mixing[int(rng.integers(len(mixing)))]
    return chosen.draw_mix(rng, height, width) if rng.random() < chosen.probability else Mix()


def mixed(images_NCHW: Tensor, labels: Tensor, mix: Mix, classes: int) -> tuple[Tensor, Tensor]:
    """All images but the first, each mixed with the one before it, and their labels_NK, float32.

    `labels` are class numbers, or arrays that can be mixed directly.
    """
    import torch
    from torch.nn import functional as F

    if labels.dtype == torch.int64:
        labels = F.one_hot(labels, classes).float()
    own_NCHW, others_NCHW = images_NCHW[1:], images_NCHW[:-1]
    soft_NK = torch.lerp(labels[:-1], labels[1:], mix.own)
    if mix.box is None:
        return torch.lerp(others_NCHW, own_NCHW, mix.own), soft_NK
    cut_NCHW, (rows, columns) = own_NCHW.clone(), mix.box
    cut_NCHW[:, :, rows, columns] = others_NCHW[:, :, rows, columns]
    return cut_NCHW, soft_NK
