"""Max pooling in another order of the axes, and before its ReLU, gives PyTorch's numbers, bit for bit."""

import numpy as np
import pytest
import torch
from torch import nn

import convolve.cntk as C
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


def test_relu_and_pooling_in_either_order_have_the_same_gradients() -> None:
    x, rng = C.input_variable((4, 9, 9), needs_gradient=True), np.random.default_rng(0)
    images_NCHW = rng.normal(size=(2, 4, 9, 9)).round(1).astype(np.float32)
    active = C.relu(x)
    pooled = C.layers.MaxPooling((3, 3), strides=2)(active)
    watched = C.combine([pooled, active])  # where the ReLU is seen, it stays where it was
    tensor_NCHW = torch.from_numpy(images_NCHW.copy()).requires_grad_()
    wanted = nn.functional.max_pool2d(torch.relu(tensor_NCHW), 3, 2)
    wanted.sum().backward()
    assert np.array_equal(pooled.eval({x: images_NCHW}), wanted.detach().numpy())
    assert np.array_equal(pooled.grad({x: images_NCHW}), tensor_NCHW.grad.numpy())  # type: ignore[union-attr]
    assert np.array_equal(watched.eval({x: images_NCHW})[active.output], images_NCHW.clip(0))


def test_the_gradient_of_unpooling_is_cntks() -> None:
    """The largest one in each window, wherever its value went, as CNTK 2.7 printed it."""
    x, original = C.input_variable((1, 2, 2), needs_gradient=True), C.input_variable((1, 4, 4))
    weights = np.array([[1, 2, -3, 4], [-5, -6, 7, -8], [-9, 10, 11, 12], [13, -14, 15, -16]], np.float32)
    unpooled = C.unpooling(x, original, C.MAX_UNPOOLING, (2, 2), (2, 2))
    images = {x: np.ones((1, 1, 2, 2), np.float32), original: -weights[None, None]}
    found = C.reduce_sum(unpooled * C.constant(weights[None])).grad(images, wrt=[x])
    assert np.array_equal(found, [[[[2, 7], [13, 15]]]])
