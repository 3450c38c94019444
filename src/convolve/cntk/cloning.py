"""Copies of functions; placeholders that are replaced in place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from convolve.cntk.nodes import Block, Node, leaves_of, nodes_of
from convolve.cntk.variables import Constant, Initial, Input, Output, Parameter, Placeholder, Stored, Variable

if TYPE_CHECKING:
    from convolve.cntk.ops.functions import Function


def cloned(function: Function, method: str, substitutions: Mapping[Any, Any]) -> Function:
    """A copy of the function. `method`: parameters are shared, cloned, or frozen as constants; see `CloneMethod`."""
    from convolve.cntk.ops.functions import Function, as_variable

    made = {as_variable(key): as_variable(value) for key, value in substitutions.items()}
    copy = _Copy(method, made)
    outputs = [copy.variable(output) for output in function.outputs]
    order = [v for v in map(copy.variable, function._order) if isinstance(v, Placeholder | Input)]
    return Function(_root(function, outputs), order=order)


def _root(function: Function, outputs: list[Variable]) -> Node:
    """The node of `outputs`, which are the copies of the outputs of `function`."""
    first = outputs[0]
    if function.node.op != "Combine" and isinstance(first, Output):
        return first.node
    return Node("Combine", outputs, name=function.name)  # also where the root itself was replaced


class _Copy:
    def __init__(self, method: str, made: dict[Variable, Variable]) -> None:
        self.method, self.made = method, made

    def variable(self, wanted: Variable) -> Variable:
        for node in self._missing(wanted):
            self._node(node)
        return self._leaf(wanted)

    def _missing(self, wanted: Variable) -> list[Node]:
        """The nodes to copy, without those that only lead to what is replaced."""
        order: dict[Node, None] = {}
        stack = [wanted]
        while stack:
            variable = stack[-1]
            if variable in self.made or not isinstance(variable, Output) or variable.node in order:
                stack.pop()
                continue
            missing = [
                v for v in variable.node.inputs if isinstance(v, Output) and v not in self.made and v.node not in order
            ]
            if not missing:
                order[variable.node] = None
                stack.pop()
            stack += missing
        return list(order)

    def _leaf(self, variable: Variable) -> Variable:
        if variable not in self.made:
            self.made[variable] = self._copied(variable)
        return self.made[variable]

    def _copied(self, variable: Variable) -> Variable:
        if isinstance(variable, Input):  # a new input, as in CNTK
            fresh = Input(
                variable.shape, dtype=variable.data_type, name=variable.name, dynamic_axes=variable.dynamic_axes
            )
            fresh.needs_gradient, fresh.is_sparse = variable.needs_gradient, variable.is_sparse
            return fresh
        if isinstance(variable, Placeholder) and variable.stands_for is None:
            shape = variable.known_shape
            return Placeholder(shape, dtype=variable.data_type, name=variable.name, dynamic_axes=variable.known_axes)
        if not isinstance(variable, Stored) or self.method == "share":
            return variable
        kind = Parameter if isinstance(variable, Parameter) and self.method == "clone" else Constant
        copy: Stored = object.__new__(kind)
        Stored.__init__(copy, variable.shape, dtype=variable.data_type, name=variable.name)
        copy._initial = variable._initial if -1 in variable.shape else _held(variable)
        return copy

    def _node(self, node: Node) -> None:
        if any(output in self.made for output in node.outputs):
            return
        block = None
        if node.block:
            block = self._block(node.block)
            own = [self._leaf(v) for v in node.inputs[: len(node.inputs) - len(block.arguments)]]
            inputs = [*own, *(outer for _, outer in block.arguments)]
        else:
            inputs = [self._leaf(v) for v in node.inputs]
        if node.op == "UserFunction":
            copy = node.attributes["function"].clone(inputs).node
        else:
            copy = Node(node.op, inputs, dict(node.attributes), node.name, block, output_count=node.output_count)
        self.made |= dict(zip(node.outputs, copy.outputs, strict=True))

    def _block(self, block: Block) -> Block:
        """The inside is copied, too, since its placeholders now stand for other values."""
        from convolve.cntk.ops.functions import Function

        pairs = []
        for inner, outer in block.arguments:
            fresh = Placeholder(None, name=inner.name, dynamic_axes=None)
            self.made[inner] = fresh
            pairs.append((fresh, self._leaf(outer)))
        outputs = [self.variable(output) for output in block.root.outputs]
        return Block(block.op_name, Function(_root(block.root, outputs)), pairs)


def _held(variable: Stored) -> Initial:
    array = variable.value
    return lambda _, __: array


def replace_in_place(function: Function, substitutions: Mapping[Variable, Variable]) -> None:
    """Replace placeholders in the function's own nodes, for everything that holds these nodes."""
    for placeholder, value in substitutions.items():
        if value is not placeholder and placeholder in leaves_of([value]):
            raise NotImplementedError(
                f"{placeholder} would stand for a value that depends on it; recurrence is not supported, but "
                f"cntk.sequence has operations along sequences"
            )
    for node in nodes_of(function.outputs):
        node.inputs = [substitutions.get(variable, variable) for variable in node.inputs]
        if node.block:
            node.block.arguments = [(inner, substitutions.get(outer, outer)) for inner, outer in node.block.arguments]
    if function.node.op == "Combine":
        function.node.inputs = [substitutions.get(variable, variable) for variable in function.node.inputs]
