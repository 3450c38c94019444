"""Inside a function: search, members by name, and how it is printed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from convolve.cntk.nodes import Node, operands_in_order, resolved
from convolve.cntk.variables import Output
from convolve.importers.cntk.model import ALL_AXES, ALL_STATIC_AXES, DYNAMIC_AXIS, END_AXIS
from convolve.importers.cntk.wire import Axis as StoredAxis

if TYPE_CHECKING:
    from convolve.cntk.ops.functions import Function


def depth_first_search(root: Any, visitor: Callable[[Any], Any], depth: int = 0, leads_out: bool = True) -> list[Any]:
    """The functions and variables for which `visitor` holds, from the outputs on; inside blocks down to `depth`, -1:
    all. CNTK's order: the inside of a block comes after the rest of the line. `leads_out`: from inside a block, the
    search goes on to the block's arguments."""
    from convolve.cntk.ops.functions import Function

    if not isinstance(root, Function):
        raise AttributeError(f"{root!r} has no attribute 'root_function'; search in a Function")
    start = root.root_function
    stack: list[tuple[Any, int]] = [(start, 0)]
    found, seen = [], set()
    while stack:
        item, level = stack.pop(0)
        if isinstance(item, Output):
            item = Function(item.node, is_composite=False)
        key = item.node if isinstance(item, Function) else item
        if key in seen:
            continue
        seen.add(key)
        if isinstance(item, Function):
            node = item.node
            if node.block and (depth == -1 or level < depth):
                stack += [(resolved(outer), level) for _, outer in node.block.arguments]
                stack.append((node.block.root.root_function, level + 1))
            else:
                operands = operands_in_order(node)
                inputs = map(resolved, operands) if leads_out else operands
                stack = [(variable, level) for variable in inputs] + stack
        if visitor(item):
            found.append(item)
    return found


def member(function: Any, name: str) -> Any:
    """The part called `name` of a function, or of the block that it is: `z.c1`, `z.c1.W`."""
    node = function.node
    inside = node.block.root if node.block else None
    for place in filter(None, (inside, function)):
        found = depth_first_search(place, lambda item: item.name == name, leads_out=place is not inside)
        found = [item for item in found if not getattr(item, "is_placeholder", False) or place is function]
        others = [item for item in found if getattr(item, "node", None) is not node]
        if others or found:
            return (others or found)[0]
    return None


def in_words(function: Function) -> str:
    """d: Dense(x: Tensor[3,4]) -> Tensor[5]"""
    node = function.node
    name = f"{node.name}: " if node.name else ""
    own = [resolved(variable) for variable in operands_in_order(node)]
    is_alone = not function.is_composite or all(
        each is mine for each, mine in zip(function.inputs, own, strict=False)
    )  # as in CNTK: the shorter list decides
    op = node.op_name if is_alone else "Composite"
    fed = [variable for variable in own if variable.kind not in ("Parameter", "Constant")]
    arguments = function.signature if function.is_composite else tuple(dict.fromkeys(fed))
    given = ", ".join(f"{v.name}: {v.type}" if v.name else v.type for v in arguments)
    outputs = function.outputs
    made = outputs[0].type if len(outputs) == 1 else f"Tuple[{', '.join(v.type for v in outputs)}]"
    return f"{name}{op}({given}) -> {made}"


_COUNTED = ("Slice", "TransposeAxes")  # whose axes CNTK counts from the fastest when it creates them


def readable_attributes(node: Node) -> dict[str, Any]:
    """The attributes in numpy's order, as CNTK shows them."""
    from convolve.cntk.saving import whole

    inputs = [resolved(variable) for variable in node.inputs]
    rank = len(inputs[0].shape) if inputs else 0
    is_known = all(variable.known_shape is not None for variable in inputs)
    own = whole(node) if node.op == "Convolution" and is_known else node.attributes
    values = {name: _readable(value, rank, node.op in _COUNTED) for name, value in own.items()}
    if "rngSeed" in values:
        values.setdefault("rngOffset", 0)
    if node.op == "Slice" and len(values["axisVec"]) == 1:
        names = {"axisVec": "axis"} | {f"{name}Vec": name for name in ("beginIndex", "endIndex", "sliceStrides")}
        return {names[name]: value[0] for name, value in values.items()}
    return values


def _readable(value: Any, rank: int, is_counted: bool) -> Any:
    if isinstance(value, StoredAxis):
        if value.index in (ALL_AXES, ALL_STATIC_AXES, DYNAMIC_AXIS):
            return value.name
        index = rank if value.index == END_AXIS else value.index
        return ("ordered", "static", index + rank if is_counted and index < 0 else index)
    if isinstance(value, tuple):
        return value[::-1]
    if isinstance(value, list):
        found = [_readable(item, rank, is_counted) for item in value]
        return found[::-1] if value and isinstance(value[0], bool) else found
    return float(value) if isinstance(value, np.floating) else value
