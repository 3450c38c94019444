"""Graph <-> plain JSON values, for model folders. What is read is checked as if a stranger had written it.

The numbers of the parameters are in the weights of the module that `build` makes. Only frozen ones of a single element
stand here too, since `build` may write them into the code instead.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from convolve.errors import ModelError, UnsupportedError, brief, unknown_name
from convolve.graph.graph import Array, Graph, Input, Node, Parameter, Value
from convolve.graph.names import RESERVED
from convolve.graph.operations import OPERATIONS, outcome
from convolve.graph.shapes import MAX_ELEMENTS, MAX_VALUES, GraphError, bounded, require

_NAME = re.compile(r"[A-Za-z][0-9A-Za-z_]{0,79}")  # what `with_readable_names` makes


def graph_to_mapping(graph: Graph) -> dict[str, Any]:
    """Everything but the weights."""
    return {
        "origin": graph.origin,
        "notes": list(graph.notes),
        "inputs": [{"name": value.name, "shape": list(value.shape), "source": value.source} for value in graph.inputs],
        "parameters": [_parameter_mapping(value) for value in graph.parameters],
        "nodes": [_node_mapping(value) for value in graph.nodes],
        "outputs": list(graph.outputs),
        "aliases": {alias: list(names) for alias, names in graph.aliases.items()},
    }


def graph_from_mapping(mapping: Any, weights_bytes: int) -> Graph:
    """The graph, with zeros for the parameters that are in the weights, a file of so many bytes.

    Raises ModelError for what is damaged and UnsupportedError for operations and attributes that are not known.
    """
    try:
        return _read(mapping, weights_bytes)
    except GraphError as error:
        raise ModelError(str(error)) from None


def _parameter_mapping(value: Parameter) -> dict[str, Any]:
    mapping = {
        "name": value.name, "shape": list(value.shape), "source": value.source,
        "learning_rate_multiplier": value.learning_rate_multiplier,
    }  # fmt: skip
    if value.array.size == 1 and value.learning_rate_multiplier == 0:
        mapping["value"] = _number_to_json(float(value.array.flat[0]))
    return mapping


def _node_mapping(node: Node) -> dict[str, Any]:
    kinds = OPERATIONS[node.op].attributes
    if node.attributes.keys() != kinds.keys():
        raise UnsupportedError(f"{node.op} {node.name} has attributes that a model folder does not hold")
    attributes = {name: _attribute_to_json(node.attributes[name], kind) for name, kind in kinds.items()}
    return {
        "name": node.name, "op": node.op, "inputs": list(node.inputs), "attributes": attributes,
        "shape": list(node.shape), "source": node.source, "block": node.block,
    }  # fmt: skip


def _attribute_to_json(value: Any, kind: Any) -> Any:
    if kind is tuple:
        return list(value)
    return _number_to_json(value) if kind is float else value


def _number_to_json(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)  # JSON has no infinity


def _read(mapping: Any, weights_bytes: int) -> Graph:
    _keys(mapping, "the graph", {"origin", "notes", "inputs", "parameters", "nodes", "outputs", "aliases"})
    lists = {name: _list(mapping, name) for name in ("notes", "inputs", "parameters", "nodes", "outputs")}
    require(sum(map(len, lists.values())) <= MAX_VALUES, f"more than {MAX_VALUES} operations and parameters")
    values: dict[str, Value] = {}
    for item in lists["inputs"]:
        _keys(item, "an input", {"name", "shape", "source"})
        _keep(values, Input(_new_name(item, values), bounded(_sizes(item["shape"])), _text(item["source"])))
    for item in lists["parameters"]:
        _keep(values, _parameter(item, values))
    stored = sum(prod(value.shape) for value in values.values() if isinstance(value, Parameter))
    require(4 * stored <= weights_bytes, f"the graph has {stored:,} parameters, more than the weights")
    for item in lists["nodes"]:
        _keep(values, _node(item, values))
    nodes = tuple(value for value in values.values() if isinstance(value, Node))
    outputs = tuple(map(_text, lists["outputs"]))
    require(bool(outputs) and {*outputs} <= values.keys(), f"outputs {', '.join(outputs)[:200]}")
    return Graph(
        inputs=tuple(value for value in values.values() if isinstance(value, Input)),
        parameters=tuple(value for value in values.values() if isinstance(value, Parameter)),
        nodes=nodes,
        outputs=outputs,
        aliases=_aliases(mapping["aliases"], values),
        notes=tuple(map(_text, lists["notes"])),
        origin=_text(mapping["origin"]),
    )


def _parameter(item: Any, values: Mapping[str, Value]) -> Parameter:
    wanted = {"name", "shape", "source", "learning_rate_multiplier"}
    _keys(item, "a parameter", wanted, {"value"})
    shape = bounded(_sizes(item["shape"]))
    if "value" in item:
        require(prod(shape) == 1, f"one value for a parameter of shape {shape}")
        array: Array = np.full(shape, _float(item["value"]))
    else:
        array = np.broadcast_to(np.float32(0), shape)  # no memory yet
    multiplier = _float(item["learning_rate_multiplier"])
    return Parameter(_new_name(item, values), array, multiplier, _text(item["source"]))


def _node(item: Any, values: Mapping[str, Value]) -> Node:
    _keys(item, "a node", {"name", "op", "inputs", "attributes", "shape", "source", "block"})
    op, operands = _text(item["op"]), tuple(map(_text, _list(item, "inputs")))
    if op not in OPERATIONS:
        raise UnsupportedError(unknown_name("operation", op, OPERATIONS))
    name, attributes = _new_name(item, values), _attributes(op, item["attributes"])
    require({*operands} <= values.keys(), f"node {name} reads what does not come before it")
    shape, batched = outcome(op, attributes, [values[operand] for operand in operands])
    require(shape == _sizes(item["shape"]), f"node {name} has the shape {shape}, not the one that stands there")
    source, block = _text(item["source"]), _text(item["block"])
    return Node(name, op, operands, attributes, shape=shape, batched=batched, source=source, block=block)


def _attributes(op: str, mapping: Any) -> dict[str, Any]:
    kinds = OPERATIONS[op].attributes
    _keys(mapping, f"the attributes of {op}", set(kinds))
    return {name: _attribute(f"{op}.{name}", mapping[name], kind) for name, kind in kinds.items()}


def _attribute(name: str, value: Any, kind: Any) -> Any:
    if isinstance(kind, frozenset):
        if value not in kind:
            raise UnsupportedError(f"{name}: {unknown_name('value', str(value), kind)}")
        return value
    if kind is float:
        return _float(value)
    if kind is tuple:
        require(isinstance(value, list), f"{name} must be a list, it is {brief(value)}")
        return tuple(_attribute(name, item, int) for item in value)
    require(type(value) is kind and abs(value) <= MAX_ELEMENTS, f"{name} is {brief(value)}")
    return value


# -- plain values -----------------------------------------------------------------------------------------------------


def _keys(item: Any, what: str, wanted: set[str], optional: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    require(isinstance(item, dict), f"{what} is no mapping")
    if unknown := sorted(item.keys() - wanted - optional):
        raise UnsupportedError(f"{what}: {unknown_name('key', unknown[0], wanted | optional)}")
    require(wanted <= item.keys(), f"{what} lacks {', '.join(sorted(wanted - item.keys()))}")


def _list(item: Any, name: str) -> list[Any]:
    value = item[name]
    require(isinstance(value, list), f"{name} must be a list, it is {brief(value)}")
    return list(value)


def _text(value: Any) -> str:
    require(isinstance(value, str), f"a text is expected, not {brief(value)}")
    return str(value)


def _float(value: Any) -> float:
    if isinstance(value, str) and value in ("inf", "-inf", "nan"):
        return float(value)
    require(type(value) in (int, float), f"a number is expected, not {brief(value)}")
    return float(value)


def _sizes(value: Any) -> tuple[int, ...]:
    fits = isinstance(value, list) and all(type(size) is int and 1 <= size <= MAX_ELEMENTS for size in value)
    require(fits and len(value) <= 32, "a shape must be a list of at most 32 sizes from 1")
    return tuple(value)


def _new_name(item: Any, values: Mapping[str, Value]) -> str:
    """Names become code: nothing but identifiers that mean nothing else may pass."""
    name = _text(item["name"])
    require(bool(_NAME.fullmatch(name)) and name not in RESERVED, f"{brief(name)} is no name for a value")
    require(name not in values, f"the name {name} stands twice")
    return name


def _keep(values: dict[str, Value], value: Value) -> None:
    values[value.name] = value


def _aliases(mapping: Any, values: Mapping[str, Value]) -> dict[str, tuple[str, ...]]:
    require(isinstance(mapping, dict) and len(mapping) <= 4 * MAX_VALUES, "aliases must be a mapping")
    aliases = {alias: tuple(map(_text, _list(mapping, alias))) for alias in mapping}
    require(all(names and {*names} <= values.keys() for names in aliases.values()), "an alias of nothing")
    return aliases
