"""Local response normalization, with its own gradient. N batch, C channel, H row, W column, P = N H W pixels."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class LocalResponseNorm(nn.LocalResponseNorm):
    """images_NCHW -> images_NCHW: each value over d^beta, d = k + alpha / size * the sum of squares of `size` channels.

    The numbers are those of `nn.LocalResponseNorm`; CNTK's examples write it out, with size = 2 n + 1 for a half-width
    n. torch pads, averages in three dimensions, raises to a power, and stores what each step needs for its gradient.
    Here the sum is one product with a banded matrix, always in single precision, and the gradient needs only x and
    d^-1/2.
    """

    def forward(self, images_NCHW: Tensor) -> Tensor:
        normalized: Tensor = _Normalize.apply(  # type: ignore[no-untyped-call]
            images_NCHW, self.size, self.alpha, self.beta, self.k
        )
        return normalized


class _Normalize(torch.autograd.Function):
    """y = x s with s = d^-beta; dx = s dy - 2 beta alpha / size * x * (sum of x s dy / d over the windows x is in)."""

    @staticmethod
    def forward(ctx: Any, x_NCHW: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:
        x_PC = _pixels(x_NCHW)
        # In place, because autocast does not change the precision of in-place products.
        d_PC = torch.full_like(x_PC, k).addmm_(x_PC.square(), _band(x_PC, size), alpha=alpha / size)
        root_PC = d_PC.rsqrt_()
        ctx.save_for_backward(x_NCHW, root_PC)
        ctx.settings = size, alpha, beta
        return _images(_scale(root_PC, beta).mul_(x_PC), x_NCHW)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_NCHW: Tensor) -> tuple[Tensor, None, None, None, None]:
        x_NCHW, root_PC = ctx.saved_tensors
        size, alpha, beta = ctx.settings
        x_PC = _pixels(x_NCHW)
        dx_PC = _scale(root_PC, beta).mul_(_pixels(dy_NCHW))
        through_d_PC = (dx_PC * x_PC).mul_(root_PC).mul_(root_PC)
        sums_PC = torch.empty_like(x_PC).addmm_(through_d_PC, _band(x_PC, size).T, beta=0)
        dx_PC.addcmul_(x_PC, sums_PC, value=-2 * beta * alpha / size)
        return _images(dx_PC, x_NCHW), None, None, None, None


def _pixels(x_NCHW: Tensor) -> Tensor:
    """One row per pixel, a view of channels_last memory. fp16 becomes fp32, since its squares overflow at 65,504."""
    x_PC = x_NCHW.movedim(1, -1).reshape(-1, x_NCHW.shape[1])
    return x_PC.float() if x_PC.dtype == torch.float16 else x_PC


def _images(y_PC: Tensor, like_NCHW: Tensor) -> Tensor:
    samples, channels, *sides = like_NCHW.shape
    return y_PC.to(like_NCHW.dtype).reshape(samples, *sides, channels).movedim(-1, 1)


def _band(x_PC: Tensor, size: int) -> Tensor:
    """The matrix that sums over windows of `size` channels; an even window extends one further before its channel."""
    channels = x_PC.shape[1]
    return x_PC.new_ones(channels, channels).triu_(-((size - 1) // 2)).tril_(size // 2)


def _scale(root_PC: Tensor, beta: float) -> Tensor:
    """d^-beta from d^-1/2. A square root is many times cheaper than a power; every published network has beta 0.75."""
    return root_PC.sqrt().mul_(root_PC) if beta == 0.75 else root_PC.pow(2 * beta)
