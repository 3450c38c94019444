"""Heads of graphs, as `models/heads.py` has them for modules, and graphs for images of another size."""

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from convolve.errors import ModelError, UsageError
from convolve.graph.graph import Array, Graph, Node, Parameter, free_name, graph_of, pruned
from convolve.graph.operations import outcome
from convolve.graph.shapes import GraphError
from convolve.models.heads import HIDDEN, channel_axis

HEAD, HEAD_HIDDEN, HEAD_DROPOUT = "head", "head_hidden", "head_dropout"  # same names as the layers of `HeadedNetwork`
_READ_LAST_AXIS = ("linear", "matmul", "layer_normalization")
_READ_FIRST_AXIS = ("convolution", "convolution_transpose", "batch_normalization")


def without_head(graph: Graph) -> Graph:
    """The part that gives the features, (D,): the input of the last layer with weights; maps are averaged."""
    hidden = next((node for node in graph.nodes if node.name == HEAD_HIDDEN), None)
    last = hidden or last_layer(graph)
    body = pruned(replace(graph, outputs=last.inputs[:1]))
    rank = len(body.values()[body.outputs[0]].shape)
    kept = range(rank - last.integer("contracted"), rank) if last.op == "linear" else range(1)
    return _averaged(body, kept)


def last_layer(graph: Graph) -> Node:
    """The last layer with weights: the classifier."""
    values = graph.values()
    for node in reversed(pruned(graph).nodes):
        if node.op in ("convolution", "linear") and node.batched and isinstance(values[node.inputs[1]], Parameter):
            return node
    raise ModelError("the network has no convolution and no dense layer that a head could replace")


def as_vector(graph: Graph) -> Graph:
    """The graph whose output is averaged over all axes except its channels."""
    values = graph.values()
    layers = [node for node in pruned(graph).nodes if _learns(node, values)]
    is_last = bool(layers) and layers[-1].op in _READ_LAST_AXIS
    width = layers[-1].shape[-1 if is_last else 0] if layers else 0
    axis = channel_axis(values[graph.outputs[0]].shape, width, is_last)
    return _averaged(graph, range(axis, axis + 1))


def _learns(node: Node, values: Mapping[str, Any]) -> bool:
    """Whether it is a layer whose weights determine its number of channels."""
    if not (node.batched and node.shape and node.op in _READ_LAST_AXIS + _READ_FIRST_AXIS):
        return False
    return any(isinstance(values[name], Parameter) for name in node.inputs)


def _averaged(graph: Graph, kept: range) -> Graph:
    """The graph whose output is a vector: the mean over all but the `kept` axes."""
    shape = graph.values()[graph.outputs[0]].shape
    if axes := tuple(axis for axis in range(len(shape)) if axis not in kept):
        graph = _with(graph, free_name(graph, "pooled"), "reduce_mean", axes=axes, keep_dims=False)
    shape = graph.values()[graph.outputs[0]].shape
    if len(shape) != 1:
        graph = _with(graph, free_name(graph, "features"), "reshape", shape=(prod(shape),))
    return graph


def with_head(graph: Graph, class_count: int, kind: str, dropout: float, hidden_seed: int) -> Graph:
    """A graph that gives features, (D,), followed by a head of this `kind`, whose last weights are zeros."""
    [width] = graph.values()[graph.outputs[0]].shape
    if kind == "mlp":
        bound = (6 / (width + HIDDEN)) ** 0.5  # Glorot-uniform, as our own layers
        weight = np.random.default_rng(hidden_seed).uniform(-bound, bound, (HIDDEN, width)).astype(np.float32)
        graph = _dense(graph, HEAD_HIDDEN, weight)
        graph = _with(graph, free_name(graph, "head_relu"), "relu")
        graph = _with(graph, free_name(graph, HEAD_DROPOUT), "dropout", rate=dropout)
        width = HIDDEN
    return _dense(graph, HEAD, np.zeros((class_count, width), np.float32))


def _dense(graph: Graph, name: str, weight_KD: Array) -> Graph:
    weight = Parameter(free_name(graph, f"{name}_weight"), weight_KD)
    bias = Parameter(free_name(graph, f"{name}_bias"), np.zeros(len(weight_KD), np.float32))
    graph = replace(graph, parameters=(*graph.parameters, weight, bias))
    return _with(graph, free_name(graph, name), "linear", weight.name, bias.name, contracted=1, transposed=True)


def _with(graph: Graph, name: str, op: str, *others: str, **attributes: Any) -> Graph:
    """The graph with `op` after its output."""
    values, inputs = graph.values(), (graph.outputs[0], *others)
    shape, batched = outcome(op, attributes, [values[one] for one in inputs])
    node = Node(name, op, inputs, attributes, shape=shape, batched=batched)
    return replace(graph, nodes=(*graph.nodes, node), outputs=(name,))


def in_size(graph: Graph, height: int, width: int) -> Graph:
    """The graph for images of another size: a global pooling stays global.

    Raises UsageError, naming the first node that does not accept them.
    """
    source, known = graph.inputs[0], graph.values()
    values: dict[str, Any] = {parameter.name: parameter for parameter in graph.parameters}
    values[source.name] = replace(source, shape=(source.shape[0], height, width))
    for node in graph.nodes:
        operands = [values[name] for name in node.inputs]
        attributes = _whole(node, known[node.inputs[0]].shape, operands[0].shape)
        try:
            shape, batched = outcome(node.op, attributes, operands)
        except GraphError as error:
            raise _takes_one_size(graph, node, str(error)) from None
        values[node.name] = replace(node, attributes=attributes, shape=shape, batched=batched)
    for name in graph.outputs:
        if values[name].shape != known[name].shape:
            raise _takes_one_size(graph, known[name], f"it would give {values[name].shape}, not {known[name].shape}")
    return graph_of(
        values.values(), outputs=graph.outputs, aliases=graph.aliases, notes=graph.notes, origin=graph.origin
    )


def _whole(node: Node, before: tuple[int, ...], now: tuple[int, ...]) -> dict[str, Any]:
    """The attributes; a window as large as the maps is adapted to the new maps, as is a flattening of all axes."""
    attributes = dict(node.attributes)
    if node.op in ("average_pool", "max_pool") and node.integers("window") == before[1:]:
        attributes["window"] = now[1:]
    if node.op == "reshape" and node.integers("shape") == (prod(before),):
        attributes["shape"] = (prod(now),)
    return attributes


def _takes_one_size(graph: Graph, node: Any, reason: str) -> UsageError:
    _, height, width = graph.inputs[0].shape
    return UsageError(
        f"the network takes images of {width}x{height} only: {node.source or node.name} does not fit another size "
        f"({reason}); leave data.image_size out, or truncate the network earlier with model.cut"
    )
