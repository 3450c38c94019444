"""Batch normalization, alone and inside a network, against the real CNTK 2.7 (tests/golden/train)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from convolve.models.batch_norm import CntkBatchNorm2d
from convolve.specs.model import ModelSpec
from convolve.specs.optimizer import OptimizerSpec
from convolve.specs.schedule import ScheduleSpec
from convolve.training.optimizers import build_optimizer, take_step
from convolve.training.schedule import set_epoch_values, step_size

GOLDEN = Path(__file__).parents[1] / "golden" / "train"
TIME_CONSTANTS = {"zero": 0.0, "infinite": math.inf, "negative": -1.0}


def read(name: str) -> dict[str, torch.Tensor]:
    with np.load(GOLDEN / f"{name}.npz") as file:
        return {key: torch.tensor(file[key]) for key in file}


def assert_close(ours: torch.Tensor, cntk: torch.Tensor, what: str, size: float | None = None) -> None:
    """max|a - b| <= 1e-5 * max|b|; `size` stands in for max|b| where the exact value is 0 and only rounding is left."""
    error, size = (ours - cntk).abs().max().item(), size or cntk.abs().max().item()
    assert error <= 1e-5 * size, f"{what}: {error:.1e} of {size:.1e}"


def cntk_layer(golden: dict[str, torch.Tensor], time_constant: float, blend: float = 0.0) -> CntkBatchNorm2d:
    layer = CntkBatchNorm2d(2, time_constant, blend, epsilon=1e-3)
    layer.weight.data.copy_(golden["scale"])
    layer.bias.data.copy_(golden["bias"])
    layer.running_mean.copy_(golden["initial_mean"])
    layer.running_var.copy_(golden["initial_var"])
    return layer


def test_bn_train_trace() -> None:
    golden = read("bn_train")
    layer = CntkBatchNorm2d(2, normalization_time_constant_samples=20, epsilon=1e-3)
    optimizer = build_optimizer(spec := OptimizerSpec(name="sgd"), list(layer.parameters()))
    schedule = ScheduleSpec(learning_rates=(0.001,), reference_batch_size=1)
    for i in range(5):
        images_NCHW = golden[f"x{i}"]
        n = len(images_NCHW)
        loss = layer(images_NCHW).square().sum() / n
        loss.backward()
        take_step(optimizer, step_size(spec, schedule, 0, n, n, n), n)
        optimizer.zero_grad()
        assert_close(loss.detach().double(), golden["loss"][i], f"loss {i}")
        for name in ("mean", "var", "count"):
            assert_close(getattr(layer, f"running_{name}"), golden[name][i], f"{name} {i}")
        assert_close(layer.weight.detach(), golden["scale"][i], f"scale {i}")
        assert_close(layer.bias.detach(), golden["bias"][i], f"bias {i}", size=1)


@pytest.mark.parametrize("case", TIME_CONSTANTS)
def test_time_constants_and_gradients(case: str) -> None:
    golden = read("bn_time_constants")
    layer = cntk_layer(golden, TIME_CONSTANTS[case])
    for i in range(3):
        images_NCHW = golden[f"x{i}"].requires_grad_()
        y = layer(images_NCHW)
        (golden["weight"] * y.square()).sum().backward()
        assert_close(y.detach(), golden[f"y{i}"], f"y {i}")
        assert_close(images_NCHW.grad, golden[f"grad_x{i}"], f"gradient of x {i}")
        assert_close(layer.weight.grad, golden[f"grad_scale{i}"], f"gradient of scale {i}")
        assert_close(layer.bias.grad, golden[f"grad_bias{i}"], f"gradient of bias {i}")
        for name in ("mean", "var", "count"):
            assert_close(getattr(layer, f"running_{name}"), golden[f"{case}_{name}{i}"], f"{name} {i}")
        layer.zero_grad()


def test_evaluation_is_torchs() -> None:
    golden = read("bn_time_constants")
    layer, reference = cntk_layer(golden, 20).eval(), nn.BatchNorm2d(2, eps=1e-3).eval()
    state = layer.state_dict()
    count = state.pop("running_count")
    reference.load_state_dict(state, strict=False)
    assert torch.equal(layer(golden["x0"]), reference(golden["x0"]))
    assert torch.equal(layer.running_count, count)


def test_infinite_blend_normalizes_with_the_updated_running_statistics() -> None:
    golden = read("bn_time_constants")
    layer, plain = cntk_layer(golden, 20, blend=math.inf), cntk_layer(golden, 20)
    for i in range(2):
        y = layer(golden[f"x{i}"])
        plain(golden[f"x{i}"])
        torch.testing.assert_close(y, plain.eval()(golden[f"x{i}"]), rtol=1e-5, atol=1e-6)
        plain.train()


def test_blend_mixes_means_and_inverse_deviations() -> None:
    """Half and half where b = N; the formula is that of CNTK's CntkBatchNormalization.cuh."""
    golden = read("bn_time_constants")
    layer = cntk_layer(golden, 20, blend=6).double()
    layer(golden["x0"].double())
    x = golden["x1"].double().requires_grad_()
    y = layer(x)
    axes = (0, 2, 3)
    mean = (x.mean(axes) + layer.running_mean) / 2
    scale = ((x.var(axes, correction=0) + 1e-3) ** -0.5 + (layer.running_var + 1e-3) ** -0.5) / 2
    expected = (x - mean.view(2, 1, 1)) * scale.view(2, 1, 1) * layer.weight.view(2, 1, 1) + layer.bias.view(2, 1, 1)
    torch.testing.assert_close(y, expected)


def test_two_infinities_freeze_the_layer() -> None:
    golden = read("bn_time_constants")
    layer = cntk_layer(golden, math.inf, blend=math.inf)
    y = layer(golden["x0"])
    assert torch.equal(y, layer.eval()(golden["x0"]))
    assert layer.running_count == 0
    assert torch.equal(layer.running_mean, golden["initial_mean"])


@pytest.mark.parametrize(
    ("given", "found"),
    [((), [300, 300, 300]), ((0.0, 1024.0), [300, 1024, 1024]), ((0.0,), [300, 300, 300]), ((7.0, 0.0), [7, 0, 0])],
)
def test_time_constants_of_the_training(given: tuple[float, ...], found: list[float]) -> None:
    """As CNTK sets them: a change from 0 takes the place of the layers' own, from then on."""
    layer = CntkBatchNorm2d(2, 300.0)
    times = []
    for epoch in range(3):
        set_epoch_values(nn.Sequential(layer), ModelSpec(batch_norm_time_constants=given), epoch, sets_dropout=True)
        times.append(layer.normalization_time_constant_samples)
    assert times == found


@pytest.mark.parametrize("blend", [0.0, 6.0])
def test_half_precision_keeps_statistics_in_single(blend: float) -> None:
    golden = read("bn_time_constants")
    half, single = cntk_layer(golden, 20, blend), cntk_layer(golden, 20, blend)
    images_NCHW = golden["x0"].bfloat16().to(memory_format=torch.channels_last)
    y = half(images_NCHW)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), single(images_NCHW.float()), rtol=0.01, atol=0.01)
    torch.testing.assert_close(half.running_var, single.running_var)


class ConvNet(nn.Module):
    """The network of convnet.npz; its SAME padding is symmetric on 9 x 8 images."""

    def __init__(self, golden: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = CntkBatchNorm2d(4, normalization_time_constant_samples=40)
        self.conv2 = nn.Conv2d(4, 5, 3, stride=2, padding=1)
        self.dense = nn.Linear(5 * 3 * 2, 3)
        for name, parameter in self.cntk_parameters().items():
            parameter.data.copy_(from_cntk(name, golden[f"init_{name}"]))

    def cntk_parameters(self) -> dict[str, nn.Parameter]:
        conv1, norm, conv2, dense = self.conv1, self.norm, self.conv2, self.dense
        return {
            "W1": conv1.weight, "b1": conv1.bias, "scale": norm.weight, "bias": norm.bias,
            "W2": conv2.weight, "b2": conv2.bias, "W3": dense.weight, "b3": dense.bias,
        }  # fmt: skip

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        maps = self.norm(self.conv1((images_NCHW - 128) / 256)).relu()
        maps = F.max_pool2d(maps, 3, stride=2, padding=1)
        return self.dense(self.conv2(maps).relu().flatten(1))


def from_cntk(name: str, array: torch.Tensor) -> torch.Tensor:
    """CNTK's dense weight is (C, H, W, out) and its bias (C, 1, 1)."""
    return array.flatten(0, -2).T if name == "W3" else array.flatten() if name.startswith("b") else array


def test_convnet_trace() -> None:
    golden = read("convnet")
    network = ConvNet(golden)
    spec = OptimizerSpec(momentum=(0.9,), momentum_unit="per_reference_batch", momentum_reference_batch_size=8, l2=0.01)
    schedule = ScheduleSpec(learning_rates=(0.5, 0.5, 0.1), reference_batch_size=8, period_samples=16)
    optimizer = build_optimizer(spec, list(network.parameters()))
    labels_N = golden["Y"].argmax(1)
    seen = 0
    for i, (start, end) in enumerate(golden["batches"].tolist()):
        n = end - start
        logits_NK = network(golden["X"][start:end])
        loss = F.cross_entropy(logits_NK, labels_N[start:end])
        loss.backward()
        take_step(optimizer, step_size(spec, schedule, seen, n, 40, 56), n)
        optimizer.zero_grad()
        seen += n
        assert_close(loss.detach().double(), golden["loss"][i], f"loss {i}")
        errors = (logits_NK.argmax(1) != labels_N[start:end]).double().mean()
        assert errors == golden["err"][i]
        for name, parameter in network.cntk_parameters().items():
            assert_close(parameter.detach(), from_cntk(name, golden[f"hist_{name}"][i]), f"{name} after {i}")
        for name, statistic in [("rm", "running_mean"), ("rv", "running_var"), ("rc", "running_count")]:
            assert_close(getattr(network.norm, statistic), golden[f"stat_{name}"][i], f"{statistic} after {i}")
    assert_close(network.eval()(golden["X"][:8]).detach(), golden["eval8"], "evaluation")
