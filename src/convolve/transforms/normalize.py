"""Mean and scale: the last step before the network."""

import numpy as np
import torch
from numpy.typing import NDArray

from convolve.transforms.preprocess import Preprocess


def mean_of(preprocess: Preprocess) -> float | torch.Tensor:
    """What `normalize` subtracts: a mean image in the images' memory layout, or it would take twice as long."""
    return _laid_out(preprocess.subtracted)


def scale_of(preprocess: Preprocess) -> float | torch.Tensor:
    """The factor of `normalize`."""
    return _laid_out(preprocess.factors)


def _laid_out(value: float | NDArray[np.float32]) -> float | torch.Tensor:
    if not isinstance(value, np.ndarray):
        return value
    return torch.from_numpy(value)[None].contiguous(memory_format=torch.channels_last)


def normalize_in_one_thread(
    images_NCHW: torch.Tensor, mean: float | torch.Tensor, scale: float | torch.Tensor, bgr: bool = False
) -> torch.Tensor:
    """The result of `normalize`, bit for bit, computed by the calling thread alone, image by image within its cache.

    For batches prepared in the background, in the processor's memory: between batches, torch's threads would spin on
    the cores that decode images (docs/experiments.md).
    """
    images_NHWC = images_NCHW.permute(0, 2, 3, 1).numpy()
    if bgr:
        images_NHWC = images_NHWC[..., ::-1]
    mean_HWC, scale_HWC = (
        value[0].permute(1, 2, 0).numpy() if isinstance(value, torch.Tensor) else value for value in (mean, scale)
    )
    ready_NHWC = np.empty(images_NHWC.shape, np.float32)
    for image_HWC, ready_HWC in zip(images_NHWC, ready_NHWC, strict=True):
        ready_HWC[...] = image_HWC
        np.subtract(ready_HWC, mean_HWC, out=ready_HWC)
        np.multiply(ready_HWC, scale_HWC, out=ready_HWC)
    return torch.from_numpy(ready_NHWC).permute(0, 3, 1, 2)
