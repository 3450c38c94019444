"""Functions <-> CNTK v2 files, and ONNX."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from convolve.atomic import put, replacing, staged
from convolve.cntk import along, randomness
from convolve.cntk.axis import Axis
from convolve.cntk.nodes import Block, Node, infer_all, nodes_of, resolved, results_of
from convolve.cntk.ops.functions import Function
from convolve.cntk.variables import (
    Constant,
    Input,
    Output,
    Parameter,
    Placeholder,
    Stored,
    Variable,
    keep_uids_beyond,
    new_uid,
    shape_in_words,
)
from convolve.cntk.wire_writer import DATA_TYPES, message
from convolve.errors import ConvolveError, UnsupportedError
from convolve.importers.cntk.v2 import OPERATORS, read_top, to_numpy
from convolve.importers.cntk.wire import Axis as StoredAxis
from convolve.importers.cntk.wire import Record, StoredArray
from convolve.importers.loader import read_bytes

_KINDS = {"Input": 0, "Parameter": 2, "Constant": 3, "Placeholder": 4}
_CODES = {op: number for number, op in enumerate(OPERATORS)}
_OURS = {number: dtype for dtype, number in DATA_TYPES.items()}
_WINDOWS = {"Convolution": "kernelShape", "Pooling": "poolingWindowShape", "Unpooling": "unpoolingWindowShape"}
_VERSION = 24  # of a function, as CNTK 2.7 writes it


def save(function: Function, filename: str, form: str) -> None:
    if form == "ONNX":
        _save_onnx(function, filename)
        return
    content = message(model_values(function))
    with replacing(Path(filename)) as temporary:
        temporary.write_bytes(content)


def _save_onnx(function: Function, filename: str) -> None:
    from convolve.cntk.lowering import compiled
    from convolve.export.any_graph import export_network

    run = compiled(function.outputs, {})
    inputs = {variable.name or variable.uid: variable.shape for variable in run.inputs}
    outputs = {variable.name or variable.uid: variable.shape for variable in function.outputs}
    with staged(filename) as made:
        path = made if made.suffix == ".onnx" else made.with_name(f"{made.name}.onnx")
        export_network(run.module, inputs, outputs, path)
        put(path, made)


# -- writing ----------------------------------------------------------------------------------------------------------


def model_values(function: Function, trainer: Any = None) -> dict[str, Any]:
    """What a file holds of a function; of a checkpoint, where the random numbers of the `trainer` stand."""
    nodes = all_nodes(results_of(function.node), function.node)
    leaves: dict[Variable, None] = {}
    for node in nodes:
        leaves |= dict.fromkeys(v for v in node.inputs if not isinstance(v, Output))
        if node.block:
            leaves |= dict.fromkeys(inner for inner, _ in node.block.arguments)
            leaves |= dict.fromkeys(v for _, v in node.block.arguments if not isinstance(v, Output))
    _number_anew([*leaves, *nodes])
    values: dict[str, Any] = {
        "version": 3, "type": "CompositeFunction", "root": function.node.uid, "uid": function.uid,
        "inputs": [_variable(leaf) for leaf in leaves],
        "primitive_functions": [_function(node, trainer) for node in nodes],
    }  # fmt: skip
    return values | ({"name": function.name} if function.name else {})


def _number_anew(items: list[Any]) -> None:
    """Two loaded models may have the same uids: one of the two gets others."""
    seen: set[str] = set()
    for item in items:
        if item.uid in seen:
            item.uid = new_uid(item.op if isinstance(item, Node) else item.kind)
            for at, output in enumerate(item.outputs if isinstance(item, Node) else ()):
                output.uid = f"{item.uid}_Output_{at}"
        seen.add(item.uid)


def all_nodes(outputs: list[Variable], root: Node | None = None) -> list[Node]:
    """All nodes; those inside a block come before the block."""
    found: dict[Node, None] = {}
    for node in [*nodes_of(outputs), *([root] if root and root.op == "Combine" else [])]:
        if node.block:
            inner = node.block.root
            found |= dict.fromkeys(all_nodes(results_of(inner.node), inner.node))
        found[node] = None
    return list(found)


def _variable(variable: Variable) -> dict[str, Any]:
    shape = variable.shape if variable.known_shape is not None else (-2,)
    values: dict[str, Any] = {
        "version": 1, "type": "Variable", "uid": variable.uid, "kind": _KINDS[variable.kind],
        "data_type": DATA_TYPES[variable.data_type],
        "dynamic_axis": [StoredAxis(2**31 - 1, axis.name) for axis in (variable.known_axes or ())[::-1]],
        "is_sparse": variable.is_sparse, "needs_gradient": variable.needs_gradient, "shape": shape[::-1],
    }  # fmt: skip
    if variable.name:
        values["name"] = variable.name
    if isinstance(variable, Stored):
        values["value"] = variable.data.detach().cpu().numpy()
    return values


def _function(node: Node, trainer: Any) -> dict[str, Any]:
    if node.op not in _CODES or (node.op in along.RULES and node.op not in along.STORED):
        raise NotImplementedError(
            f"model files cannot hold {node.op}; save the function without it, and apply it again after loading"
        )
    values: dict[str, Any] = {
        "version": _VERSION, "type": "PrimitiveFunction", "uid": node.uid, "op": _CODES[node.op],
        "inputs": [variable.uid for variable in node.inputs],
        "attributes": randomness.with_offset(node, whole(node), trainer),
    }  # fmt: skip
    if node.name:
        values["name"] = node.name
    if node.block:
        block = node.block
        values |= {
            "block_function_op_name": block.op_name,
            "block_function_composite": {
                "version": 3,
                "type": "CompositeFunction",
                "root": block.root.node.uid,
                "uid": block.root.uid,
            },
            "block_function_composite_arguments_map_keys": [inner.uid for inner, _ in block.arguments],
            "block_function_composite_arguments_map_values": [outer.uid for _, outer in block.arguments],
        }
    return values


def whole(node: Node) -> dict[str, Any]:
    """The attributes as CNTK writes them: windows with a number for each axis, as inferred."""
    values = dict(node.attributes)
    if node.op not in _WINDOWS:
        return values
    image = resolved(node.inputs[-1] if node.op != "Pooling" else node.inputs[0]).shape
    if node.op == "Convolution":
        weight = resolved(node.inputs[0]).shape
        values["kernelShape"] = weight[:0:-1]
    window = _WINDOWS[node.op]
    if values[window] == (-2,):
        values[window] = image[:0:-1]
    rank, size = len(image), len(values[window])
    fills: dict[str, Any] = {
        window: 1, "strides": 1, "dilation": 1, "autoPadding": False, "sharing": True, "lowerPad": 0, "upperPad": 0,
    }  # fmt: skip
    for name, fill in fills.items():
        if name in values:
            values[name] = _completed(values[name], 0 if name == window else size, rank, fill)
    return values


def _completed(values: Any, window_rank: int, rank: int, fill: Any) -> Any:
    repeated = [*values, *[values[-1]] * (window_rank - len(values))]
    whole = [*repeated, *[fill] * (rank - len(repeated))]
    return tuple(whole) if isinstance(values, tuple) else whole


# -- reading ----------------------------------------------------------------------------------------------------------


def load(model: Any, form: str = "CNTKv2") -> Function:
    """The function in a v2 file, given as a path or as bytes."""
    if form != "CNTKv2":
        raise NotImplementedError(
            f"{model}: Function.load reads CNTK v2 files; for ONNX files, use convolve.load_graph"
        )
    is_bytes = isinstance(model, bytes | bytearray)
    if is_bytes and not model:
        raise ValueError("the model buffer should not be null and its length should be greater than 0")
    if not is_bytes and not (isinstance(model, str | Path) and Path(model).is_file()):
        raise ValueError(f"Cannot load the model {model!r} that is neither a file nor a byte buffer.")
    content = bytes(model) if is_bytes else read_bytes(Path(model))
    path = "the model" if is_bytes else model
    try:
        return _read(read_top(content, path), path)
    except ConvolveError as error:
        raise RuntimeError(str(error)) from None
    except KeyError as error:
        raise RuntimeError(f"{path} is damaged: it refers to {error}, which it does not define") from None
    except (IndexError, ValueError) as error:  # shapes and attributes that do not fit together
        raise RuntimeError(f"{path} is damaged, or not a network of CNTK: {error}") from None


def restore(function: Function, filename: str) -> None:
    """Load the values of the parameters of `function` from a file."""
    try:
        stored = load(filename)
    except ValueError:
        raise RuntimeError(f"Cannot open file '{filename}' for reading.") from None
    take_values(function, stored)


def take_values(function: Function, stored: Function) -> None:
    """Take the values of `stored`, matched by the uids of parameters and constants, else by order; also the positions
    of its streams of random numbers."""
    ours, theirs = _state(function), _state(stored)
    if {v.uid for v in ours.stored} <= {v.uid for v in theirs.stored}:
        by_uid = {v.uid: v for v in theirs.stored}
        pairs = [(v, by_uid[v.uid]) for v in ours.stored]
    else:
        pairs = _in_order(ours.stored, theirs.stored)
    for variable, other in pairs:
        if other.shape != variable.shape:
            raise ValueError(f"{variable} has the shape {shape_in_words(other.shape)} in the file")
    for variable, other in pairs:
        variable.take(other.value)
    if len(ours.random) == len(theirs.random):
        for node, other_node in zip(ours.random, theirs.random, strict=True):
            node.attributes |= {name: other_node.attributes.get(name, 0) for name in ("rngSeed", "rngOffset")}
            node.streams.clear()


class _State(NamedTuple):
    stored: list[Stored]
    random: list[Node]


def _state(function: Function) -> _State:
    nodes = all_nodes(results_of(function.node), function.node)
    stored = dict.fromkeys(v for node in nodes for v in node.inputs if isinstance(v, Stored))
    return _State(list(stored), [node for node in nodes if "rngSeed" in node.attributes])


def _in_order(ours: list[Stored], theirs: list[Stored]) -> list[tuple[Stored, Stored]]:
    """Parameters, and constants with names: others are numbers in a formula, which may be written differently."""
    mine, others = (
        [v for v in each if v.is_trainable or v.name] if len(ours) != len(theirs) else each for each in (ours, theirs)
    )
    if [v.is_trainable for v in mine] != [v.is_trainable for v in others]:
        raise ValueError(
            f"the file holds {len(others)} parameters and constants, but the function has {len(mine)}: they are "
            f"different networks"
        )
    return list(zip(mine, others, strict=True))


def _read(top: Record, path: object) -> Function:
    functions = {record.get("uid", str): record for record in top.list("primitive_functions", Record)}
    variables: dict[str, Variable] = {}
    for record in top.list("inputs", Record):
        if _maker(record.get("uid", str)) not in functions:  # otherwise a value is read before the file has defined it
            variable = _leaf(record, path)
            variables[variable.uid] = variable
    keep_uids_beyond([*variables, *functions])
    nodes: dict[str, Node] = {}
    for uid in _operands_first(functions, path):
        node = _node(functions[uid], variables, nodes)
        nodes[node.uid] = node
        variables |= {output.uid: output for output in node.outputs}
    root = nodes[top.get("root", str)]
    infer_all(results_of(root))
    return Function(root)


def _maker(uid: str) -> str:
    """The function that computes a value."""
    return uid.rpartition("_Output_")[0]


def _operands_first(functions: dict[str, Record], path: object) -> list[str]:
    """CNTK writes functions depth first from the result: one that several others use may come after some of them."""
    order: dict[str, None] = {}
    opened: set[str] = set()
    stack = [*functions][::-1]
    while stack:
        uid = stack[-1]
        missing = [other for other in _needed(functions[uid]) if other in functions and other not in order]
        if uid in order or not missing:
            order[stack.pop()] = None
        elif uid in opened:
            raise UnsupportedError(f"{path}: {uid} depends on its own values; recurrence is not supported")
        else:
            opened.add(uid)
            stack += missing
    return list(order)


def _needed(record: Record) -> list[str]:
    """The functions that another one depends on."""
    values = [*record.list("inputs", str), *record.list("block_function_composite_arguments_map_values", str)]
    inside = record.get("block_function_composite", Record, Record("", 0))
    return [*map(_maker, values), inside.get("root", str, "")]


def _leaf(record: Record, path: object) -> Variable:
    kind, uid, name = record.get("kind", int), record.get("uid", str), record.get("name", str, "")
    dtype, shape = _OURS[record.get("data_type", int, 1)], record.get("shape", tuple)[::-1]
    if kind in (2, 3):
        array = to_numpy(record.get("value", StoredArray), path).astype(dtype)
        made: Variable = (
            Parameter(array.shape, np.array(array), dtype, name=name, uid=uid)
            if kind == 2 else Constant(np.array(array), array.shape, dtype, name=name, uid=uid)
        )  # fmt: skip
        return made
    axes = tuple(Axis(axis.name) for axis in record.list("dynamic_axis", StoredAxis)[::-1])
    if kind == 4:
        return Placeholder(
            None if shape == (-2,) else shape, name=name, dynamic_axes=axes or None, uid=uid, dtype=dtype
        )
    found = Input(shape, dtype=dtype, name=name, dynamic_axes=axes, uid=uid)
    found.is_sparse = record.get("is_sparse", bool, False)
    found.needs_gradient = record.get("needs_gradient", bool, False)
    return found


def _node(record: Record, variables: dict[str, Variable], nodes: dict[str, Node]) -> Node:
    number = record.get("op", int)
    op = OPERATORS[number] if 0 <= number < len(OPERATORS) else f"number {number}"
    attributes = dict(record.get("attributes", Record, Record("", 0)).values)
    inputs = [variables[uid] for uid in record.list("inputs", str)]
    block = None
    if op == "Block":
        inner = record.get("block_function_composite", Record).get("root", str)
        keys = record.list("block_function_composite_arguments_map_keys", str)
        values = record.list("block_function_composite_arguments_map_values", str)
        pairs: list[Any] = [(variables[key], variables[value]) for key, value in zip(keys, values, strict=True)]
        block = Block(record.get("block_function_op_name", str, ""), Function(nodes[inner]), pairs)
    count = len(block.root.outputs) if block else 2 if op == "TopK" else 1
    name, uid = record.get("name", str, ""), record.get("uid", str)
    return Node(op, inputs, attributes, name, block, uid=uid, output_count=count)
