"""Operations that move or select elements, and reductions. Axes are in numpy's order."""

import builtins
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from convolve.cntk.axis import Axis, stored
from convolve.cntk.ops import elementwise
from convolve.cntk.ops.functions import Function, as_variable, combined
from convolve.cntk.ops.making import block, primitive
from convolve.cntk.variables import as_shape
from convolve.importers.cntk import model, wire

_END = 2**31 - 1  # the number of the axis that CNTK calls the new leading one


def reshape(x: Any, shape: Any, begin_axis: Any = None, end_axis: Any = None, name: str = "") -> Function:
    """`shape` in place of the axes from `begin_axis` up to `end_axis`."""
    # CNTK counts positions between axes from the other end.
    begin = wire.Axis(0, "") if end_axis is None else _place(end_axis)
    end = wire.Axis(model.END_AXIS, "") if begin_axis in (None, 0) else _place(begin_axis)
    return primitive("Reshape", x, name=name, newShape=as_shape(shape)[::-1], beginAxis=begin, endAxis=end)


def _place(axis: Any) -> wire.Axis:
    """A position between axes counted from the slow end -> one counted from the fast end. CNTK's new leading axis, and
    its end of the axes, is behind the last one."""
    if isinstance(axis, Axis):
        if not axis.is_static_axis:
            return wire.Axis(0, "")
        axis = axis.static_axis_index()
    if axis == 0:
        return wire.Axis(model.END_AXIS, "")
    return wire.Axis(-axis, "")


def flatten(x: Any, axis: Any = None, name: str = "") -> Function:
    """A matrix: the axes before `axis` are its rows, the others its columns. -1 stands for the end of the axes."""
    at = axis.static_axis_index() if isinstance(axis, Axis) else axis or 0
    if at == 0:
        return block("Flatten", lambda x: reshape(reshape(x, (-1,)), (1, -1)), x, name=name)
    end = at if at > 0 else at + 1 or None
    return block("Flatten", lambda x: reshape(reshape(x, (-1,), 0, end), (-1,), 1, None), x, name=name)


def expand_dims(x: Any, axis: Any, name: str = "") -> Function:
    """A new axis of size 1 behind `axis`, as CNTK has it: (2, 3) with 0 becomes (2, 1, 3). -1 is behind the last."""
    at = axis.static_axis_index(checked=False) if isinstance(axis, Axis) else axis
    place = _place(0) if at == _END else _place(at + 1) if at >= 0 else wire.Axis(-at - 1, "")
    return primitive("Reshape", x, name=name, newShape=(1,), beginAxis=place, endAxis=place)


def _operand(x: Any) -> Any:
    return x.output if isinstance(x, Function) else x


def squeeze(x: Any, axes: Any = None, name: str = "") -> Function:
    if axes is None:
        return primitive("Squeeze", x, name=name)
    listed = axes if isinstance(axes, list | tuple) else [axes]
    return primitive("Squeeze", x, name=name, axisVec=[stored(axis) for axis in listed])


def transpose(x: Any, perm: Any, name: str = "") -> Function:
    if isinstance(perm, int):
        raise TypeError("transpose expects a permutation; to swap two axes use swapaxes")
    order = [axis.static_axis_index() if isinstance(axis, Axis) else axis for axis in perm]
    rank = len(order)
    return primitive(
        "TransposeAxes", x, name=name, axisVec=[wire.Axis(rank - 1 - axis % rank, "") for axis in order[::-1]]
    )


def unpack_batch(x: Any, name: str = "") -> Function:
    """The batch axis as the first axis of a value without batch axis."""
    return primitive("UnpackBatch", x, name=name)


def to_batch(x: Any, name: str = "") -> Function:
    """The first axis as the batch axis."""
    return primitive("ToBatch", x, name=name)


def swapaxes(x: Any, axis1: Any = 0, axis2: Any = 1, name: str = "") -> Function:
    return primitive("TransposeAxes", x, name=name, axis1=stored(axis1), axis2=stored(axis2))


def slice(x: Any, axis: Any, begin_index: Any, end_index: Any, strides: Any = None, name: str = "") -> Function:
    """From `begin_index` up to `end_index`, along one axis or several; an end of 0 is the end."""
    axes = axis if isinstance(axis, list | tuple) else [axis]
    begins, ends = (
        [int(v) for v in each] if isinstance(each, list | tuple) else [int(each)] for each in (begin_index, end_index)
    )
    steps = [1] * len(axes) if strides is None else list(strides) if isinstance(strides, list | tuple) else [strides]
    return primitive(
        "Slice", x, name=name, axisVec=[stored(each) for each in axes], beginIndexVec=begins, endIndexVec=ends,
        sliceStridesVec=[int(step) for step in steps],
    )  # fmt: skip


def slices_of(x: Any, key: Any) -> Any:
    """`x[1]`, `x[0:2, 1:]`, `x[..., 1]`: an axis of which one place is taken stays, with size 1."""
    keys = key if isinstance(key, tuple) else (key,)
    skipped = 0
    for place, each in enumerate(keys):
        axis = place - skipped
        if each is Ellipsis:
            skipped = len(keys)  # the rest counts from the last axis
        elif isinstance(each, int | np.integer):
            x = slice(x, axis, int(each), int(each) + 1)
        elif isinstance(each, list | tuple):
            x = splice(*(slice(x, axis, at, at + 1) for at in each), axis=axis)
        elif not isinstance(each, builtins.slice):
            raise IndexError(f'type "{type(each)}" is not supported as index')
        elif each.start is not None or each.stop is not None:  # CNTK ignores a step without begin and end, too
            x = slice(x, axis, each.start or 0, each.stop or 0, each.step or 1)
    return x


def splice(*inputs: Any, axis: Any = -1, name: str = "") -> Function:
    """Concatenation along an axis, in numpy's order."""
    inputs = tuple(inputs[0]) if len(inputs) == 1 and isinstance(inputs[0], list | tuple) else inputs
    if len(inputs) == 1:
        return combined(inputs, name)
    if axis == Axis.new_leading_axis():
        axis = -1 - max(len(_operand(each).shape) for each in inputs)
    if isinstance(axis, Axis) and not axis.is_static_axis:
        return primitive("Splice", *inputs, name=name, axis=stored(axis))
    at = axis.static_axis_index() if isinstance(axis, Axis) else axis
    shapes = [getattr(each, "known_shape", each.shape) for each in map(_operand, inputs) if hasattr(each, "shape")]
    rank = None if at < 0 or None in shapes else max(map(len, shapes))
    return primitive("Splice", *inputs, name=name, axis=stored(at, rank))


CONSTANT_PAD, REFLECT_PAD, SYMMETRIC_PAD = 0, 1, 2


def pad(
    x: Any, pattern: Sequence[tuple[int, int]], mode: int = CONSTANT_PAD, constant_value: float = 0, name: str = ""
) -> Function:
    if any(len(ends) != 2 for ends in pattern):
        raise ValueError("padding pattern should be a integer list with shape [n, 2]")
    heads, feet = [ends[0] for ends in pattern], [ends[1] for ends in pattern]
    return primitive("Pad", x, name=name, paddingMode=mode, paddingHead=heads[::-1], paddingFoot=feet[::-1],
                     paddingConstantValue=float(constant_value))  # fmt: skip


def one_hot(x: Any, num_classes: int, sparse_output: bool = False, axis: int = -1, name: str = "") -> Function:
    index = -axis - 1 if axis < 0 else len(_operand(x).shape) - axis
    return primitive("OneHot", x, name=name, numClass=int(num_classes), onehotAxis=wire.Axis(index, ""),
                     oneHotOutputSparse=bool(sparse_output))  # fmt: skip


def top_k(x: Any, k: int, axis: int = -1, name: str = "") -> Function:
    """The `k` largest values along an axis, and where they stand. CNTK reads files of the last axis alone."""
    if axis == -1:
        return primitive("TopK", x, name=name, outputs=2, numItems=int(k), axis=stored(-1))
    found = top_k(swapaxes(x, axis, -1), k)
    return combined([swapaxes(output, axis, -1) for output in found.outputs], name)


def gather(reference: Any, indices: Any, axis: Any = None, name: str = "") -> Function:
    """The entries of `reference` at `indices`, along its first axis or `axis`."""
    if axis is None or axis == 0:
        return primitive("Gather", indices, reference, name=name)
    found = primitive("Gather", indices, swapaxes(reference, 0, axis))
    return swapaxes(found, 0, axis, name)


def eye_like(x: Any, sparse_output: bool = True, name: str = "") -> Function:
    """The identity matrix in the form of a matrix, or of a minibatch's vectors, one per row."""
    found = as_variable(x)
    axes = len(found.shape) + len(found.dynamic_axes)
    if found.known_shape is not None and (axes != 2 or found.is_sequence):
        raise ValueError(f"eye_like: a matrix, or a minibatch of vectors, is needed; {found} has {axes} axes")
    return primitive("EyeLikeOp", found, name=name, OutputSparse=bool(sparse_output))


def crop_manual(node_input: Any, node_referent: Any, offset_x: int, offset_y: int, name: str = "") -> Function:
    return primitive("Crop", node_input, node_referent, name=name, offset=[offset_x, offset_y])


def crop_automatic(node_input: Any, node_referent: Any, name: str = "") -> Function:
    """Crop so that both maps show the same part of the map that they come from."""
    return primitive("Crop", node_input, node_referent, name=name)


def crop_automatic_with_ancestors(
    node_input: Any, node_referent: Any, ancestor_input: Any, ancestor_referent: Any, name: str = ""
) -> Function:
    """Crop so that both maps show the same part of two maps that are taken to be the same."""
    return primitive("Crop", node_input, node_referent, ancestor_input, ancestor_referent, name=name)


def depth_to_space(operand: Any, block_size: int, name: str = "") -> Function:
    def made(x: Any) -> Function:
        cells = transpose(reshape(x, (block_size, block_size, -1), 0, 1), (2, 3, 0, 4, 1))
        return reshape(reshape(cells, (-1,), 3, 5), (-1,), 1, 3)

    return block("DepthToSpace", made, operand, name=name, attributes={"blockSize": block_size})


def space_to_depth(operand: Any, block_size: int, name: str = "") -> Function:
    def made(x: Any) -> Function:
        cells = reshape(reshape(x, (-1, block_size), 2, 3), (-1, block_size), 1, 2)
        return reshape(transpose(cells, (2, 4, 0, 1, 3)), (-1,), 0, 3)

    return block("SpaceToDepth", made, operand, name=name, attributes={"blockSize": block_size})


# -- reductions -------------------------------------------------------------------------------------------------------


def _reduced(how: str, x: Any, axis: Any, keepdims: bool, name: str) -> Function:
    axis = Axis.all_static_axes() if axis is None else axis
    listed = list(axis) if isinstance(axis, list | tuple) else [axis]
    batch = [each for each in listed if isinstance(each, Axis) and each.is_batch_axis]
    if batch and len(listed) > 1:
        rest = [each for each in listed if each not in batch]
        return _reduced(how, _reduced(how, x, rest, keepdims, ""), batch, keepdims, name)
    is_whole = listed[0] in (Axis.all_axes(), Axis.all_static_axes())
    if not (keepdims or batch or is_whole):  # CNTK reads no file of such a reduction
        return squeeze(_reduced(how, x, axis, keepdims=True, name=""), listed, name)
    keep = keepdims and not batch and not is_whole
    return primitive("ReduceElements", x, name=name, reductionOpName=how, axisVec=[stored(each) for each in listed],
                     reductionKeepDimensions=keep)  # fmt: skip


def _reduction(called: str, how: str) -> Callable[..., Function]:
    """The public function `name`, which reduces by one operation."""

    def made(x: Any, axis: Any = None, keepdims: bool = True, name: str = "") -> Function:
        return _reduced(how, x, axis, keepdims, name)

    made.__name__ = made.__qualname__ = called
    return made


reduce_sum = _reduction("reduce_sum", "Sum")
reduce_mean = _reduction("reduce_mean", "Mean")
reduce_max = _reduction("reduce_max", "Max")
reduce_min = _reduction("reduce_min", "Min")
reduce_prod = _reduction("reduce_prod", "Prod")
reduce_log_sum_exp = _reduction("reduce_log_sum_exp", "LogSum")
reduce_log_sum = reduce_log_sum_exp


def reduce_l1(x: Any, axis: Any = None, keepdims: bool = True, name: str = "") -> Function:
    return reduce_sum(elementwise.abs(x), axis, keepdims, name)


def reduce_l2(x: Any, axis: Any = None, keepdims: bool = True, name: str = "") -> Function:
    return elementwise.sqrt(reduce_sum_square(x, axis, keepdims), name)


def reduce_sum_square(x: Any, axis: Any = None, keepdims: bool = True, name: str = "") -> Function:
    return reduce_sum(elementwise.square(x), axis, keepdims, name)


def argmax(x: Any, axis: Any = None, name: str = "") -> Function:
    return _reduced("Argmax", x, axis, True, name)


def argmin(x: Any, axis: Any = None, name: str = "") -> Function:
    return _reduced("Argmin", x, axis, True, name)


def softmax(x: Any, axis: Any = None, name: str = "") -> Function:
    if axis is None:
        return primitive("Softmax", x, name=name)

    def made(x: Any) -> Function:
        raised = elementwise.exp(elementwise.minus(x, reduce_max(x, axis)))
        return elementwise.element_divide(raised, reduce_sum(raised, axis))

    return block("Softmax", made, x, name=name, attributes={"axis": stored(axis)})


def log_softmax(x: Any, axis: Any = None, name: str = "") -> Function:
    """Along one axis: by default the last one, where `softmax` takes all."""
    axis = -1 if axis is None else axis

    def made(x: Any) -> Function:
        centered = elementwise.minus(x, reduce_max(x, axis))
        return elementwise.minus(centered, elementwise.log(reduce_sum(elementwise.exp(centered), axis)))

    return block("LogSoftmax", made, x, name=name, attributes={"axis": stored(axis)})


def hardmax(x: Any, name: str = "") -> Function:
    return primitive("Hardmax", x, name=name)
