"""A description of an imported network: a row for each node, with the name that its author gave it."""

from math import prod

from torch import nn

from convolve.graph.graph import Graph, Node, Parameter, Value
from convolve.models.summary import Layer, Summary


def describe(graph: Graph, module: nn.Module) -> Summary:
    """The nodes of a graph, and what each became in the `module` built from it.

    Parameters count where they are first used.
    """
    became = {name: type(layer).__name__ for name, layer in module.named_children()}
    values, counted, layers = graph.values(), set[str](), []
    for node in graph.nodes:
        own = {name for name in node.inputs if isinstance(values[name], Parameter)} - counted
        counted |= own
        parameters = sum(prod(values[name].shape) for name in own if _learned(node, values[name]))
        source = "/".join(dict.fromkeys(part for part in (node.block, node.source) if part))
        kind, flops = became.get(node.name, node.op), _flops(node, values)
        layers.append(Layer(node.name, kind, node.shape, parameters, flops, source=source))
    return Summary(graph.inputs[0].shape if graph.inputs else (), tuple(layers))


def _learned(node: Node, value: Value) -> bool:
    """Trainable parameters only: not statistics, nor frozen constants, which belong to the arithmetic."""
    if node.op == "batch_normalization" and value.name in node.inputs[3:]:
        return False
    weighted = node.op in ("convolution", "convolution_transpose", "linear", "batch_normalization")
    return isinstance(value, Parameter) and (weighted or not value.is_frozen)


def _flops(node: Node, values: dict[str, Value]) -> int:
    """A multiply-add counts as 2; only convolutions and dense layers are counted."""
    if node.op in ("convolution", "convolution_transpose"):
        slid_over = node.shape if node.op == "convolution" else values[node.inputs[0]].shape
        return 2 * prod(slid_over) * prod(values[node.inputs[1]].shape[1:])
    if node.op == "linear":
        x = values[node.inputs[0]].shape
        return 2 * prod(node.shape) * prod(x[len(x) - node.integer("contracted") :])
    return 0
