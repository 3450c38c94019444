"""Dropout and random numbers, drawn as CNTK draws them on a processor."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convolve.cntk.nodes import Node
from convolve.cntk_random import Draws


class Dropout(nn.Module):
    """CNTK's masks: an element is kept where its fraction is above the rate. The stream goes on from pass to pass,
    whatever module runs it."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.node = node

    def forward(self, x: Tensor) -> Tensor:
        node = self.node
        rate = node.attributes["dropoutRate"]
        if not self.training or not rate:
            return x
        if node.state is None:
            node.state = Draws(node.attributes["rngSeed"])
            skip = node.attributes.get("rngOffset", 0)
            if skip:
                node.state.words(skip)
        kept = node.state.fractions(x.numel()) > rate
        node.attributes["rngOffset"] = node.attributes.get("rngOffset", 0) + x.numel()
        mask = torch.from_numpy(kept).reshape(x.shape).to(x.dtype)
        return x * (mask * (1 / (1 - rate)))
