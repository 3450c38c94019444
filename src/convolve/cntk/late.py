"""Sizes that are known late: of parameters that are inferred from their operands, and of samples that may vary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from convolve.cntk.variables import Input, Shape, Stored, Variable
from convolve.importers.cntk.call import axis_position

if TYPE_CHECKING:
    from convolve.cntk.nodes import Node

BINARY = {"Plus", "Minus", "ElementTimes", "LogPlus", "Pow", "Equal", "NotEqual", "Less", "LessEqual", "Greater",
          "GreaterEqual"}  # fmt: skip


def fill_in_parameters(node: Node, inputs: Sequence[Variable]) -> None:
    """The open sizes of a weight become those of what it is multiplied with, in place."""
    weight = inputs[0] if inputs else None
    if not isinstance(weight, Stored) or -1 not in weight.shape:
        for variable in inputs[1:] if node.op in ("BatchNormalization", *BINARY) else ():
            if isinstance(variable, Stored) and -1 in variable.shape:
                _fill_in_statistics(node, variable, inputs[0].shape)
        return
    shape = inputs[1].shape if len(inputs) > 1 else ()
    if not shape:
        return
    if node.op == "Times":
        weight.known_shape = _times_shape(node, weight.shape, shape)
    elif node.op == "Convolution":
        maps, groups = shape[0], node.attributes.get("groups", 1)
        where = 0 if node.attributes.get("transpose") else 1
        sizes = [
            (maps // groups if at == where else size) if size == -1 else size for at, size in enumerate(weight.shape)
        ]
        weight.known_shape = tuple(sizes)
    elif node.op in BINARY:
        weight.known_shape = tuple(
            b if a == -1 else a for a, b in zip(weight.shape, shape[-len(weight.shape) :], strict=True)
        )


def _times_shape(node: Node, weight: Shape, x: Shape) -> Shape:
    """The leading axes of a weight are the axes of x that it reduces: all except the first ones, over which it maps."""
    rank, kept = node.attributes["outputRank"], node.attributes.get("inferInputRankToMap", -1)
    made = weight[len(weight) - rank :]
    reduced = weight[: len(weight) - rank]
    if len(reduced) == 1 and reduced[0] == -1 and kept >= 0:
        return (*x[kept:], *made)
    axes = x[len(x) - len(reduced) :] if len(x) >= len(reduced) else None
    if axes is None:
        raise RuntimeError(
            f"Times: The left operand '{node.inputs[1]}' rank ({len(x)}) must be >= #axes ({len(reduced)}) being "
            "reduced over."
        )
    return (*(b if a == -1 else a for a, b in zip(reduced, axes, strict=True)), *made)


def _fill_in_statistics(node: Node, variable: Stored, shape: Shape) -> None:
    if node.op == "BatchNormalization":
        whole = (shape[0],) if node.attributes["spatial"] else shape
        variable.known_shape = (
            whole if len(whole) == len(variable.shape) else (*whole, *[1] * (len(variable.shape) - 1))
        )
    else:
        tail = shape[len(shape) - len(variable.shape) :]
        variable.known_shape = tuple(b if a == -1 else a for a, b in zip(variable.shape, tail, strict=True))


def fill_in_inputs(node: Node, inputs: Sequence[Variable]) -> None:
    """An input's sizes that are to be inferred become those of the weight that it is multiplied with."""
    if node.op == "Times" and isinstance(inputs[1], Input) and -1 in inputs[1].shape:
        whole = fitted(node, [variable.shape for variable in inputs])[1]
        inputs[1].known_shape = tuple(b if a == -1 else a for a, b in zip(inputs[1].shape, whole, strict=True))


def require_windows_within(node: Node, inputs: Sequence[Variable]) -> None:
    """CNTK refuses a window larger than what it slides over, even with padding."""
    if node.op == "Convolution" and not node.attributes["transpose"] and not node.attributes.get("sequential"):
        window, sizes = inputs[0].shape[1:], inputs[1].shape
    elif node.op == "Pooling":
        window, sizes = node.attributes["poolingWindowShape"][::-1], inputs[0].shape
    else:
        return
    for kernel, size in zip(window[::-1], sizes[::-1], strict=False):
        if 0 < size < kernel:
            raise ValueError(
                f"Convolution operation requires that kernel dim {kernel} <= input dim {size}. ({node.op} of "
                f"{'x'.join(map(str, window))} over {'x'.join(map(str, sizes))})"
            )


def fitted(node: Node, shapes: Sequence[Shape]) -> list[Shape]:
    """The operands' shapes, in which an open size that meets a known one becomes that one."""
    if node.op in BINARY:
        rank = max(map(len, shapes))
        columns = list(zip(*((1,) * (rank - len(shape)) + shape for shape in shapes), strict=True))
        known = [max(sizes) for sizes in columns]
        return [
            tuple(b if a < 0 and b > 1 else a for a, b in zip(shape, known[rank - len(shape) :], strict=True))
            for shape in shapes
        ]
    if node.op != "Times":
        return list(shapes)
    weight, x = shapes
    axes = len(weight) - node.attributes["outputRank"]
    if not 0 < axes <= len(x):
        return list(shapes)
    pairs = list(zip(x[len(x) - axes :], weight[:axes], strict=True))
    x = (*x[: len(x) - axes], *(b if a < 0 else a for a, b in pairs))
    return [(*(a if b < 0 else b for a, b in pairs), *weight[axes:]), x]


def known_shape(node: Node, inputs: Sequence[Variable]) -> Shape | None:
    """The shape of a result that does not follow from its operands' sizes, or where these are open."""
    if node.op == "Crop":
        return (*inputs[0].shape[:1], *inputs[1].shape[1:])
    if not any(size < 0 for variable in inputs for size in variable.shape):
        return None
    if node.op == "Unpooling":
        return inputs[1].shape
    if node.op != "Reshape":
        return None
    old, attributes = inputs[0].shape[::-1], node.attributes
    begin, end = (axis_position(attributes[name], len(old)) for name in ("beginAxis", "endAxis"))
    replaced = old[begin:end]
    size = min(replaced, default=1)
    if size > 0:
        return None
    new = tuple(size if each in (-1, 0) else each for each in attributes["newShape"])
    return (old[:begin] + new + old[end:])[::-1]
