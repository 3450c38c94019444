"""Graph -> graph: several operations of a file that together mean one operation become that one.

Recognition is by structure, never by a name alone, so that the new graph computes the same.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np

from convolve.graph.graph import Array, Graph, Node, Parameter, Value, pruned

Values = dict[str, Value]


def fuse(graph: Graph) -> Graph:
    """The graph with operations on parameters alone precomputed, scales and biases moved into their layers, and
    decomposed operations recognized."""
    graph = _rescaled(_folded(graph))
    values, uses, nodes = graph.values(), graph.uses(), []
    for node in graph.nodes:
        found = _with_bias(values, uses, node) or _log_of_sigmoid(values, node) or _largest(values, node)
        nodes.append(found or _normalized(values, node) or node)
        values[node.name] = nodes[-1]
    return pruned(replace(graph, nodes=tuple(nodes)))


# -- parameters and biases --------------------------------------------------------------------------------------------


def _folded(graph: Graph) -> Graph:
    """A value computed only from parameters that nothing else uses becomes a parameter, such as a mean spliced from
    three numbers.

    Trainable parameters are only reshaped; anything else would change what is learned.
    """
    uses = graph.uses()
    parameters = {value.name: value for value in graph.parameters}
    nodes = []
    for node in graph.nodes:
        sources = [parameters[name] for name in node.inputs if name in parameters and uses[name] == 1]
        frozen = all(source.is_frozen for source in sources)
        if node.op in _FOLDS and len(sources) == len(node.inputs) and (frozen or node.op == "reshape"):
            array = _FOLDS[node.op](node, [source.array for source in sources])
            name = node.source or sources[0].source
            parameters[node.name] = replace(sources[0], name=node.name, array=array, source=name)
        else:
            nodes.append(node)
    return replace(graph, parameters=tuple(parameters.values()), nodes=tuple(nodes))


def _reciprocal(node: Node, arrays: list[Array]) -> Array:
    return np.divide(1, arrays[0], out=np.zeros_like(arrays[0]), where=arrays[0] != 0)


_FOLDS: dict[str, Callable[[Node, list[Array]], Array]] = {
    "reshape": lambda node, arrays: arrays[0].reshape(node.shape),
    "concatenate": lambda node, arrays: np.concatenate(arrays, node.integer("axis")),
    "reciprocal": _reciprocal,
}


def _with_bias(values: Values, uses: Mapping[str, int], node: Node) -> Node | None:
    """A weighted sum plus a parameter of a suitable shape -> the weighted sum with that parameter as its bias."""
    for product_name, bias_name in _either_order(node, "add"):
        product, bias = values[product_name], values[bias_name]
        if (
            isinstance(product, Node)
            and uses[product_name] == 1
            and isinstance(bias, Parameter)
            and bias.shape == _bias_shape(values, product)
        ):
            return replace(node, op=product.op, inputs=(*product.inputs, bias_name), attributes=product.attributes)
    return None


def _bias_shape(values: Values, product: Node) -> tuple[int, ...] | None:
    """The shape of this node's bias in the graph; None if the node has none."""
    if product.op not in ("convolution", "convolution_transpose", "linear") or len(product.inputs) != 2:
        return None
    weight = values[product.inputs[1]]
    if not isinstance(weight, Parameter):
        return None
    if product.op == "linear":
        transposed = product.attributes["transposed"]
        return weight.shape[:1] if transposed else weight.shape[product.integer("contracted") :]
    return (product.shape[0],) + (1,) * (len(product.shape) - 1)


def _rescaled(graph: Graph) -> Graph:
    """Batch normalization with a fixed scale of 1 and bias of 0, times a parameter, plus another: these become its
    scale and bias.

    Caffe has them in a separate layer.
    """
    values, uses, nodes = graph.values(), graph.uses(), []
    for node in graph.nodes:
        nodes.append(_with_own(values, uses, node, "multiply", 1) or _with_own(values, uses, node, "add", 2) or node)
        values[node.name] = nodes[-1]
    return pruned(replace(graph, nodes=tuple(nodes)))


def _with_own(values: Values, uses: Mapping[str, int], node: Node, op: str, slot: int) -> Node | None:
    """`op` of a batch normalization and a parameter -> the normalization with the parameter as operand `slot`."""
    for normalized_name, own_name in _either_order(node, op):
        normalized, own = values[normalized_name], values[own_name]
        if (
            isinstance(normalized, Node)
            and normalized.op == "batch_normalization"
            and uses[normalized_name] == 1
            and isinstance(own, Parameter)
            and own.shape == (node.shape[0],) + (1,) * (len(node.shape) - 1)
            and bool(normalized.attributes["spatial"])
            and _is_fixed(values[normalized.inputs[2]], 0)
            and (slot == 2 or _is_fixed(values[normalized.inputs[1]], 1))
        ):
            inputs = (*normalized.inputs[:slot], own_name, *normalized.inputs[slot + 1 :])
            return replace(node, op=normalized.op, inputs=inputs, attributes=normalized.attributes)
    return None


def _is_fixed(value: Value, number: float) -> bool:
    return isinstance(value, Parameter) and value.is_frozen and bool(np.all(value.array == number))


# -- operations that are spelled out ----------------------------------------------------------------------------------


def _log_of_sigmoid(values: Values, node: Node) -> Node | None:
    """log(sigmoid(x)), which is -inf for x = -100, becomes -softplus(-x), as in our files; the exponential
    of that too."""
    if x := _operand(values, _operand(values, node.name, "exp"), "log_sigmoid"):
        return replace(node, op="sigmoid", inputs=(x,))
    x = _operand(values, node.inputs[0], "sigmoid") if node.op == "ieee_log" else None
    if node.op == "negate":
        below = _with_constant(values, node.inputs[0], "log_add_exp")
        x = _operand(values, below[0], "negate") if below and below[1] == 0 else None
    return replace(node, op="log_sigmoid", inputs=(x,)) if x else None


def _largest(values: Values, node: Node) -> Node | None:
    """argmax(x) == 0, 1, 2, ... along the same axis -> hardmax(x)"""
    for index, numbers in _either_order(node, "equal"):
        best, places = values[index], values[numbers]
        if not (isinstance(best, Node) and best.op == "argmax" and best.attributes["keep_dims"]):
            continue
        [axis], x = best.integers("axes"), values[best.inputs[0]]
        counted = np.arange(x.shape[axis]).reshape(-1, *(1,) * (len(x.shape) - 1 - axis % len(x.shape)))
        if isinstance(places, Parameter) and places.is_frozen and np.array_equal(places.array, counted):
            return replace(node, op="hardmax", inputs=(x.name,), attributes={"axes": (axis,)})
    return None


def _normalized(values: Values, node: Node) -> Node | None:
    """x / (k + alpha / n * sum of x^2 over n channels)^beta; CNTK writes x * 1 / exp(beta * log(k + ...))."""
    for x, divisor in _either_order(node, "multiply"):
        power = _power(values, _operand(values, divisor, "reciprocal"))
        sum_of_squares = _with_constant(values, power[0], "add") if power else None
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
        exponent = values[node.inputs[1]].constant
        return None if exponent is None else (node.inputs[0], exponent)
    scaled = _with_constant(values, _operand(values, name, "exp"), "multiply")
    base = _operand(values, scaled[0], "log") if scaled else None
    return (base, scaled[1]) if base and scaled else None


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
    if not (isinstance(kernel, Parameter) and kernel.is_frozen and kernel.array.size % 2):
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
    for value, constant in _either_order(values.get(name or ""), op):
        number = values[constant].constant
        if number is not None:
            return value, number
    return None


def _either_order(node: Value | None, op: str) -> Iterable[tuple[str, ...]]:
    """The two operands of the node in both orders, if it is an `op`."""
    return (node.inputs, node.inputs[::-1]) if isinstance(node, Node) and node.op == op else ()
