"""Graph -> graph: what several operations of a file say together, said in one.

Recognition goes by structure, never by a name alone, so that the new graph computes what the old one did.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from convolve.importers.graph import Graph, Node, Parameter, Value, pruned

Values = dict[str, Value]


def recognise(graph: Graph) -> Graph:
    """The graph with reshaped parameters as parameters, biases moved into their layers, and response normalization that
    is spelled out in full found again."""
    graph = _folded(graph)
    values, uses = graph.values(), graph.uses()
    bias = _biased(values, uses)
    nodes = tuple(bias(node) or _normalized(values, node) or node for node in graph.nodes)
    return pruned(replace(graph, nodes=nodes))


def _folded(graph: Graph) -> Graph:
    """A parameter that is read once, by a `reshape`, becomes the reshaped parameter."""
    values, uses = graph.values(), graph.uses()
    folded: dict[str, Parameter] = {}
    for node in graph.nodes:
        source = values[node.inputs[0]]
        if node.op == "reshape" and isinstance(source, Parameter) and uses[source.name] == 1:
            folded[node.name] = replace(source, name=node.name, array=source.array.reshape(node.shape))
    return replace(
        graph,
        parameters=(*graph.parameters, *folded.values()),
        nodes=tuple(node for node in graph.nodes if node.name not in folded),
    )


def _biased(values: Values, uses: dict[str, int]) -> Callable[[Node], Node | None]:
    """A function: `add` of a weighted sum and a parameter -> the weighted sum with a third operand."""

    def recognised(node: Node) -> Node | None:
        for product_name, bias_name in (node.inputs, node.inputs[::-1]) if node.op == "add" else ():
            product, bias = values[product_name], values[bias_name]
            if (
                isinstance(product, Node)
                and product.op in _BIAS_SHAPES
                and len(product.inputs) == 2
                and uses[product_name] == 1
                and isinstance(bias, Parameter)
                and isinstance(weight := values[product.inputs[1]], Parameter)
                and bias.shape == _BIAS_SHAPES[product.op](product, weight)
            ):
                return replace(node, op=product.op, inputs=(*product.inputs, bias_name), attributes=product.attributes)
        return None

    return recognised


def _one_each_channel(product: Node, weight: Parameter) -> tuple[int, ...]:
    return (product.shape[0],) + (1,) * (len(product.shape) - 1)


def _one_each_output(product: Node, weight: Parameter) -> tuple[int, ...]:
    return (
        weight.shape[:1] if product.attributes["transposed"] else weight.shape[int(product.attributes["contracted"]) :]
    )


_BIAS_SHAPES = {
    "convolution": _one_each_channel,
    "convolution_transpose": _one_each_channel,
    "linear": _one_each_output,
}


def _normalized(values: Values, node: Node) -> Node | None:
    """x / (k + alpha / n * sum of x^2 over n channels)^beta; CNTK writes x * 1 / exp(beta * log(k + ...))."""
    for x, divisor in (node.inputs, node.inputs[::-1]) if node.op == "multiply" else ():
        power = _power(values, _operand(values, divisor, "reciprocal"))
        sum_of_squares = _plus_constant(values, power[0]) if power else None
        window = _window_of_squares(values, sum_of_squares[0], x) if sum_of_squares else None
        if power and sum_of_squares and window:
            size, scale = window
            attributes = {"size": size, "alpha": scale * size, "beta": power[1], "k": sum_of_squares[1]}
            return replace(node, op="local_response_normalization", inputs=(x,), attributes=attributes)
    return None


def _power(values: Values, name: str | None) -> tuple[str, float] | None:
    """exp(c * log(u)) or u ** c -> (u, c)."""
    node = values.get(name or "")
    if isinstance(node, Node) and node.op == "power":
        exponent = _constant(values, node.inputs[1])
        return None if exponent is None else (node.inputs[0], exponent)
    scaled = _with_constant(values, _operand(values, name, "exp"), "multiply")
    base = _operand(values, scaled[0], "log") if scaled else None
    return (base, scaled[1]) if base and scaled else None


def _plus_constant(values: Values, name: str) -> tuple[str, float] | None:
    return _with_constant(values, name, "add")


def _window_of_squares(values: Values, name: str, x: str) -> tuple[int, float] | None:
    """The number of channels n and the constant factor of a sum of x^2 over n channels, made by a 3-D convolution."""
    sum_name = _operand(values, name, "reshape")
    convolution = values.get(sum_name or "")
    if not (isinstance(convolution, Node) and convolution.op == "convolution" and len(convolution.inputs) == 2):
        return None
    kernel = values[convolution.inputs[1]]
    square = values.get(_operand(values, convolution.inputs[0], "reshape") or "")
    if not (isinstance(square, Node) and square.op == "multiply" and square.inputs == (x, x)):
        return None
    if not (isinstance(kernel, Parameter) and kernel.learning_rate_multiplier == 0 and kernel.array.size % 2):
        return None
    size, factor = kernel.array.size, float(kernel.array.flat[0])
    half = (size // 2, 0, 0)
    over_channels = (
        kernel.shape == (1, 1, size, 1, 1)
        and values[x].shape == values[name].shape == convolution.shape[1:]
        and convolution.attributes["strides"] == (1, 1, 1)
        and convolution.attributes["lower"] == convolution.attributes["upper"] == half
        and bool(np.all(kernel.array == kernel.array.flat[0]))
    )
    return (size, factor) if over_channels else None


def _operand(values: Values, name: str | None, op: str) -> str | None:
    """The first operand of the node called `name`, if it is an `op`."""
    node = values.get(name or "")
    return node.inputs[0] if isinstance(node, Node) and node.op == op else None


def _with_constant(values: Values, name: str | None, op: str) -> tuple[str, float] | None:
    """`op` of a value and a constant, in either order -> (value, constant)."""
    node = values.get(name or "")
    for value, constant in (node.inputs, node.inputs[::-1]) if isinstance(node, Node) and node.op == op else ():
        number = _constant(values, constant)
        if number is not None:
            return value, number
    return None


def _constant(values: Values, name: str) -> float | None:
    value = values[name]
    if isinstance(value, Parameter) and value.array.size == 1 and value.learning_rate_multiplier == 0:
        return float(value.array.flat[0])
    return None
