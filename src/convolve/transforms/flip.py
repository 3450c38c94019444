"""Flip and AlternatingFlip: mirror an image, left to right."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from convolve.transforms.transform import Image, Tensor, Transform, WholeBatch, require, with_channel_axis


@dataclass(frozen=True)
class Flip(Transform):
    """Mirror the image, left to right, with this probability."""

    probability: float = 0.5

    def __post_init__(self) -> None:
        require(0 <= self.probability <= 1, "flip.probability", "in [0, 1]", self.probability)

    def draw(self, rng: np.random.Generator) -> bool:
        return bool(rng.random() < self.probability)

    def draw_batch(self, rng: np.random.Generator, count: int) -> NDArray[np.bool_]:
        return rng.random(count) < self.probability

    def on_image(self, image_HWC: Image, rng: np.random.Generator) -> Image:
        return mirrored(image_HWC) if self.draw(rng) else image_HWC

    def on_batch(self, images_NCHW: Tensor, whole: WholeBatch) -> Tensor:
        return mirror_some(images_NCHW, self.draw_batch(whole.rng, whole.count)[whole.part])


@dataclass(frozen=True)
class AlternatingFlip(Transform):
    """Mirror half of the images, left to right, in one pass over the data and the other half in the next.

    Two passes show each image both ways; with `Flip`, half of the images look the same twice. Source: Jordan (2024),
    arXiv:2404.00498, section 3.6.
    """

    def on_batch(self, images_NCHW: Tensor, whole: WholeBatch) -> Tensor:
        return images_NCHW if whole.flipped_N is None else mirror_some(images_NCHW, whole.flipped_N)


def mirrored(image_HWC: Image) -> Image:
    """The image mirrored left to right."""
    return with_channel_axis(cv2.flip(image_HWC, 1), image_HWC.shape[2])


def mirror_some(images_NCHW: Tensor, mirrored_N: NDArray[np.bool_]) -> Tensor:
    """The images, some mirrored left to right."""
    import torch

    mirrored = torch.from_numpy(mirrored_N).to(images_NCHW.device)
    return torch.where(mirrored[:, None, None, None], images_NCHW.flip(3), images_NCHW)
