"""The layers of a network, their shapes and parameters, and the one place where FLOPs are counted."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Layer:
    name: str
    kind: str
    output_shape: tuple[int, ...]  # without the batch
    parameters: int
    flops_per_image: int
    source: str = ""  # of an imported network: the name in its file
    is_trained: bool = True  # False: its weights are fixed


@dataclass(frozen=True)
class Summary:
    input_shape: tuple[int, ...]  # of the first one, where there are several
    layers: tuple[Layer, ...]

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def flops_per_image(self) -> int:
        """FLOPs of one forward pass. A multiply-add counts as 2; only convolutions and dense layers are counted."""
        return sum(layer.flops_per_image for layer in self.layers)

    @property
    def training_flops_per_image(self) -> int:
        """Forward, gradients of weights and of inputs; the first layer needs no gradient of its input."""
        first = next((layer.flops_per_image for layer in self.layers if layer.flops_per_image), 0)
        return sum((2 + layer.is_trained) * layer.flops_per_image for layer in self.layers) - first


def summarize(module: nn.Module, input_shape_CHW: tuple[int, int, int]) -> Summary:
    """Run `module` once on the meta device (nothing is computed) and record every leaf layer it calls."""
    layers: list[Layer] = []
    hooks = []
    for name, child in module.named_modules():
        if next(child.children(), None) is None:
            weight = getattr(child, "weight", None)
            is_trained = weight is None or weight.requires_grad
            hooks.append(child.register_forward_hook(_recorder(name, is_trained, layers)))
    was_training = module.training
    try:
        meta_state = {key: torch.empty_like(value, device="meta") for key, value in module.state_dict().items()}
        with torch.no_grad():
            torch.func.functional_call(module.eval(), meta_state, torch.empty(1, *input_shape_CHW, device="meta"))
    finally:
        module.train(was_training)
        for hook in hooks:
            hook.remove()
    return Summary(input_shape_CHW, tuple(layers))


def _recorder(name: str, is_trained: bool, layers: list[Layer]) -> Any:
    def record(layer: nn.Module, _inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        seen = any(known.name == name for known in layers)  # parameters of a layer that is used twice count once
        parameters = 0 if seen else sum(p.numel() for p in layer.parameters())
        shape, flops = tuple(output.shape[1:]), _flops(layer, output)
        layers.append(Layer(name, type(layer).__name__, shape, parameters, flops, is_trained=is_trained))

    return record


def _flops(layer: nn.Module, output: torch.Tensor) -> int:
    if isinstance(layer, nn.Conv2d):
        per_value = layer.in_channels // layer.groups * layer.kernel_size[0] * layer.kernel_size[1]
    elif isinstance(layer, nn.Linear):
        per_value = layer.in_features
    else:
        return 0
    return 2 * per_value * output[0].numel()
