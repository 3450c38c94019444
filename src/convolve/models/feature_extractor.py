"""A network cut off at one of its layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from convolve.errors import look_up


class FeatureExtractor(nn.Module):
    """images_NCHW -> what the layer `name` of `network` gives; of several calls, the last one counts.

    Raises UsageError for an unknown layer.
    """

    def __init__(self, network: nn.Module, name: str) -> None:
        super().__init__()
        layers = {key: layer for key, layer in network.named_modules() if key}
        layer = look_up(layers, name, "layer")
        self.network = network
        self._last: torch.Tensor | None = None
        layer.register_forward_hook(self._keep)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        self._last = None
        self.network(images_NCHW)
        assert self._last is not None  # the layer is one that the network calls
        return self._last

    def _keep(self, _layer: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        self._last = output
