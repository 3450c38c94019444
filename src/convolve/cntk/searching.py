"""What is in a function: search, members by name, and how it is printed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from convolve.cntk.late import whole_attributes
from convolve.cntk.nodes import Node, resolved
from convolve.cntk.variables import Output
from convolve.importers.cntk.wire import Axis as StoredAxis

if TYPE_CHECKING:
    from convolve.cntk.ops.functions import Function


def depth_first_search(root: Any, visitor: Callable[[Any], Any], depth: int = 0, leads_out: bool = True) -> list[Any]:
    """The functions and variables for which `visitor` holds, from the outputs on; within blocks down to `depth`, -1:
    everywhere. CNTK's order: what is inside of a block comes when the rest of the line is done. `leads_out`: from the
    inside of a block the way goes on to what the block is given."""
    from convolve.cntk.ops.functions import Function

    start = root.root_function if isinstance(root, Function) else root
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
                inputs = map(resolved, node.inputs) if leads_out else node.inputs
                stack = [(variable, level) for variable in inputs] + stack
        if visitor(item):
            found.append(item)
    return found


def member(function: Function, name: str) -> Any:
    """What is called `name` in a function, or in the block that it is: `z.c1`, `z.c1.W`."""
    node = function.node
    inside = node.block.root if node.block else None
    for place in filter(None, (inside, function)):
        found = depth_first_search(place, lambda item: item.name == name, leads_out=place is not inside)
        others = [item for item in found if getattr(item, "node", None) is not node]
        if others or found:
            return (others or found)[0]
    return None


def in_words(function: Function) -> str:
    """d: Dense(x: Tensor[3,4]) -> Tensor[5]"""
    node = function.node
    name = f"{node.name}: " if node.name else ""
    is_open = any(variable.is_placeholder for variable in function.arguments)
    op = node.op_name
    if function.is_composite and is_open and not node.block:
        op = "Composite"
    arguments = (
        function.signature
        if function.is_composite
        else [v for v in node.inputs if not v.is_parameter and not v.is_constant]
    )
    if not function.is_composite or not is_open:
        arguments = [v for v in map(resolved, node.inputs) if v.kind not in ("Parameter", "Constant")]
    given = ", ".join(f"{v.name}: {v.type}" if v.name else v.type for v in arguments)
    outputs = function.outputs
    made = outputs[0].type if len(outputs) == 1 else f"Tuple[{', '.join(v.type for v in outputs)}]"
    return f"{name}{op}({given}) -> {made}"


def readable_attributes(node: Node) -> dict[str, Any]:
    """The attributes in numpy's order."""
    values = whole_attributes(node, [resolved(variable) for variable in node.inputs])
    return {name: _readable(value) for name, value in values.items()}


def _readable(value: Any) -> Any:
    if isinstance(value, tuple):
        return value[::-1]
    if isinstance(value, list):
        return [_readable(item) for item in value][::-1]
    if isinstance(value, StoredAxis):
        return ("static axis", value.index) if value.index >= 0 else value.index
    return float(value) if isinstance(value, np.floating) else value
