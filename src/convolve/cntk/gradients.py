"""Functions whose gradients in CNTK differ from torch's."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from convolve.graph import functions


class _Log(torch.autograd.Function):
    """CNTK computes the gradient of a logarithm from its result, which is -85.1 for numbers that are not positive."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        result = functions.log(x.float() if x.dtype == torch.bfloat16 else x)
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        [result] = ctx.saved_tensors
        return gradients[0] * torch.exp(-result)


def log(x: Tensor) -> Tensor:
    return _Log.apply(x)  # type: ignore[no-any-return, no-untyped-call]


def sqrt(x: Tensor) -> Tensor:
    """For negative numbers, 0 with an infinite gradient."""
    return (x + (x.clamp(min=0) - x).detach()).sqrt()


def tan(x: Tensor) -> Tensor:
    """CNTK takes the gradient at the result: 1 / cos(tan(x))^2."""
    result = torch.tan(x).detach()
    return result + (x - x.detach()) / torch.cos(result) ** 2


def power(x: Any, exponent: Any) -> Tensor:
    """The exponent gets no gradient from a base that is not positive."""
    if not isinstance(exponent, Tensor) or not isinstance(x, Tensor) or not exponent.requires_grad:
        return torch.pow(x, exponent)
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1.0) ** exponent, x ** exponent.detach())


class _Extreme(torch.autograd.Function):
    """The largest or smallest value along axes: in CNTK, each of several equal values gets the whole gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Callable[..., Tensor], axes: tuple[int, ...]) -> Tensor:
        result = function(x, axes, keepdim=True)
        ctx.save_for_backward(x, result)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        x, result = ctx.saved_tensors
        return gradients[0] * (x == result), None, None


def _extreme(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def reduced(x: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
        result: Tensor = _Extreme.apply(x, function, axes)  # type: ignore[no-untyped-call]
        return result if keepdim else torch.squeeze(result, axes)

    return reduced


class _MaxUnpool(torch.autograd.Function):
    """CNTK gives each value the largest gradient of its window, whichever position the value went to."""

    @staticmethod
    def forward(ctx: Any, pooled: Tensor, original: Tensor, *settings: functions.Sizes) -> Tensor:
        ctx.settings = settings
        return functions.max_unpool(pooled, original, *settings)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        window, strides, padding = ctx.settings
        pool = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[len(window)]
        padded = F.pad(gradients[0], padding, value=float("-inf"))
        return pool(padded, window, strides), None, None, None, None


def max_unpool(
    pooled: Tensor, original: Tensor, window: functions.Sizes, strides: functions.Sizes, padding: functions.Sizes
) -> Tensor:
    return _MaxUnpool.apply(pooled, original, window, strides, padding)  # type: ignore[no-any-return, no-untyped-call]


WITH_GRADIENTS: dict[Any, Callable[..., Tensor]] = {
    functions.log: log,
    functions.sqrt: sqrt,
    functions.max_unpool: max_unpool,
    torch.pow: power,
    torch.tan: tan,
    torch.amax: _extreme(torch.amax),
    torch.amin: _extreme(torch.amin),
}
