"""Max pooling in another order of the axes gives PyTorch's numbers, bit for bit."""

import pytest
import torch
from torch import nn

from convolve.cntk.pools import MaxPool


@pytest.mark.parametrize("maps", [3, 4, 20])
@pytest.mark.parametrize("settings", [{"padding": 1}, {"ceil_mode": True}, {"stride": (2, 1)}, {"stride": 3}])
def test_maxima_and_gradients_are_those_of_pytorchs_own_pooling(maps: int, settings: dict[str, object]) -> None:
    numbers = torch.randn(3, maps, 11, 9).round(decimals=1)  # with ties, of which the first one counts
    numbers[0, :, 4, 4] = float("nan")
    pool = nn.MaxPool2d(3, **{"stride": 2, **settings})  # type: ignore[arg-type]
    found = []
    for each in (pool, MaxPool(pool)):
        x_NCHW = numbers.clone().requires_grad_()
        result = each(x_NCHW)
        weights = torch.linspace(1, 2, result.numel()).reshape(result.shape)
        [gradient] = torch.autograd.grad(result, x_NCHW, weights)
        found.append((result.detach(), gradient))
    assert all(torch.equal(a.nan_to_num(99), b.nan_to_num(99)) for a, b in zip(*found, strict=True))
    assert found[1][0].is_contiguous()
