"""The input of an exported network: normalized images or pixels, and the images for comparisons.

Legend: N images, C channels, H rows, W columns.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import nn

from convolve.data.known import guess_dataset
from convolve.data.loader import normalize
from convolve.data.locate import SAMPLE
from convolve.data.open import open_data
from convolve.data.sources.source import ArraySource
from convolve.errors import MissingDataError
from convolve.transforms.normalize import mean_of, scale_of
from convolve.transforms.preprocess import Preprocess

NOISY, NATURAL = 16, 16  # images: enough to show a difference, fast enough for a VGG-16


class PixelsIn(nn.Module):
    """uint8 images_NHWC, gray or RGB, -> the output of `network` for them after normalization."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, network: nn.Module, preprocess: Preprocess) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.as_tensor(mean_of(preprocess)).contiguous())
        self.register_buffer("scale", torch.as_tensor(scale_of(preprocess)).contiguous())
        self._bgr = preprocess.channel_order == "bgr"

    def forward(self, images_NHWC: torch.Tensor) -> Any:
        images_NCHW = normalize(images_NHWC.permute(0, 3, 1, 2), self.mean, self.scale, self._bgr)
        return self.network(images_NCHW)


class WithProbabilities(nn.Module):
    """Adds the probabilities to a network's output (logits_NK, distance_N): (logits_NK, probabilities_NK,
    distance_N)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images_NCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits_NK, distance_N = self.network(images_NCHW)
        return logits_NK, logits_NK.softmax(1), distance_N


def as_input(images_NCHW: torch.Tensor, preprocess: Preprocess, with_preprocessing: bool) -> torch.Tensor:
    """uint8 pixels, gray or in RGB planes, in the form that the file takes."""
    if with_preprocessing:
        return images_NCHW.permute(0, 2, 3, 1).contiguous()
    return normalize(
        images_NCHW, mean_of(preprocess), scale_of(preprocess), preprocess.channel_order == "bgr"
    ).contiguous()


def extreme_inputs(
    images_NCHW: torch.Tensor, preprocess: Preprocess, with_preprocessing: bool
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(input of the network, input of the file) with extreme values: black, white, the largest contrast; if the file
    takes normalized images, also zeros, negative values, and values too large or too small for an image."""
    rows, columns = np.indices(images_NCHW.shape[2:])
    board = torch.from_numpy(((rows + columns) % 2 * 255).astype(np.uint8))
    pixels = torch.stack([torch.zeros_like(images_NCHW[0]), torch.full_like(images_NCHW[0], 255),
                          board.expand_as(images_NCHW[0])])  # fmt: skip
    yield as_input(pixels, preprocess, False), as_input(pixels, preprocess, with_preprocessing)
    if not with_preprocessing:
        normalized = as_input(images_NCHW, preprocess, False)
        for factor in (0.0, -1.0, 1 / 256, -1 / 256, 8.0, -8.0):
            yield normalized * factor, normalized * factor


def probe_images(shape_CHW: tuple[int, int, int], classes: int) -> torch.Tensor:
    """uint8 images_NCHW: noise, then real images if the package has some, otherwise natural-looking ones."""
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(rng.integers(0, 256, (NOISY, *shape_CHW), dtype=np.uint8))
    info = guess_dataset(shape_CHW, classes)
    with suppress(MissingDataError):  # not every data set has a sample
        sample = open_data(SAMPLE, info.name).test if info else None
        if isinstance(sample, ArraySource):
            return torch.cat([noise, sample.images_NCHW.reshape(-1, *shape_CHW)])
    return torch.cat([noise, torch.from_numpy(natural_images(NATURAL, shape_CHW, rng))])


def natural_images(count: int, shape_CHW: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """Random uint8 images_NCHW with the statistics of photographs.

    Amplitudes fall as 1 / frequency (D. J. Field, 1987), and the color channels are mostly correlated.
    """
    channels, height, width = shape_CHW
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    size = (count, channels, *frequency.shape)
    spectrum = (rng.normal(size=size) + 1j * rng.normal(size=size)) / np.maximum(frequency, 1 / max(height, width))
    planes = np.fft.irfft2(spectrum, s=(height, width))
    planes = 0.8 * planes.mean(1, keepdims=True) + 0.2 * planes
    planes /= planes.std(axis=(1, 2, 3), keepdims=True) + 1e-12
    images_NCHW: np.ndarray = (118 + 55 * planes).clip(0, 255).astype(np.uint8)
    return images_NCHW
