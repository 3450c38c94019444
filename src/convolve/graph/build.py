"""Graph -> torch module: named layers where the graph has any, plain functions elsewhere, and code that one can read.

The module is a `torch.fx.GraphModule`: `print(module)` shows the layers, `print(module.code)` the straight line of
calls between them, and everything that knows torch (export, compile, quantization, hooks) works on it. The
alternative, a module of our own that walks over the graph in `forward`, would hide the network in a loop. fx turns its
graph into Python source and runs that: nothing gets into it but identifiers that `with_readable_names` made, numbers,
and functions of torch and of this package.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx
from torch.nn import functional as F

from convolve.graph import functions
from convolve.graph.emit import Emitter
from convolve.graph.graph import Graph, Node
from convolve.graph.layers import LAYERS, Rule


def build(graph: Graph) -> fx.GraphModule:
    """The graph as a module in evaluation mode, in float32; `.train()` makes it trainable again.

    It takes the graph's inputs in their order, with a batch axis in front, and returns its outputs: a tensor, or a
    tuple where there are several. Frozen parameters do not require gradients.
    """
    emitter = Emitter(graph)
    for value in graph.inputs:
        emitter.placeholder(value)
    for node in graph.nodes:
        emitter.values[node.name] = RULES[node.op](emitter, node)
    results = tuple(emitter.value(name) for name in graph.outputs)
    emitter.code.output(results[0] if len(results) == 1 else results)
    emitter.code.lint()
    return fx.GraphModule(emitter.root, emitter.code, class_name="ImportedNetwork").eval()


# -- plain functions --------------------------------------------------------------------------------------------------


def _apply(function: Callable[..., Any]) -> Rule:
    return lambda emitter, node: emitter.call(node.name, function, *map(emitter.value, node.inputs))


def _with_attributes(function: Callable[..., Any], *names: str) -> Rule:
    def emit(emitter: Emitter, node: Node) -> fx.Node:
        values = map(emitter.value, node.inputs)
        return emitter.call(node.name, function, *values, *(node.attributes[name] for name in names))

    return emit


def _aligned(function: Callable[..., Any]) -> Rule:
    """A function of values that broadcast."""
    return lambda emitter, node: emitter.call(node.name, function, *emitter.aligned(node))


def _arithmetic(function: Callable[..., Any]) -> Rule:
    """The same, with constants written into the code."""
    return lambda emitter, node: emitter.call(node.name, function, *emitter.aligned(node, literals=True))


def _dims(emitter: Emitter, node: Node) -> tuple[int, ...]:
    """The axes of a node, counted from the end."""
    rank = len(emitter.shape(node.inputs[0]))
    return tuple(axis % rank - rank for axis in node.attributes["axes"])


def _along(function: Callable[..., Any], *before: Any) -> Rule:
    return lambda emitter, node: emitter.call(
        node.name, function, emitter.value(node.inputs[0]), *before, _dims(emitter, node)
    )


def _reduce(function: Callable[..., Any], *before: Any) -> Rule:
    """A function (x, ..., dims, keepdim). Over no axes at all, a reduction changes nothing."""

    def emit(emitter: Emitter, node: Node) -> fx.Node:
        x, dims = emitter.value(node.inputs[0]), _dims(emitter, node)
        if not dims:
            return x
        return emitter.call(node.name, function, x, *before, dims, node.attributes["keep_dims"])

    return emit


# -- shapes -----------------------------------------------------------------------------------------------------------


def _reshape(emitter: Emitter, node: Node) -> fx.Node:
    return emitter.reshaped(node.name, emitter.value(node.inputs[0]), node.shape, node.batched)


def _transpose(emitter: Emitter, node: Node) -> fx.Node:
    order = node.attributes["order"]
    dims = (0, *(axis + 1 for axis in order)) if node.batched else tuple(order)
    return emitter.call(node.name, torch.permute, emitter.value(node.inputs[0]), dims)


def _dim(emitter: Emitter, node: Node, rank: int) -> int:
    return int(node.attributes["axis"]) % rank - rank


def _slice(emitter: Emitter, node: Node) -> fx.Node:
    begin, end, step = (node.attributes[name] for name in ("begin", "end", "step"))
    x = emitter.value(node.inputs[0])
    return emitter.call(node.name, functions.take, x, _dim(emitter, node, len(node.shape)), begin, end, step)


def _concatenate(emitter: Emitter, node: Node) -> fx.Node:
    values, rank = [emitter.value(name) for name in node.inputs], len(node.shape)
    if len({emitter.batched(name) for name in node.inputs}) == 1:
        return emitter.call(node.name, torch.cat, values, _dim(emitter, node, rank))
    return emitter.call(node.name, functions.concatenate, values, _dim(emitter, node, rank), rank)


def _pad(emitter: Emitter, node: Node) -> fx.Node:
    lower, upper, mode = (node.attributes[name] for name in ("lower", "upper", "mode"))
    x = emitter.value(node.inputs[0])
    if mode == "constant":
        padding = emitter.padding(lower, upper)
        return emitter.call(node.name, F.pad, x, padding, "constant", node.attributes["value"])
    return emitter.call(node.name, functions.pad_mirrored, x, lower, upper, mode)


def _one_hot(emitter: Emitter, node: Node) -> fx.Node:
    dim = _dim(emitter, node, len(node.shape))
    return emitter.call(node.name, functions.one_hot, emitter.value(node.inputs[0]), node.attributes["classes"], dim)


def _top_k(indices: bool) -> Rule:
    def emit(emitter: Emitter, node: Node) -> fx.Node:
        dim, x = _dim(emitter, node, len(node.shape)), emitter.value(node.inputs[0])
        return emitter.call(node.name, functions.top_k, x, node.attributes["k"], dim, indices)

    return emit


RULES: dict[str, Rule] = {
    **LAYERS,
    "negate": _apply(operator.neg),
    "abs": _apply(torch.abs),
    "reciprocal": _apply(functions.reciprocal),
    "exp": _apply(torch.exp),
    "log": _apply(functions.log),
    "sqrt": _apply(functions.sqrt),
    "floor": _apply(torch.floor),
    "sin": _apply(torch.sin),
    "cos": _apply(torch.cos),
    "tan": _apply(torch.tan),
    "asin": _apply(torch.asin),
    "acos": _apply(torch.acos),
    "atan": _apply(torch.atan),
    "sinh": _apply(torch.sinh),
    "cosh": _apply(torch.cosh),
    "asinh": _apply(torch.asinh),
    "atanh": _apply(torch.atanh),
    "sigmoid": _apply(torch.sigmoid),
    "tanh": _apply(torch.tanh),
    "relu": _apply(torch.relu),
    "elu": _with_attributes(F.elu, "alpha"),
    "leaky_relu": _with_attributes(F.leaky_relu, "alpha"),
    "stop_gradient": _apply(torch.detach),
    "add": _arithmetic(operator.add),
    "subtract": _arithmetic(operator.sub),
    "multiply": _arithmetic(operator.mul),
    "power": _arithmetic(torch.pow),
    "maximum": _aligned(torch.maximum),
    "log_add_exp": _aligned(torch.logaddexp),
    "equal": _aligned(functions.equal),
    "not_equal": _aligned(functions.not_equal),
    "less": _aligned(functions.less),
    "less_equal": _aligned(functions.less_equal),
    "greater": _aligned(functions.greater),
    "greater_equal": _aligned(functions.greater_equal),
    "select": _aligned(functions.select),
    "clip": _aligned(functions.clip),
    "softmax": _along(functions.softmax),
    "log_softmax": _along(functions.log_softmax),
    "hardmax": _along(functions.hardmax),
    "reduce_sum": _reduce(torch.sum),
    "reduce_mean": _reduce(torch.mean),
    "reduce_max": _reduce(torch.amax),
    "reduce_min": _reduce(torch.amin),
    "reduce_log_sum_exp": _reduce(torch.logsumexp),
    "reduce_product": _reduce(functions.product_along),
    "argmax": _reduce(functions.index_of_extreme, True),
    "argmin": _reduce(functions.index_of_extreme, False),
    "reshape": _reshape,
    "transpose": _transpose,
    "slice": _slice,
    "concatenate": _concatenate,
    "pad": _pad,
    "one_hot": _one_hot,
    "top_k_values": _top_k(indices=False),
    "top_k_indices": _top_k(indices=True),
    "cross_entropy_with_softmax": _apply(functions.cross_entropy_with_softmax),
    "classification_error": _with_attributes(functions.classification_error, "top"),
    "squared_error": _aligned(functions.squared_error),
    "logistic": _aligned(functions.logistic),
    "sum_all": _apply(torch.sum),
}
