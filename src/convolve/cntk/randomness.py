"""Dropout and random numbers, drawn as CNTK draws them on a processor."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
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
        mask: Tensor = torch.from_numpy(kept).reshape(x.shape).to(x.dtype)
        kept_x: Tensor = x * (mask * (1 / (1 - rate)))
        return kept_x


def drawn(node: Node, shape: tuple[int, ...]) -> NDArray[np.floating]:
    """The next numbers of a random node."""
    if node.state is None:
        node.state = Draws(node.attributes["rngSeed"])
    kind, arguments = node.attributes["randomDistributionType"], node.attributes["randomDistributionArgs"]
    count = math.prod(shape)
    if kind == "uniform":
        found = node.state.uniform(arguments[0], arguments[1], count)
    elif kind == "normal":
        found = node.state.normal(count) * arguments[1] + arguments[0]
    elif kind == "gumbel":
        fractions = np.clip(node.state.fractions(count), 1e-300, 1 - 1e-16)
        found = arguments[0] - arguments[1] * np.log(-np.log(fractions))
    else:
        found = (node.state.fractions(count) < arguments[0]).astype(np.float64)
    return np.asarray(found).reshape(shape)
