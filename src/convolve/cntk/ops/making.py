"""How operations are made from operands: primitives and blocks."""

from collections.abc import Callable
from typing import Any

import numpy as np

from convolve.cntk.nodes import Node, resolved
from convolve.cntk.ops.functions import Function, as_block, as_variable
from convolve.cntk.variables import Placeholder, Variable


def operands_of(*values: Any) -> list[Variable]:
    """The values as variables; numbers become constants of the others' type."""
    made = [as_variable(v) if _is_symbolic(v) else v for v in values]
    known = [v.data_type for v in made if isinstance(v, Variable) and not isinstance(resolved(v), Placeholder)]
    dtype = known[0] if known else None
    return [v if isinstance(v, Variable) else as_variable(v, dtype) for v in made]


def _is_symbolic(value: Any) -> bool:
    return isinstance(value, Variable | Function) or (callable(value) and not isinstance(value, np.ndarray))


def primitive(op: str, *operands: Any, name: str = "", outputs: int = 1, **attributes: Any) -> Function:
    """A node of the operation `op`, with attributes as in v2 files."""
    return Function(Node(op, operands_of(*operands), attributes, name, output_count=outputs))


def block(
    op_name: str, definition: Callable[..., Any], *operands: Any, name: str = "", attributes: Any = None
) -> Function:
    """What `definition` computes from the operands, as one node called `op_name`."""
    given = operands_of(*operands)
    inner = [
        Placeholder(None, name=f"{op_name}_{at}", dynamic_axes=None, dtype=v.data_type) for at, v in enumerate(given)
    ]
    for placeholder, outer in zip(inner, given, strict=True):
        placeholder.stands_for = outer
    composite = Function(definition(*inner).node)
    return as_block(composite, list(zip(inner, given, strict=True)), op_name, name, attributes)
