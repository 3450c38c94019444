"""The parts of functions: nodes, each an operation of CNTK's v2 files or a block of them.

A node's shapes follow from the rules that read CNTK's model files (`importers/cntk`): once when the node is made, if
everything is known then, else when its placeholders are replaced. Attributes are kept as in the files: axes and shapes
with the fastest dimension first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from convolve.cntk import along, late
from convolve.cntk.axis import Axis
from convolve.cntk.late import BINARY
from convolve.cntk.rules import RULES
from convolve.cntk.variables import (
    Output,
    Placeholder,
    Shape,
    Stored,
    Variable,
    axis_word,
    data_type_in_words,
    new_uid,
    shape_in_words,
)
from convolve.errors import ConvolveError
from convolve.graph.draft import Draft
from convolve.graph.shapes import GraphError
from convolve.importers.cntk.call import Call
from convolve.importers.cntk.model import ALL_AXES, Attributes
from convolve.importers.cntk.plain import Rule

if TYPE_CHECKING:
    from convolve.cntk.ops.functions import Function

# Stand-ins for sizes that may vary (-3) or are to be inferred (-1), and a second set: what differs between the two
# results depends on those sizes.
_STAND_INS, _OTHERS = {-3: 97, -1: 89}, {-3: 101, -1: 103}

_SHOWN = {"OneHot": "OneHotOp", "UnpackBatch": "UnpackBatchAxis", "ToBatch": "ToBatchAxis"}  # else as in v2 files


@dataclass(eq=False)
class Block:
    """`arguments`: the placeholders of the inner function, and what they stand for outside."""

    op_name: str
    root: Function
    arguments: list[tuple[Placeholder, Variable]]


@dataclass(eq=False)
class Node:
    op: str
    inputs: list[Variable]
    attributes: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    block: Block | None = None
    uid: str = ""
    output_count: int = 1
    streams: dict[Any, Any] = field(default_factory=dict)  # of random numbers, by who draws from them (randomness.py)

    def __post_init__(self) -> None:
        self.uid = self.uid or new_uid(_SHOWN.get(self.op, self.op))
        self.outputs = [Output(self, index) for index in range(self.output_count)]
        infer(self)

    @property
    def op_name(self) -> str:
        return self.block.op_name if self.block else _SHOWN.get(self.op, self.op)


def results_of(node: Node) -> list[Variable]:
    """The results of a node; a Combine passes on its inputs."""
    return list(node.inputs) if node.op == "Combine" else list(node.outputs)


def resolved(variable: Variable) -> Variable:
    """What a placeholder inside a block stands for outside."""
    while isinstance(variable, Placeholder) and variable.stands_for is not None:
        variable = variable.stands_for
    return variable


def nodes_of(outputs: Iterable[Variable]) -> list[Node]:
    """The nodes that the outputs need, operands first; a block counts as one. Our own stack: networks are deep."""
    order: dict[Node, None] = {}
    stack = [variable.node for variable in reversed([*outputs]) if isinstance(variable, Output)]
    while stack:
        node = stack[-1]
        if node in order:
            stack.pop()
            continue
        missing = [v.node for v in node.inputs if isinstance(v, Output) and v.node not in order]
        if not missing:
            order[stack.pop()] = None
        stack += reversed(missing)
    return list(order)


def operands_in_order(node: Node) -> list[Variable]:
    """The operands as programs write them; files have the factors of a product in reverse."""
    return node.inputs[::-1] if node.op in ("Times", "TransposeTimes") else node.inputs


def leaves_of(outputs: Iterable[Variable], as_written: bool = False) -> list[Variable]:
    """The variables that the outputs are computed from: depth first from the outputs, CNTK's order of parameters; or
    `as_written`, CNTK's order of inputs and arguments."""
    found: dict[Variable, None] = {}
    seen: set[Node] = set()
    stack: list[Iterator[Variable]] = [iter([*outputs])]
    while stack:
        variable = next(stack[-1], None)
        if variable is None:
            stack.pop()
        elif not isinstance(variable, Output):
            found[variable] = None
        elif variable.node not in seen:
            seen.add(variable.node)
            stack.append(iter(operands_in_order(variable.node) if as_written else variable.node.inputs))
    return list(found)


# -- shapes -----------------------------------------------------------------------------------------------------------


def infer(node: Node) -> None:
    """Infer the shapes, types and axes of a node's results, as far as its operands tell."""
    _require_one_type(node)
    if node.op == "Combine":
        return
    if node.block:
        _infer_block(node.block, node)
        return
    inputs = [resolved(variable) for variable in node.inputs]
    if node.op == "UserFunction":
        _infer_user_function(node, inputs)
        return
    axes = _axes_of(node, inputs)
    for output in node.outputs:
        output.data_type = _type_of(node, inputs)
        output.known_axes = axes
        output.needs_gradient = any(variable.needs_gradient for variable in inputs)
        output.is_sparse = node.op == "RandomSample" or any(
            node.attributes.get(name, False) for name in ("OutputSparse", "oneHotOutputSparse")
        )
    if any(variable.known_shape is None for variable in inputs):
        return
    late.fill_in_parameters(node, inputs)
    late.fill_in_inputs(node, inputs)
    late.require_windows_within(node, inputs)
    for output, shape in zip(node.outputs, _shapes(node, inputs), strict=True):
        output.known_shape = shape


def infer_all(outputs: Iterable[Variable]) -> None:
    for node in nodes_of(outputs):
        infer(node)


def _infer_block(block: Block, node: Node) -> None:
    for placeholder, argument in block.arguments:
        outer = resolved(argument)
        placeholder.stands_for = outer
        placeholder.known_shape, placeholder.known_axes = outer.known_shape, outer.known_axes
        placeholder.data_type, placeholder.needs_gradient = outer.data_type, outer.needs_gradient
    inner = block.root.outputs
    infer_all(inner)
    for output, made in zip(node.outputs, inner, strict=True):
        source = resolved(made)
        output.known_shape, output.known_axes = source.known_shape, source.known_axes
        output.data_type, output.needs_gradient = source.data_type, source.needs_gradient


def _infer_user_function(node: Node, inputs: Sequence[Variable]) -> None:
    needs_gradient = any(variable.needs_gradient for variable in inputs)
    if any(variable.known_shape is None for variable in inputs):
        return
    for output, told in zip(node.outputs, node.attributes["function"].infer_outputs(), strict=True):
        output.known_shape, output.known_axes, output.data_type = told.known_shape, told.known_axes, told.data_type
        output._name, output.needs_gradient = told.name, needs_gradient


def _require_one_type(node: Node) -> None:
    if node.op in ("Combine", "Block", "Cast", "Clip"):
        return
    inputs = [v for v in node.inputs if not (isinstance(resolved(v), Placeholder))]
    kinds = {variable.data_type for variable in inputs}
    if len(kinds) > 1:
        first = next(data_type_in_words(v.data_type) for v in inputs if v.data_type != inputs[0].data_type)
        raise ValueError(
            f"Primitive op '{node.op}' passed operands '{', '.join(map(str, node.inputs))}' with different DataTypes "
            f"'{data_type_in_words(inputs[0].data_type)}' and '{first}'."
        )


def _type_of(node: Node, inputs: Sequence[Variable]) -> np.dtype[Any]:
    if node.op == "Cast" or (node.op == "RandomDistribution" and not inputs):
        return np.dtype({1: "f4", 2: "f8", 4: "f2"}[node.attributes["newDataType"]])
    known = [v for v in inputs if not isinstance(v, Placeholder)]
    first = next(iter(known or inputs), None)
    return np.dtype("f4") if first is None else first.data_type


def _axes_of(node: Node, inputs: Sequence[Variable]) -> tuple[Axis, ...] | None:
    if any(variable.known_axes is None for variable in inputs):
        return None
    if node.op in along.RULES:
        return along.axes_of(node, inputs)
    if node.op == "UnpackBatch" or (node.op == "ReduceElements" and _is_over_batch(node)):
        return ()
    if node.op == "ToBatch":
        return (Axis.default_batch_axis(),)
    found = max((variable.dynamic_axes for variable in inputs), key=len, default=())
    for variable in inputs:
        axes = variable.dynamic_axes
        if axes and axes != found and (len(axes) > 1 or node.op == "Splice"):
            words = f"[{', '.join(map(axis_word, found))}]"
            raise RuntimeError(
                f"Operation '{node.op}': Operand '{variable}' has dynamic axes, that do not match the dynamic axes "
                f"'{words}' of the other operands."
            )
    return found


def _is_over_batch(node: Node) -> bool:
    axes = node.attributes.get("axisVec") or [node.attributes["axis"]]
    return any(axis.index == ALL_AXES or axis.name == "defaultBatchAxis" for axis in axes)


def _shapes(node: Node, inputs: Sequence[Variable]) -> list[Shape]:
    """Shapes by trial: the rule runs with two stand-ins for each open size, to see what depends on it."""
    known = late.known_shape(node, inputs)
    if known is not None:
        return [known] * len(node.outputs)
    shapes = late.fitted(node, [variable.shape for variable in inputs])
    first = found = _trial(node, inputs, shapes, _STAND_INS)
    for size in (
        _STAND_INS
        if node.op in ("UnpackBatch", "UnpackSequenceOp")
        else {size for shape in shapes for size in shape if size < 0}
    ):
        other = _trial(node, inputs, shapes, _STAND_INS | {size: _OTHERS[size]})
        found = [
            tuple(size if a != b else c for a, b, c in zip(x, y, z, strict=True))
            for x, y, z in zip(first, other, found, strict=True)
        ]
    return found


def _trial(
    node: Node, inputs: Sequence[Variable], shapes: Sequence[Shape], stand_ins: Mapping[int, int]
) -> list[Shape]:
    draft = Draft()
    keys = []
    for variable, open_shape in zip(inputs, shapes, strict=True):
        shape = tuple(stand_ins.get(size, size) for size in open_shape)
        if variable.has_batch_axis:
            keys.append(draft.input(shape))
        elif isinstance(variable, Stored) and not variable.is_trainable and -1 not in variable.shape:
            keys.append(draft.parameter(variable.data.detach().cpu().numpy(), 0.0))
        else:
            keys.append(draft.parameter(np.broadcast_to(np.float32(0), shape), 0.0))
    sizes = {"batchSize": stand_ins[-3], "longest": stand_ins[-3], "isAsItIs": False}
    attributes = Attributes(node.attributes | sizes)
    rule: Rule = RULES[node.op]
    if node.op in along.RULES and along.axis_of(node, inputs):
        keys.append(draft.input(()))
    try:
        result = rule(Call(draft, tuple(keys), attributes))
    except GraphError as error:
        raise _refusal(node, str(error))(_misfit(node, inputs, str(error))) from None
    except ConvolveError as error:
        raise _refusal(node, str(error))(f"{node.op}: {error}") from None
    found = (result,) if isinstance(result, str) else result
    return [draft.shape(key) for key in found]


def _refusal(node: Node, what: str) -> type[Exception]:
    """CNTK raises ValueError for sizes and axes that do not fit, but RuntimeError for operands with too few axes."""
    if node.op == "Times":
        reduced = len(resolved(node.inputs[0]).shape) - node.attributes["outputRank"]
        return RuntimeError if 0 < len(resolved(node.inputs[1]).shape) < reduced else ValueError
    is_argument = node.op in ("Convolution", "Pooling", "Unpooling", "Reshape") or what.startswith("axis ")
    return ValueError if is_argument else RuntimeError


def _misfit(node: Node, inputs: Sequence[Variable], what: str) -> str:
    if node.op in BINARY:
        left, right = node.inputs
        return (
            f"Binary elementwise operation {node.op}: Left operand '{left}' shape '{shape_in_words(inputs[0].shape)}' "
            f"is not compatible with right operand '{right}' shape '{shape_in_words(inputs[1].shape)}'."
        )
    if node.op == "Times" and 0 < len(inputs[1].shape) < (axes := len(inputs[0].shape) - node.attributes["outputRank"]):
        return (
            f"Times: The left operand '{node.inputs[1]}' rank ({len(inputs[1].shape)}) must be >= #axes ({axes}) being "
            "reduced over."
        )
    return f"{node.op}: {what}"
