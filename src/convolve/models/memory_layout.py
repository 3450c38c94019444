"""The memory layout in which 2-D convolutions are fastest."""

from typing import TypeGuard

import torch
from torch import nn


def to_channels_last(module: nn.Module) -> None:
    """Give a network that layout; networks with 3-D convolutions keep theirs.

    So do strided 1x1 convolutions of fewer than 8 channels: with AVX2 and without AVX-512, oneDNN writes past its
    memory in their backward pass (github.com/uxlfoundation/oneDNN/issues/6035).
    """
    if any(tensor.dim() > 4 for tensor in module.state_dict().values()):
        return
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for layer in module.modules():
        if _is_written_past(layer):
            layer.weight.data = layer.weight.data.clone(memory_format=torch.contiguous_format)
            if _in_planes not in layer._forward_pre_hooks.values():
                layer.register_forward_pre_hook(_in_planes)


def _is_written_past(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    if not isinstance(layer, nn.Conv2d) or layer.kernel_size != (1, 1):
        return False
    return max(layer.stride) > 1 and layer.in_channels // layer.groups < 8


def _in_planes(layer: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    return (inputs[0].contiguous(),)
