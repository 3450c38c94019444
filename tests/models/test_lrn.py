"""Local response normalization against torch's own definition in double precision."""

import pytest
import torch
from torch import Tensor, nn

from convolve.models.lrn import LocalResponseNorm

CIFAR = {"size": 9, "alpha": 0.001, "beta": 0.75, "k": 1.0}
ALEXNET = {"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 1.0}
STRONG = {"size": 9, "alpha": 0.5, "beta": 0.75, "k": 2.0}
EVEN = {"size": 4, "alpha": 0.5, "beta": 0.5, "k": 1.5}


def images(channels: int, deviation: float = 20.0, **options: object) -> Tensor:
    generator = torch.Generator().manual_seed(channels)
    return (deviation * torch.randn(3, channels, 6, 5, generator=generator)).to(**options)


def both(norm: nn.Module, x_NCHW: Tensor, dy_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """The output and the gradient of the input."""
    x_NCHW = x_NCHW.detach().requires_grad_()
    y = norm(x_NCHW)
    y.backward(dy_NCHW)
    assert x_NCHW.grad is not None
    return y.detach(), x_NCHW.grad


def assert_close(ours: Tensor, exact: Tensor, relative: float) -> None:
    assert ours.shape == exact.shape
    error = (ours.double() - exact).abs().max() / exact.abs().max()
    assert error <= relative, f"{error:.1e}"


@pytest.mark.parametrize("settings", [CIFAR, ALEXNET, STRONG, EVEN], ids=["cifar", "alexnet", "strong", "even"])
@pytest.mark.parametrize("channels", [64, 3], ids=["64 channels", "fewer channels than the window"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "NHWC"])
def test_agrees_with_the_definition(settings: dict[str, float], channels: int, layout: torch.memory_format) -> None:
    x, dy = images(channels, memory_format=layout), images(channels).flip(1)
    exact = both(nn.LocalResponseNorm(**settings), x.double(), dy.double())
    for ours, expected in zip(both(LocalResponseNorm(**settings), x, dy), exact, strict=True):
        assert ours.dtype == torch.float32
        assert_close(ours, expected, 1e-6)


def test_gradient_is_that_of_its_own_output() -> None:
    x = images(7, deviation=1.0, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(LocalResponseNorm(**STRONG), (x,))
    assert torch.autograd.gradcheck(LocalResponseNorm(**EVEN), (x,))


def test_bf16_under_autocast() -> None:
    """Each of some four roundings changes a value by at most 2^-8 of it."""
    x, dy = images(64, dtype=torch.bfloat16), images(64, dtype=torch.bfloat16).flip(1)
    exact = both(nn.LocalResponseNorm(**CIFAR), x.double(), dy.double())
    with torch.autocast("cpu", torch.bfloat16):
        rounded = both(LocalResponseNorm(**CIFAR), x, dy)
    for ours, expected in zip(rounded, exact, strict=True):
        assert ours.dtype == torch.bfloat16
        assert_close(ours, expected, 2**-6)


def test_autocast_leaves_single_precision_alone() -> None:
    x, dy = images(64), images(64).flip(1)
    expected = both(LocalResponseNorm(**CIFAR), x, dy)
    with torch.autocast("cpu", torch.bfloat16):
        ours = both(LocalResponseNorm(**CIFAR), x, dy)
    assert all(torch.equal(a, b) for a, b in zip(ours, expected, strict=True))


def test_fp16_does_not_overflow() -> None:
    x = images(64, deviation=1000.0, dtype=torch.float16)
    exact = nn.LocalResponseNorm(**CIFAR)(x.double())
    assert_close(LocalResponseNorm(**CIFAR)(x), exact, 2**-10)


def test_keeps_two_tensors_for_the_gradient() -> None:
    kept: list[Tensor] = []
    x = images(64).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        LocalResponseNorm(**CIFAR)(x)
    assert sum(tensor.numel() for tensor in kept) <= 2 * x.numel()
