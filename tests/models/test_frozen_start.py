"""Behind a frozen start, answers and gradients are those of the network itself."""

from __future__ import annotations

import torch
from torch import nn

from convolve.models import build_model
from convolve.models.frozen_start import FrozenStart, behind_frozen_start
from convolve.specs.model import NetworkSpec

SHAPE = (3, 32, 32)


def network() -> nn.Module:
    """EfficientNet-Lite0's tiny twin with its first stage frozen, the rest in training."""
    module = build_model(NetworkSpec("efficientnet-lite0", "tiny", (0.0,)), SHAPE, 5, seed=0)
    generator = torch.Generator().manual_seed(1)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(generator=generator)  # type: ignore[union-attr]
            layer.running_var.uniform_(0.5, 2, generator=generator)  # type: ignore[union-attr]
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(not name.startswith(("conv_stem", "bn1", "blocks.0")))
    module.train()
    for frozen in (module.bn1, module.blocks[0]):  # type: ignore[index]
        frozen.eval()  # type: ignore[union-attr]
    return module


def gradients(module: nn.Module, forward: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    loss = nn.functional.cross_entropy(forward(images), torch.arange(len(images)) % 5)
    return list(torch.autograd.grad(loss, [p for p in module.parameters() if p.requires_grad]))


def test_gradients_are_those_of_the_network() -> None:
    module, twin = network(), network()
    behind = FrozenStart(twin)
    images = torch.randn(8, *SHAPE, generator=torch.Generator().manual_seed(2))
    for _ in range(2):  # the second time with other weights
        ours, theirs = gradients(module, module, images), gradients(twin, behind, images)
        for one, other, parameter in zip(ours, theirs, (p for p in twin.parameters() if p.requires_grad), strict=True):
            assert (one - other).norm() <= 1e-3 * one.norm() + 1e-6
            with torch.no_grad():
                parameter.sub_(0.1 * other)
        for parameter, gradient in zip((p for p in module.parameters() if p.requires_grad), ours, strict=True):
            with torch.no_grad():
                parameter.sub_(0.1 * gradient)
    fused = behind._fused_for(images.shape[1:])
    assert fused is not twin
    assert any(type(layer).__name__ == "FusedConv" for layer in fused.modules())
    assert [layer.training for layer in twin.modules()] == [layer.training for layer in module.modules()]


def test_it_is_for_what_is_always_frozen_alike() -> None:
    module = network()
    assert isinstance(behind_frozen_start(module, ("blocks.0",)), FrozenStart)
    assert behind_frozen_start(module, ("none",)) is module
    assert behind_frozen_start(module, ("all", "none")) is module
