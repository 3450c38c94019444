"""The numbers of a trained model for the network of a text; for CNTK's v1 files, which BrainScript's trainer wrote."""

from dataclasses import replace
from math import prod

from convolve.errors import ModelError
from convolve.graph.graph import Array, Graph, Node, Parameter, Value


def with_numbers(graph: Graph, trained: Graph) -> Graph:
    """`graph` with the parameters of `trained`, which must compute the same.

    Both are walked side by side from their outputs to their inputs, so that names do not matter: CNTK changed how it
    makes them. Every parameter of either is visited. Raises ModelError at the first difference.
    """
    ours, theirs = graph.values(), trained.values()
    if len(graph.outputs) != len(trained.outputs):
        raise ModelError(f"the model has {len(trained.outputs)} outputs, the network of the text {len(graph.outputs)}")
    waiting = [*zip(graph.outputs, trained.outputs, strict=True)]
    seen: set[tuple[str, str]] = set()
    arrays: dict[str, Array] = {}
    while waiting:
        pair = waiting.pop()
        if pair in seen:
            continue
        seen.add(pair)
        value, other = ours[pair[0]], theirs[pair[1]]
        if isinstance(value, Parameter) and isinstance(other, Parameter):
            arrays[value.name] = _fitting(value, other)
        waiting += zip(*_operands(value, other), strict=True)
    return replace(graph, parameters=tuple(replace(p, array=arrays[p.name]) for p in graph.parameters))


def _operands(value: Value, other: Value) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The operands of two values that are computed by the same operation."""
    if type(value) is not type(other):
        raise _misfit(value, other, f"one is {_kind(value)}, the other {_kind(other)}")
    if not isinstance(value, Node) or not isinstance(other, Node):
        return (), ()
    if value.op != other.op:
        raise _misfit(value, other, f"one is {value.op}, the other {other.op}")
    if len(value.inputs) != len(other.inputs):
        raise _misfit(value, other, f"one has {len(value.inputs)} operands, the other {len(other.inputs)}")
    changed = [name for name in value.attributes if value.attributes[name] != other.attributes.get(name)]
    if changed and value.op != "dropout":  # a v1 file holds no rates
        name = changed[0]
        was, now = other.attributes.get(name), value.attributes[name]
        raise _misfit(value, other, f"{name} is {now} in the text and {was} in the model")
    return value.inputs, other.inputs


def _fitting(value: Parameter, other: Parameter) -> Array:
    """The other's numbers in our shape; axes of size 1 may be in other places."""
    if [size for size in value.shape if size > 1] != [size for size in other.shape if size > 1]:
        raise _misfit(value, other, f"the shape is {value.shape} in the text and {other.shape} in the model")
    assert prod(value.shape) == prod(other.shape)  # as they differ in sizes of 1 only
    return other.array.reshape(value.shape)


def _misfit(value: Value, other: Value, what: str) -> ModelError:
    return ModelError(f"the model was not made from this text: {value.name} and {other.source or other.name}: {what}")


def _kind(value: Value) -> str:
    return value.op if isinstance(value, Node) else "a parameter" if isinstance(value, Parameter) else "an input"
