"""Operations along sequences. Recurrence is not supported: a value cannot depend on its own past."""

from typing import Any

from convolve.cntk import refused
from convolve.cntk.axis import Axis
from convolve.cntk.ops.functions import Function
from convolve.cntk.ops.making import primitive
from convolve.cntk.variables import Variable


def input_variable(
    shape: Any, dtype: Any = None, needs_gradient: bool = False, is_sparse: bool = False, sequence_axis: Any = None,
    name: str = "",
) -> Variable:  # fmt: skip
    from convolve.cntk import ops

    axes = [Axis.default_batch_axis(), sequence_axis or Axis.default_dynamic_axis()]
    return ops.input_variable(shape, dtype, needs_gradient, is_sparse, dynamic_axes=axes, name=name)


input = input_variable


def is_first(seq: Any, name: str = "") -> Function:
    """1 for the first sample of each sequence, else 0."""
    return primitive("Sequence::IsFirst", seq, name=name, begin=0, end=1)


def is_last(seq: Any, name: str = "") -> Function:
    return primitive("Sequence::IsLast", seq, name=name, begin=-1, end=0)


def slice(seq: Any, begin_index: int, end_index: int, name: str = "") -> Function:
    """From `begin_index` up to `end_index` of each sequence; negative numbers count from its end, and an end of 0 is
    the end."""
    return primitive("Sequence::Slice", seq, name=name, begin=int(begin_index), end=int(end_index))


def first(seq: Any, name: str = "") -> Function:
    return slice(seq, 0, 1, name)


def last(seq: Any, name: str = "") -> Function:
    return slice(seq, -1, 0, name)


def where(condition: Any, name: str = "") -> Function:
    """The places where the condition is 1; for other numbers than 0 and 1, each place that many times."""
    return primitive("Where", condition, name=name)


def gather(seq: Any, condition: Any, new_sequence_axis_typeinfo: Any = None, name: str = "") -> Function:
    """The samples where the condition holds."""
    kind = None if new_sequence_axis_typeinfo is None else tuple(new_sequence_axis_typeinfo)
    return primitive("Sequence::Gather", seq, condition, name=name, newSequenceAxis=kind)


def scatter(seq: Any, condition: Any, new_sequence_axis_typeinfo: Any = None, name: str = "") -> Function:
    """The samples at the places where the condition holds, zeros elsewhere."""
    return primitive("Sequence::Scatter", seq, condition, name=name)


def broadcast_as(operand: Any, broadcast_as_operand: Any, name: str = "") -> Function:
    """`operand` for each sample in the sequences of `broadcast_as_operand`."""
    return primitive("ReconcileDynamicAxis", operand, broadcast_as_operand, name=name)


def reduce_sum(seq: Any, name: str = "") -> Function:
    return primitive("Sequence::ReduceElements", seq, name=name, how="sum")


def reduce_max(seq: Any, name: str = "") -> Function:
    return primitive("Sequence::ReduceElements", seq, name=name, how="max")


def softmax(seq: Any, name: str = "") -> Function:
    """Along each sequence, for each element."""
    return primitive("Sequence::Softmax", seq, name=name)


def past_value(x: Any, initial_state: Any = None, time_step: int = 1, name: str = "") -> Function:
    """The value `time_step` samples earlier, or the initial state before the sequence."""
    state = 0 if initial_state is None else initial_state
    return primitive("PastValue", x, state, name=name, offset=int(time_step))


def future_value(x: Any, initial_state: Any = None, time_step: int = 1, name: str = "") -> Function:
    state = 0 if initial_state is None else initial_state
    return primitive("FutureValue", x, state, name=name, offset=int(time_step))


def delay(x: Any, initial_state: Any = None, time_step: int = 1, name: str = "") -> Any:
    from convolve.cntk import ops

    if not time_step:
        return ops.alias(x, name) if name else x
    move = past_value if time_step > 0 else future_value
    return move(x, initial_state, abs(time_step), name)


def unpack(x: Any, padding_value: float, no_mask_output: bool = False, name: str = "") -> Function:
    """Sequences as samples with one more axis, filled up with `padding_value`; and a mask that is 1 inside them."""
    attributes = {"paddingValue": float(padding_value), "noMaskOutput": bool(no_mask_output)}
    return primitive("UnpackSequenceOp", x, name=name, outputs=1 if no_mask_output else 2, **attributes)


def to_sequence(x: Any, sequence_lengths: Any = None, sequence_axis_name_prefix: str = "", name: str = "") -> Function:
    """The first axis of each sample as a sequence; `sequence_lengths` says how long each is."""
    operands = [x] if sequence_lengths is None else [x, sequence_lengths]
    return primitive("ToSequenceOp", *operands, name=name)


def to_sequence_like(x: Any, dynamic_axes_like: Any, name: str = "") -> Function:
    """The first axis of each sample as a sequence as long as that of `dynamic_axes_like`."""
    return primitive("ToSequenceLikeOp", x, dynamic_axes_like, name=name)


def reconcile_dynamic_axes(x: Any, dynamic_axes_as: Any, name: str = "") -> Function:
    return broadcast_as(x, dynamic_axes_as, name)


__getattr__ = refused.attribute(__name__)
