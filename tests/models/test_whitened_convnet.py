"""WhitenedConvNet against its definition."""

import torch
from torch import nn

from convolve.models import build_model
from convolve.models.whitened_convnet import LOGIT_SCALE, PATCH
from convolve.specs.model import ModelSpec


def network(seed=0, variant="tiny"):
    return build_model(ModelSpec(name="whitened-convnet", variant=variant), (3, 32, 32), 10, seed)


def test_whitened_patches_are_uncorrelated_with_unit_variance():
    images_NCHW = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(1)).cumsum(2).cumsum(3) / 50
    module = network()
    module.whiten(images_NCHW)
    maps_NCHW = module.whitening(images_NCHW)
    half = maps_NCHW.shape[1] // 2
    assert half == 3 * PATCH**2
    torch.testing.assert_close(maps_NCHW[:, :half], -maps_NCHW[:, half:])
    maps_PD = maps_NCHW[:, :half].permute(0, 2, 3, 1).reshape(-1, half)
    covariance_DD = maps_PD.T @ maps_PD / len(maps_PD)
    correlation_DD = covariance_DD - covariance_DD.diag().diag()
    assert correlation_DD.abs().max() < 0.01
    assert covariance_DD.diag().max() < 1.01
    assert covariance_DD.diag().max() > 0.9


def test_the_parameters_of_the_published_network():
    """airbench94 (arXiv:2404.00498): 64, 256 and 256 maps, 24 filters of 2x2 in front, no biases but the first."""
    convolutions = 9 * (24 * 64 + 64 * 64 + 64 * 256 + 256 * 256 + 256 * 256 + 256 * 256)
    norms = 2 * 2 * (64 + 256 + 256)
    assert sum(p.numel() for p in network(variant="").parameters()) == 24 * 12 + 24 + convolutions + norms + 2560


def test_convolutions_hand_on_their_input_at_first():
    module = network()
    maps_NCHW = torch.randn(2, 24, 8, 8)
    block = module.blocks[0]
    shared = min(block.conv1.in_channels, block.conv1.out_channels)
    torch.testing.assert_close(block.conv1(maps_NCHW)[:, :shared], maps_NCHW[:, :shared])


def test_the_first_layer_is_fixed_but_for_its_biases():
    module = network()
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert "whitening.weight" not in trained
    assert "whitening.bias" in trained
    assert not any(isinstance(layer, nn.BatchNorm2d) and layer.weight.requires_grad for layer in module.modules())


def test_logits_start_small_and_depend_on_the_seed():
    images_NCHW = torch.randn(8, 3, 32, 32)
    first, again, other = network().eval(), network().eval(), network(seed=1).eval()
    for module in (first, again, other):
        module.whiten(images_NCHW)
    torch.testing.assert_close(first(images_NCHW), again(images_NCHW))
    assert not torch.allclose(first(images_NCHW), other(images_NCHW))
    assert first.head.weight.std() > 0.8
    maps_NK = first.blocks(nn.functional.gelu(first.whitening(images_NCHW))).amax((2, 3))
    torch.testing.assert_close(first(images_NCHW), maps_NK @ first.head.weight.T * LOGIT_SCALE)
