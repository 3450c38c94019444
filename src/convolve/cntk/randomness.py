"""Dropout and random numbers, drawn as CNTK does on a CPU."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from convolve.cntk.nodes import Node
from convolve.cntk_random import Draws
from convolve.models.cntk_values import dropped


class Dropout(nn.Module):
    """CNTK's masks: an element is kept if its random fraction is above the rate."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.node = node

    def __deepcopy__(self, memo: Any) -> Dropout:
        """No copy: the node leads to the whole network."""
        copy = Dropout(self.node)
        return copy.train(self.training)

    def forward(self, x: Tensor) -> Tensor:
        rate = self.node.attributes["dropoutRate"]
        if not self.training or not rate:
            return x
        return dropped(x, rate, _stream(self.node, x.numel()))


@dataclass
class _Stream:
    draws: Draws
    offset: int  # how many numbers were drawn


_MOST_STREAMS = 64  # of a node: a program that makes functions in a loop would else keep all of them for good
_drawing: dict[str, Any] = {"for": None}


def draw_for(owner: Any) -> None:
    """Who the next numbers are drawn for: a trainer, or the outputs of an evaluation.

    Each has streams of its own, which begin at the seeds and go on from pass to pass: CNTK builds a network for each
    function that is run, and a trainer's function is its own.
    """
    _drawing["for"] = owner


def with_offset(node: Node, attributes: dict[str, Any], owner: Any) -> dict[str, Any]:
    """The attributes that a file holds: of a random node with how many numbers its owner has drawn."""
    own = node.streams.get(owner)
    return attributes | {"rngOffset": own.offset} if own else attributes


def _stream(node: Node, count: int) -> Draws:
    """The stream of a node, of which `count` numbers are drawn next."""
    owner = _drawing["for"]
    if owner not in node.streams:
        node.streams[owner] = _begun(node)
        if len(node.streams) > _MOST_STREAMS:
            del node.streams[next(iter(node.streams))]
    own: _Stream = node.streams[owner]
    own.offset += count
    return own.draws


def _begun(node: Node) -> _Stream:
    draws, offset = Draws(node.attributes["rngSeed"]), node.attributes.get("rngOffset", 0)
    draws.words(offset)
    return _Stream(draws, offset)


def drawn(node: Node, shape: tuple[int, ...]) -> NDArray[np.floating]:
    """The next numbers of a random node."""
    count = math.prod(shape)
    stream = _stream(node, count)
    if node.op != "RandomDistribution":
        return _sampled(node, stream, shape)
    kind, dtype = node.attributes["randomDistributionType"], node.outputs[0].data_type
    arguments = np.array(node.attributes["randomDistributionArgs"], dtype).astype(np.float64)  # CNTK rounds them
    if kind == "uniform":
        found = stream.uniform(arguments[0], arguments[1], count)
    elif kind == "normal":
        found = stream.normal(count) * arguments[1] + arguments[0]
    elif kind == "gumbel":
        fractions = np.clip(stream.fractions(count), 1e-300, 1 - 1e-16)
        found = arguments[0] - arguments[1] * np.log(-np.log1p(-fractions))
    else:
        found = (stream.fractions(count) >= 1 - arguments[0]).astype(np.float64)
    return np.asarray(found).reshape(shape)


_TRIALS = 10  # with which CNTK estimates how many draws a sample without repetition takes


def _sampled(node: Node, state: Draws, shape: tuple[int, ...]) -> NDArray[np.floating]:
    """Classes as one-hot vectors, or how often each is expected."""
    weights, count = node.inputs[0].value.reshape(-1).astype(np.float64), node.attributes["numSamples"]  # type: ignore[attr-defined]
    sums, repeat = np.cumsum(weights), node.attributes["allowDuplicates"]
    if node.op == "RandomSample":
        return np.eye(len(weights))[_classes(state, sums, count, repeat)[0]].reshape(shape)
    if repeat:
        return np.asarray(weights * (count / sums[-1]))
    tries = sum(_classes(state, sums, count, repeat)[1] for _ in range(_TRIALS)) / _TRIALS
    return np.asarray(1 - (1 - weights / sums[-1]) ** tries)


def _classes(state: Draws, sums: NDArray[np.float64], count: int, repeat: bool) -> tuple[list[int], int]:
    """(classes, number of draws): without repetition, a class that was already drawn is drawn again."""
    found: list[int] = []
    tries = 0
    while len(found) < count:
        number = int(np.searchsorted(sums, state.fractions(1)[0] * sums[-1], side="right"))
        tries += 1
        if repeat or number not in found:
            found.append(number)
    return found, tries
