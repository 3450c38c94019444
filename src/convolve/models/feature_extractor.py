"""A network truncated at one of its layers."""

from typing import Any

import torch
from torch import fx, nn

from convolve.errors import look_up
from convolve.models.heads import axis_read, pooled

fx.wrap("pooled")  # tracers look this up by file name


class FeatureExtractor(nn.Module):
    """images_NCHW -> the output of the layer `name` of `network`; if it is called several times, the last one.

    Raises UsageError for an unknown layer.
    """

    def __init__(self, network: nn.Module, name: str) -> None:
        super().__init__()
        layers = {key: layer for key, layer in network.named_modules() if key}
        layer = look_up(layers, name, "layer")
        self.network, self.name = network, name
        self._last: torch.Tensor | None = None
        layer.register_forward_hook(self._keep)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        self._last = None
        self.network(images_NCHW)
        assert self._last is not None  # the layer is one that the network calls
        return self._last

    def _keep(self, _layer: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        self._last = output


class WithFeatures(nn.Module):
    """images_NCHW -> (the output of `network`, features_ND): the input of its layer `last`, maps and tokens
    averaged."""

    def __init__(self, network: nn.Module, last: str) -> None:
        super().__init__()
        self.network = network
        self.training = network.training
        self._last = last

    def forward(self, images_NCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        read: list[torch.Tensor] = []
        layer = self.network.get_submodule(self._last)
        hook = layer.register_forward_pre_hook(lambda _layer, inputs: read.append(inputs[0]))
        try:
            given = self.network(images_NCHW)
        finally:
            hook.remove()
        return given, pooled(read[-1], axis_read(layer))
