"""Networks: the published parameter counts and shapes, CNTK's initial ranges, a FLOP count that torch agrees with."""

import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from convolve.errors import UsageError
from convolve.models import MODELS, build_model
from convolve.models.lrn import LocalResponseNorm
from convolve.models.summary import summarize
from convolve.specs.model import ModelSpec


def test_convnet_mnist_is_the_published_one() -> None:
    summary = summarize(build_model(ModelSpec("convnet-mnist"), (1, 28, 28), 10), (1, 28, 28))
    assert summary.parameters == 98_778
    maps = [layer.output_shape[-1] for layer in summary.layers if layer.kind in ("Conv2d", "MaxPool2d")]
    assert maps == [28, 13, 11, 5, 3]
    assert summary.training_flops_per_image == pytest.approx(0.0144e9, rel=0.01)


def test_the_original_convnet_cifar10_is_the_python_one() -> None:
    original, python = (
        build_model(ModelSpec("convnet-cifar10", variant), (3, 32, 32), 10).eval() for variant in ("", "python")
    )
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(original(images), python(images))
    assert summarize(original, (3, 32, 32)).training_flops_per_image == pytest.approx(0.353e9, rel=0.01)


@pytest.mark.parametrize("name", MODELS)
def test_flops_agree_with_torchs_own_counter(name: str) -> None:
    side = 67 if name.startswith("alexnet") else 28
    module = build_model(ModelSpec(name, "tiny"), (1, side, side), 10)
    summary = summarize(module, (1, side, side))
    for child, layer in list(module.named_children()):
        if isinstance(layer, LocalResponseNorm):  # its product with a banded matrix is our way to add
            setattr(module, child, nn.Identity())
    images = torch.zeros(1, 1, side, side)
    with FlopCounterMode(display=False) as forward:
        module(images)
    assert summary.flops_per_image == forward.get_total_flops()
    with FlopCounterMode(display=False) as both:
        module(images).sum().backward()
    if not name.startswith("efficientnet"):  # torch's counter takes the gradients of grouped filters for those of all
        assert summary.training_flops_per_image == both.get_total_flops()


def test_initial_weights_are_glorot_over_the_receptive_field() -> None:
    """CNTK's log: the 5x5x1x32 convolution starts within 0.08528 = sqrt(6 / (25 + 800))."""
    module = build_model(ModelSpec(), (1, 28, 28), 10)
    bound = math.sqrt(6 / (25 + 800))
    weight = module.get_parameter("conv1.weight")
    assert 0.97 * bound < weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
    assert not module.get_parameter("conv1.bias").any()


def test_seed_decides_initial_weights() -> None:
    one, again, other = (
        build_model(ModelSpec(), (1, 28, 28), 10, seed).get_parameter("fc2.weight") for seed in (0, 0, 1)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_layers_of_other_kinds_get_their_own_initial_values_from_the_same_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    def network(*_: object) -> nn.Module:
        return nn.Sequential(nn.ConvTranspose2d(3, 4, 3), nn.GroupNorm(2, 4), nn.BatchNorm2d(4))

    monkeypatch.setitem(MODELS, "other", network)
    torch.manual_seed(5)
    one, same, other = (build_model(ModelSpec("other"), (3, 8, 8), 2, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["0.weight"], other["0.weight"])
    assert torch.equal(one["1.weight"], torch.ones(4)) and torch.equal(one["2.running_var"], torch.ones(4))
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))  # nobody else's random numbers are touched


def test_numbers_that_nobody_sets_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(1))

    monkeypatch.setitem(MODELS, "scaled", lambda *_: nn.Sequential(Scaled()))
    with pytest.raises(UsageError, match="a Scaled without initial values"):
        build_model(ModelSpec("scaled"), (3, 8, 8), 2)


def test_pooling_before_relu_is_relu_before_pooling() -> None:
    """The order in the code is the cheap one; CNTK's order gives the same numbers."""
    x = torch.randn(2, 3, 9, 9)
    for padding in (0, 1):
        pool = nn.MaxPool2d(3, 2, padding)
        assert torch.equal(pool(x).relu(), pool(x.relu()))


@pytest.mark.parametrize(
    ("spec", "shape", "message"),
    [
        (ModelSpec("convnet-mnits"), (1, 28, 28), "did you mean 'convnet-mnist'"),
        (ModelSpec(variant="tinny"), (1, 28, 28), "did you mean 'tiny'"),
        (ModelSpec(), (1, 18, 28), "at least 19x19"),
        (ModelSpec("convnet-cifar10", "brain"), (3, 32, 32), "did you mean 'brainscript'"),
        (ModelSpec("convnet-cifar10-lrn", "brainscript"), (3, 32, 6), "at least 7x7"),
    ],
)
def test_impossible_networks_are_refused(spec: ModelSpec, shape: tuple[int, int, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_model(spec, shape, 10)


@pytest.mark.parametrize(
    ("spec", "side"),
    [
        (ModelSpec(), 19),
        (ModelSpec("convnet-cifar10"), 1),
        (ModelSpec("convnet-cifar10-lrn", "brainscript"), 7),
    ],
)
def test_the_smallest_image_that_fits(spec: ModelSpec, side: int) -> None:
    assert build_model(spec, (1, side, side), 5)(torch.zeros(1, 1, side, side)).shape == (1, 5)
