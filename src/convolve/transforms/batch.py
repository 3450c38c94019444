"""What happens to a batch on its way into the network: augmentation in the recipe's order, then normalization."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from convolve.transforms.affine import apply_affine, draw_affine
from convolve.transforms.cutout import apply_cutout, draw_cutout
from convolve.transforms.image_spec import Crop, Flip
from convolve.transforms.preprocess import Preprocess
from convolve.transforms.shift import apply_shift, draw_shift
from convolve.transforms.spec import Affine, AlternatingFlip, Cutout, Pad, Shift, Transform
from convolve.transforms.windows import apply_mirrors, apply_pad, cut_windows, draw_mirrors, draw_windows


@dataclass(frozen=True)
class Drawn:
    """Choices are drawn for a whole batch of `count` images; the images at hand are the part `mine` of it.

    `turn_N` says which of them it is the turn of to be mirrored.
    """

    rng: np.random.Generator
    count: int
    mine: slice
    turn_N: NDArray[np.bool_] | None


def _shift(images_NCHW: torch.Tensor, spec: Shift, drawn: Drawn) -> torch.Tensor:
    return apply_shift(images_NCHW, draw_shift(spec, drawn.count, drawn.rng)[drawn.mine])


def _affine(images_NCHW: torch.Tensor, spec: Affine, drawn: Drawn) -> torch.Tensor:
    return apply_affine(images_NCHW, draw_affine(spec, drawn.count, drawn.rng)[drawn.mine])


def _pad(images_NCHW: torch.Tensor, spec: Pad, _: Drawn) -> torch.Tensor:
    return apply_pad(images_NCHW, spec)


def _crop(images_NCHW: torch.Tensor, spec: Crop, drawn: Drawn) -> torch.Tensor:
    height, width = images_NCHW.shape[2:]
    return cut_windows(images_NCHW, draw_windows(spec, drawn.count, height, width, drawn.rng).part(drawn.mine))


def _flip(images_NCHW: torch.Tensor, spec: Flip, drawn: Drawn) -> torch.Tensor:
    return apply_mirrors(images_NCHW, draw_mirrors(spec, drawn.count, drawn.rng)[drawn.mine])


def _flip_in_turn(images_NCHW: torch.Tensor, _: AlternatingFlip, drawn: Drawn) -> torch.Tensor:
    return images_NCHW if drawn.turn_N is None else apply_mirrors(images_NCHW, drawn.turn_N)


def _cutout(images_NCHW: torch.Tensor, spec: Cutout, drawn: Drawn) -> torch.Tensor:
    height, width = images_NCHW.shape[2:]
    return apply_cutout(images_NCHW, spec, draw_cutout(drawn.count, height, width, drawn.rng)[drawn.mine])


# What can be done to a batch of images of one size: draw for all of them, then apply to those at hand.
_BATCH_TRANSFORMS: dict[type[Transform], Callable[..., torch.Tensor]] = {
    Shift: _shift,
    Affine: _affine,
    Pad: _pad,
    Crop: _crop,
    Flip: _flip,
    AlternatingFlip: _flip_in_turn,
    Cutout: _cutout,
}


def fits_batches(spec: Transform) -> bool:
    """Whether `spec` can be done to a whole batch, which needs images of one size before and after."""
    return type(spec) in _BATCH_TRANSFORMS and not (isinstance(spec, Crop) and spec.varies)


def augment(
    images_NCHW: torch.Tensor,
    transforms: Sequence[Transform],
    rng: np.random.Generator,
    count: int | None = None,
    mine: slice = slice(None),
    turn_N: NDArray[np.bool_] | None = None,
) -> torch.Tensor:
    """Random `transforms`, each of which `fits_batches`, in order; all choices come from `rng`. Pixels in 0..255.

    The images may be the part `mine` of a batch of `count`: they become what they become in the whole one. Those with
    `turn_N` are the ones that `AlternatingFlip` mirrors; None: no image.
    """
    drawn = Drawn(rng, len(images_NCHW) if count is None else count, mine, turn_N)
    for spec in transforms:
        images_NCHW = _BATCH_TRANSFORMS[type(spec)](images_NCHW, spec, drawn)
    return images_NCHW


def mean_of(preprocess: Preprocess) -> float | torch.Tensor:
    """What `normalize` subtracts; a mean image in the layout of the images, or that would take twice the time."""
    mean = preprocess.subtracted
    if not isinstance(mean, np.ndarray):
        return mean
    return torch.from_numpy(mean)[None].contiguous(memory_format=torch.channels_last)


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


def normalize_alone(
    images_NCHW: torch.Tensor, mean: float | torch.Tensor, scale: float, bgr: bool = False
) -> torch.Tensor:
    """What `normalize` gives, to the bit, made by the calling thread alone, image by image in its cache.

    For batches that are made beside the training, in the processor's memory: there torch's threads, between one batch
    and the next, wait for work by spinning on the cores that decode images (docs/experiments.md).
    """
    images_NHWC = images_NCHW.permute(0, 2, 3, 1).numpy()
    if bgr:
        images_NHWC = images_NHWC[..., ::-1]
    mean_HWC = mean[0].permute(1, 2, 0).numpy() if isinstance(mean, torch.Tensor) else mean
    ready_NHWC = np.empty(images_NHWC.shape, np.float32)
    for image_HWC, ready_HWC in zip(images_NHWC, ready_NHWC, strict=True):
        ready_HWC[...] = image_HWC
        np.subtract(ready_HWC, mean_HWC, out=ready_HWC)
        np.multiply(ready_HWC, scale, out=ready_HWC)
    return torch.from_numpy(ready_NHWC).permute(0, 3, 1, 2)
