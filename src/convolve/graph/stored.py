"""Graph <-> plain JSON values, for model folders.

Input is untrusted and checked. The parameters' values are in the weights of the module that `build` makes. Only frozen
ones of a single element are also stored here, since `build` may write them into the code instead. JSON has no infinity:
it is stored as text.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Annotated, Any

import numpy as np

from convolve.errors import ModelError, UnsupportedError, brief, unknown_name
from convolve.graph.graph import Array, Graph, Input, Node, Parameter, Value, graph_of
from convolve.graph.names import RESERVED
from convolve.graph.operations import OPERATIONS, outcome
from convolve.graph.shapes import MAX_ELEMENTS, MAX_VALUES, GraphError, Shape, bounded, require
from convolve.records import Between
from convolve.records.reading import FieldError, from_json, to_json

_NAME = re.compile(r"[A-Za-z][0-9A-Za-z_]{0,79}")  # the form of names made by `with_readable_names`
_NOT_FINITE = ("inf", "-inf", "nan")

Size = Annotated[int, Between(1, MAX_ELEMENTS)]


@dataclass(frozen=True)
class _Input:
    name: str
    shape: tuple[Size, ...]
    source: str


@dataclass(frozen=True)
class _Parameter(_Input):
    learning_rate_multiplier: float
    value: Any = None


@dataclass(frozen=True)
class _Node:
    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: dict[str, Any]
    shape: tuple[Size, ...]
    source: str
    block: str


@dataclass(frozen=True)
class _Graph:
    origin: str
    notes: tuple[str, ...]
    inputs: tuple[_Input, ...]
    parameters: tuple[_Parameter, ...]
    nodes: tuple[_Node, ...]
    outputs: tuple[str, ...]
    aliases: dict[str, tuple[str, ...]]


def graph_to_mapping(graph: Graph) -> dict[str, Any]:
    """Everything except the weights."""
    record = _Graph(
        origin=graph.origin, notes=graph.notes,
        inputs=tuple(_Input(value.name, value.shape, value.source) for value in graph.inputs),
        parameters=tuple(map(_parameter_record, graph.parameters)), nodes=tuple(map(_node_record, graph.nodes)),
        outputs=graph.outputs, aliases=dict(graph.aliases),
    )  # fmt: skip
    mapping: dict[str, Any] = to_json(record)
    return mapping


def graph_from_mapping(mapping: Any, weights_bytes: int) -> Graph:
    """The graph, with zeros for the parameters that are in the weights, a file of this many bytes.

    Raises ModelError for damage and UnsupportedError for unknown operations and attributes.
    """
    try:
        return _read(from_json(_Graph, mapping, "graph"), weights_bytes)
    except (GraphError, FieldError) as error:
        raise ModelError(str(error)) from None


def _parameter_record(value: Parameter) -> _Parameter:
    number = _number_to_json(value.constant)
    return _Parameter(value.name, value.shape, value.source, value.learning_rate_multiplier, number)


def _node_record(node: Node) -> _Node:
    kinds = OPERATIONS[node.op].attributes
    if node.attributes.keys() != kinds.keys():
        raise UnsupportedError(f"{node.op} {node.name} has attributes that a model folder cannot hold")
    return _Node(
        name=node.name, op=node.op, inputs=node.inputs, shape=node.shape, source=node.source, block=node.block,
        attributes={name: _number_to_json(node.attributes[name]) for name in kinds},
    )  # fmt: skip


def _number_to_json(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _number_from_json(value: Any, field: str) -> float:
    return float(value) if value in _NOT_FINITE else from_json(float, value, field)


def _read(record: _Graph, weights_bytes: int) -> Graph:
    count = len(record.notes) + len(record.inputs) + len(record.parameters) + len(record.nodes)
    require(count <= MAX_VALUES, f"more than {MAX_VALUES} operations and parameters")
    values: dict[str, Value] = {}
    for item in record.inputs:
        _keep(values, Input(item.name, _shape(item.shape), item.source))
    for parameter in record.parameters:
        _keep(values, _parameter(parameter))
    stored = sum(prod(value.shape) for value in values.values() if isinstance(value, Parameter))
    require(4 * stored <= weights_bytes, f"the graph has {stored:,} parameters, more than the weights")
    for node in record.nodes:
        _keep(values, _node(node, values))
    require(bool(record.outputs) and {*record.outputs} <= values.keys(), f"outputs {', '.join(record.outputs)[:200]}")
    require(all(names and {*names} <= values.keys() for names in record.aliases.values()), "an alias for no value")
    rest = {"outputs": record.outputs, "aliases": record.aliases, "notes": record.notes, "origin": record.origin}
    return graph_of(values.values(), **rest)


def _parameter(record: _Parameter) -> Parameter:
    shape = _shape(record.shape)
    if record.value is None:
        array: Array = np.broadcast_to(np.float32(0), shape)  # allocates no memory yet
    else:
        require(prod(shape) == 1, f"one value for a parameter of shape {shape}")
        array = np.full(shape, _number_from_json(record.value, f"the value of {record.name}"))
    return Parameter(record.name, array, record.learning_rate_multiplier, record.source)


def _node(record: _Node, values: Mapping[str, Value]) -> Node:
    op, name, inputs = record.op, record.name, record.inputs
    if op not in OPERATIONS:
        raise UnsupportedError(unknown_name("operation", op, OPERATIONS))
    kinds = OPERATIONS[op].attributes
    if unknown := sorted(record.attributes.keys() - kinds.keys()):
        raise UnsupportedError(f"{op}: {unknown_name('attribute', unknown[0], kinds)}")
    require(record.attributes.keys() == kinds.keys(), f"{name} lacks {', '.join(kinds.keys() - record.attributes)}")
    attributes = {key: _attribute(f"{op}.{key}", record.attributes[key], kind) for key, kind in kinds.items()}
    require({*inputs} <= values.keys(), f"node {name} uses a value that does not precede it")
    shape, batched = outcome(op, attributes, [values[operand] for operand in inputs])
    require(shape == record.shape, f"node {name} has the shape {shape}, not the stored one")
    return Node(name, op, inputs, attributes, shape=shape, batched=batched, source=record.source, block=record.block)


def _attribute(name: str, value: Any, kind: Any) -> Any:
    return _number_from_json(value, name) if kind is float else from_json(kind, value, name)


def _shape(shape: Shape) -> Shape:
    require(len(shape) <= 32, "a shape of more than 32 sizes")
    return bounded(shape)


def _keep(values: dict[str, Value], value: Value) -> None:
    """Names become code: only identifiers without another meaning may pass."""
    name = value.name
    require(bool(_NAME.fullmatch(name)) and name not in RESERVED, f"{brief(name)} is not a name for a value")
    require(name not in values, f"the name {name} occurs twice")
    values[name] = value
