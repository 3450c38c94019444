"""Functions defined by Python functions, and blocks."""

import inspect
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from convolve.cntk.nodes import Block, Node, leaves_of
from convolve.cntk.ops.functions import Function, as_function, as_variable
from convolve.cntk.variables import Placeholder, parameters_forbidden


def function_of(
    definition: Callable[..., Any], op_name: str = "", name: str = "", make_block: bool = False,
    makes_parameters: bool = True,
) -> Function:  # fmt: skip
    """The function that a Python function computes from placeholders with its arguments' names; as a block if asked.

    `makes_parameters`: whether it may create parameters, which CNTK refuses inside of @Function.
    """
    names = [
        parameter.name
        for parameter in inspect.signature(definition).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.POSITIONAL_ONLY)
    ]
    placeholders = [Placeholder(None, name=each, dynamic_axes=None) for each in names]
    with nullcontext() if makes_parameters else parameters_forbidden():
        made = definition(*placeholders)
    if made is None:
        raise TypeError(f"CNTK Function '{getattr(definition, '__name__', '')}' must return a value")
    if isinstance(made, tuple | list):
        outputs = [as_variable(each) for each in made]
        made = Function(Node("Combine", outputs))
    made = as_function(made)
    composite = Function(made.node, order=placeholders)
    if not make_block:
        _give_types(composite, definition, placeholders)
        return composite
    return as_block(
        composite,
        [(inner, Placeholder(None, name=inner.name, dynamic_axes=None)) for inner in placeholders],
        op_name,
        name,
    )


def _give_types(composite: Function, definition: Any, placeholders: Sequence[Placeholder]) -> None:
    """The arguments that a definition has types for become inputs of these types."""
    from convolve.cntk.layers.typing import VariableType

    written = getattr(definition, "__annotations__", {})
    types = [written.get(placeholder.name) for placeholder in placeholders]
    if any(isinstance(kind, VariableType) for kind in types):
        known = [kind if isinstance(kind, VariableType) else None for kind in types]
        composite.update_signature(*known)


def as_block(
    composite: Any, block_arguments_map: Sequence[tuple[Any, Any]], block_op_name: str, block_instance_name: str = "",
    attributes: dict[str, Any] | None = None,
) -> Function:  # fmt: skip
    """One node that stands for `composite`, whose placeholders are replaced as the map says."""
    pairs = [(inner, as_variable(outer)) for inner, outer in block_arguments_map]
    left = [v for v in composite.arguments if v not in [inner for inner, _ in pairs]]
    if left:
        raise ValueError(f"Block function: the arguments {', '.join(map(str, left))} are not mapped")
    own = [v for v in leaves_of(composite.outputs) if v.kind in ("Parameter", "Constant")]
    block = Block(block_op_name, Function(composite.node), pairs)
    inputs = [*own, *(outer for _, outer in pairs)]
    count = len(composite.outputs)
    node = Node("Block", inputs, attributes or {}, block_instance_name, block, output_count=count)
    return Function(node, order=[outer for _, outer in pairs if isinstance(outer, Placeholder)])


def BlockFunction(op_name: str, name: str = "") -> Callable[[Callable[..., Any]], Function]:
    """A decorator: makes the Python function a block called `op_name`."""
    return lambda definition: function_of(definition, op_name, name, make_block=True, makes_parameters=False)
