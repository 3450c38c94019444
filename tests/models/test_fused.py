"""Fused networks answer as the networks do that they were made of."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from convolve.models import build_model
from convolve.models.feature_extractor import FeatureExtractor, WithFeatures
from convolve.models.fused import FusedConv, for_evaluation, fused
from convolve.specs.model import ModelSpec

SHAPE = (3, 33, 47)  # odd, so that EfficientNet's convolutions pad one side more


def network(name: str, variant: str = "tiny") -> nn.Module:
    """With statistics and biases that are not those of a fresh network, so that all of them count."""
    module = build_model(ModelSpec(name=name, variant=variant), SHAPE, 5, seed=3).eval()
    generator = torch.Generator().manual_seed(1)
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.data.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return module


def images() -> Tensor:
    return torch.randn(11, *SHAPE, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", ["efficientnet-lite0", "resnet", "squeezenet", "convnet-cifar10"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_answers_stay(name: str, dtype: torch.dtype, tolerance: float) -> None:
    """bfloat16 has 8 bits: each layer rounds by 0.4 % at most, and what they do to a sum adds up as a random walk."""
    module = network(name)
    twin = fused(module, SHAPE, dtype)
    with torch.inference_mode():
        expected, found = module(images()), twin(images())
    assert (found - expected).norm() <= tolerance * expected.norm()
    if torch.backends.mkldnn.is_available():
        assert sum(isinstance(layer, FusedConv) for layer in twin.modules()) == sum(
            isinstance(layer, nn.Conv2d) for layer in module.modules()
        )
        assert not any(isinstance(layer, nn.BatchNorm2d) for node in twin.graph.nodes if node.op == "call_module"
                       for layer in [twin.get_submodule(node.target)])  # fmt: skip


class Branching(nn.Module):
    """What it does depends on its images, so that no straight line of calls says it."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        maps_NCHW: Tensor = self.convolution(images_NCHW)
        return maps_NCHW.relu() if images_NCHW.mean() > 0 else maps_NCHW


def test_what_cannot_be_followed_stays() -> None:
    module = Branching()
    assert fused(module, SHAPE) is module


class Twice(nn.Module):
    """Its convolution is called twice, and once something else reads what it gives."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        once: Tensor = self.convolution(images_NCHW)
        return self.convolution(self.norm(once)).relu() + once


def test_a_layer_that_is_called_twice_stays_right() -> None:
    module = Twice().eval()
    module.norm.running_mean.fill_(0.3)
    twin = fused(module, SHAPE)
    with torch.inference_mode():
        torch.testing.assert_close(twin(images()), module(images()), rtol=1e-4, atol=1e-5)


def test_the_twin_follows_the_weights() -> None:
    module = network("efficientnet-lite0")
    twin = for_evaluation(module, SHAPE)
    assert for_evaluation(module, SHAPE) is twin
    with torch.no_grad():
        module.classifier.bias.add_(1)
    other = for_evaluation(module, SHAPE)
    assert other is not twin
    with torch.inference_mode():
        torch.testing.assert_close(other(images()), module(images()), rtol=1e-4, atol=1e-4)


def test_networks_without_convolutions_of_single_maps_keep_their_bits() -> None:
    module = network("resnet")
    assert for_evaluation(module, SHAPE) is module


def test_the_network_is_left_as_it_was() -> None:
    module = network("efficientnet-lite0")
    before = copy.deepcopy(module.state_dict())
    fused(module, SHAPE)
    assert module.state_dict().keys() == before.keys()
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


@pytest.mark.parametrize(
    "wrap", [lambda module: FeatureExtractor(module, "blocks.1"), lambda module: WithFeatures(module, "classifier")]
)
def test_what_listens_to_a_layer_hears_it(wrap: Callable[[nn.Module], nn.Module]) -> None:
    module = wrap(network("efficientnet-lite0")).eval()
    twin = for_evaluation(module, SHAPE)
    assert twin is not module
    assert for_evaluation(wrap(module.network).eval(), SHAPE) is twin  # put around the same weights anew
    with torch.inference_mode():
        for found, expected in zip(_given(twin), _given(module), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_each_layer_that_is_listened_to_has_its_own_twin() -> None:
    module = network("efficientnet-lite0")
    for name in ("blocks.0", "blocks.1"):
        listening = FeatureExtractor(module, name).eval()
        twin = for_evaluation(listening, SHAPE)
        assert twin is not listening
        with torch.inference_mode():
            torch.testing.assert_close(twin(images()), listening(images()), rtol=1e-4, atol=1e-4)


def _given(module: nn.Module) -> tuple[Tensor, ...]:
    given = module(images())
    return given if isinstance(given, tuple) else (given,)
