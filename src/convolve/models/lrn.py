"""Local response normalization, with a gradient of its own. N batch, C channel, H row, W column, P = N H W."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class LocalResponseNorm(nn.LocalResponseNorm):
    """images_NCHW -> images_NCHW: each value over d^beta, d = k + alpha / size * the sum of squares of `size` channels.

    The numbers are those of `nn.LocalResponseNorm`; CNTK's examples spell it out, with size = 2 n + 1 for a half-width
    n. torch pads, averages in three dimensions, raises to a power, and keeps what each of these needs for its gradient.
    Here the sum is one product with a banded matrix, and the gradient needs x and d alone. Half precision is computed
    in single: d is mostly 1.00..., where bf16 has no number between 1 and 1.0078.
    """

    def forward(self, images_NCHW: Tensor) -> Tensor:
        normalized: Tensor = _Normalize.apply(images_NCHW, self.size, self.alpha, self.beta, self.k)
        return normalized


class _Normalize(torch.autograd.Function):
    """y = x s with s = d^-beta; dx = s dy - 2 beta x (alpha / size) (sum of dy y / d over the windows that x is in)."""

    @staticmethod
    def forward(ctx: Any, x_NCHW: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:
        x_PC = _pixels(x_NCHW)
        d_PC = torch.full_like(x_PC, k).addmm_(x_PC.square(), _band(x_PC, size, alpha))
        ctx.save_for_backward(x_NCHW, d_PC)
        ctx.settings = size, alpha, beta
        return _images(x_PC * _to_minus(beta, d_PC), x_NCHW)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_NCHW: Tensor) -> tuple[Tensor, None, None, None, None]:
        x_NCHW, d_PC = ctx.saved_tensors
        size, alpha, beta = ctx.settings
        x_PC, dx_PC = _pixels(x_NCHW), _pixels(dy_NCHW) * _to_minus(beta, d_PC)
        through_d_PC = torch.mm(dx_PC * x_PC / d_PC, _band(x_PC, size, alpha).T)
        dx_PC.addcmul_(x_PC, through_d_PC, value=-2 * beta)
        return _images(dx_PC, x_NCHW), None, None, None, None


def _pixels(x_NCHW: Tensor) -> Tensor:
    """One row a pixel, a view of channels_last memory; half precision becomes single."""
    x_PC = x_NCHW.movedim(1, -1).reshape(-1, x_NCHW.shape[1])
    return x_PC if x_PC.dtype == torch.float64 else x_PC.float()


def _images(y_PC: Tensor, like_NCHW: Tensor) -> Tensor:
    samples, channels, *sides = like_NCHW.shape
    return y_PC.to(like_NCHW.dtype).reshape(samples, *sides, channels).movedim(-1, 1)


def _band(x_PC: Tensor, size: int, alpha: float) -> Tensor:
    """The matrix that sums over windows of `size` channels; the longer half of an even window lies before its channel.

    Multiplied in place with addmm_, which autocast leaves in single precision.
    """
    channels = x_PC.shape[1]
    return x_PC.new_full((channels, channels), alpha / size).triu_(-((size - 1) // 2)).tril_(size // 2)


def _to_minus(beta: float, d: Tensor) -> Tensor:
    """d^-beta. Two roots are many times cheaper than a power, and every published network has 0.75."""
    if beta != 0.75:
        return d.pow(-beta)
    root = d.rsqrt()
    return root.sqrt().mul_(root)
