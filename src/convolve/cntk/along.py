"""Operations along sequences: rules of lowering, each given the number of samples in each sequence.

The samples of all sequences lie one after the other. The lengths along an axis are known once for all its values: from
what is fed, or from the operation that makes the axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convolve.cntk.axis import Axis
from convolve.importers.cntk.call import Call
from convolve.importers.cntk.plain import Rule

if TYPE_CHECKING:
    from convolve.cntk.nodes import Node
    from convolve.cntk.variables import Variable


@dataclass(frozen=True)
class Along:
    """`rule` gets one more operand: the lengths along the axis of operand `of` (-1: none). `axis`: the axis of the
    result, None if only the batch axis remains. `lengths`: for a new axis, the rule that gives its lengths."""

    rule: Callable[[Call], Any]
    of: int = 0
    axis: Callable[[Node, Sequence[Variable], Axis], Axis | None] = lambda node, inputs, axis: axis
    lengths: Rule | None = None


def _window(call: Call) -> str:
    ends = {name: call.attributes.get(name, int) for name in ("begin", "end")}
    return call.add("sequence_window", call.operand(0), call.operands[-1], **ends)


def _slice(call: Call) -> str:
    return call.add("sequence_repeat", call.operand(0), _window(call))


def _dropped(node: Node, inputs: Sequence[Variable], axis: Axis) -> None:
    """The sequence axis is gone."""


def _slice_axis(node: Node, inputs: Sequence[Variable], axis: Axis) -> Axis | None:
    """Slices of equal extent share an axis: x[1:] and x[:-1] can be added."""
    begin, end = node.attributes["begin"], node.attributes["end"]
    is_whole, size = (begin >= 0) == (end <= 0), end - begin
    if (is_whole, size) in ((True, 0), (False, 1)):
        return axis if is_whole else None
    return Axis(f"{axis.name}_times_{int(is_whole)}_{'minus' if size < 0 else 'plus'}_{abs(size)}")


def _where_axis(node: Node, inputs: Sequence[Variable], axis: Axis) -> Axis | None:
    if node.attributes.get("newSequenceAxis") == (0, 1):
        return None
    return Axis(f"whereNodeDynamicAxis_conditionVar_{inputs[-1].uid}")


def _rows_axis(node: Node, inputs: Sequence[Variable], axis: Axis) -> Axis:
    return Axis(f"toSequence_{inputs[0].uid}")


def _sums(call: Call, counts: str) -> str:
    return call.add("sequence_reduce", counts, call.operands[-1], how="sum")


def _repetitions(call: Call) -> str:
    """How often each sample is taken; the condition is the operand before the lengths."""
    condition = call.operands[-2]
    return call.add("sequence_repetitions", call.reshaped(condition, ()), call.operands[-1])


def _gather(call: Call) -> str:
    return call.add("sequence_repeat", call.operand(0), _repetitions(call))


def _where(call: Call) -> str:
    places = call.add("sequence_index", call.reshaped(call.operand(0), ()), call.operands[-1])
    return call.add("sequence_repeat", places, _repetitions(call))


def _scatter(call: Call) -> str:
    return call.add("sequence_scatter", call.operand(0), call.reshaped(call.operand(1), ()))


def _broadcast(call: Call) -> str:
    """A value with a batch axis is repeated for each sample; one without a batch axis gets one."""
    value, like, *lengths = call.operands
    if call.attributes.get("isAsItIs", bool) or not lengths:
        return value
    if call.draft.batched(value):
        return call.add("sequence_repeat", value, *lengths)
    rank = len(call.shape())
    ones = call.add("sequence_window", like, *lengths, begin=0, end=0)
    return call.add("multiply", value, call.reshaped(ones, (1,) * rank))


def _reduce(call: Call) -> str:
    return call.add("sequence_reduce", *call.operands, how=call.attributes.get("how", str))


def _softmax(call: Call) -> str:
    x, lengths = call.operands
    highest = call.add("sequence_repeat", call.add("sequence_reduce", x, lengths, how="max"), lengths)
    exponent = call.add("exp", call.add("subtract", x, highest))
    sums = call.add("sequence_reduce", exponent, lengths, how="sum")
    return call.add("divide", exponent, call.add("sequence_repeat", sums, lengths))


def _shift(direction: int) -> Rule:
    return lambda call: call.add("sequence_shift", *call.operands, steps=direction * call.attributes.get("offset", int))


def _unpack(call: Call) -> Any:
    x, lengths = call.operands
    size = call.attributes.get("longest", int)
    value = call.add("sequence_pad", x, lengths, size=size, value=float(call.attributes.get("paddingValue", float)))
    if call.attributes.get("noMaskOutput", bool):
        return value
    ones = call.add("sequence_window", x, lengths, begin=0, end=0)
    return value, call.add("sequence_pad", ones, lengths, size=size, value=0.0)


def _to_sequence(call: Call) -> str:
    return call.add("sequence_unpad", call.operand(0), _given_lengths(call))


def _given_lengths(call: Call) -> str:
    """The operand after the value gives the lengths; without one, each row is a whole sequence."""
    if len(call.operands) < 2:
        return call.add("sequence_full", call.operand(0))
    return call.reshaped(call.operands[-1], ())


RULES: dict[str, Along] = {
    "Sequence::Slice": Along(_slice, 0, _slice_axis, lambda call: _sums(call, _window(call))),
    "Sequence::Gather": Along(_gather, 1, _where_axis, lambda call: _sums(call, _repetitions(call))),
    "Where": Along(_where, 0, _where_axis, lambda call: _sums(call, _repetitions(call))),
    "Sequence::Scatter": Along(_scatter, 1),
    "ReconcileDynamicAxis": Along(_broadcast, 1),
    "Sequence::ReduceElements": Along(_reduce, 0, _dropped),
    "Sequence::Softmax": Along(_softmax),
    "Sequence::IsFirst": Along(_window),
    "Sequence::IsLast": Along(_window),
    "PastValue": Along(_shift(1)),
    "FutureValue": Along(_shift(-1)),
    "UnpackSequenceOp": Along(_unpack, 0, _dropped),
    "ToSequenceOp": Along(_to_sequence, -1, _rows_axis, _given_lengths),
    "ToSequenceLikeOp": Along(_to_sequence, 1),
}

STORED = {"PastValue", "FutureValue"}  # files hold it in the same form


def axis_of(node: Node, inputs: Sequence[Variable]) -> Axis | None:
    """The sequence axis whose lengths the rule gets."""
    axes = inputs[RULES[node.op].of].dynamic_axes if RULES[node.op].of >= 0 else ()
    return axes[1] if len(axes) > 1 else None


def axes_of(node: Node, inputs: Sequence[Variable]) -> tuple[Axis, ...]:
    """The axes of a node's results."""
    along, axis = RULES[node.op], axis_of(node, inputs)
    if axis is None and along.of >= 0:
        if node.op == "ReconcileDynamicAxis":
            return inputs[1].dynamic_axes
        raise ValueError(
            "A sequence function can only be applied on operands with at least one dynamic axis and whose first "
            f"dynamic axis is ordered: {node.op} of '{inputs[along.of]}'"
        )
    found = along.axis(node, inputs, axis or Axis.default_dynamic_axis())
    return (Axis.default_batch_axis(), *([found] if found else []))
