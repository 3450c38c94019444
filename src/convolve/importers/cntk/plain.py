"""CNTK's elementwise operations, reductions, shape changes and criteria -> the neutral graph."""

from collections.abc import Callable
from math import prod

from convolve.errors import UnsupportedError, brief
from convolve.graph.shapes import require
from convolve.importers.cntk.call import Call, axis_position, static_axes, static_axis
from convolve.importers.cntk.model import ALL_AXES, ALL_STATIC_AXES, END_AXIS
from convolve.importers.cntk.wire import MAX_RANK, Axis

Rule = Callable[[Call], str | tuple[str, ...]]


def _plain(op: str) -> Rule:
    """The neutral operation `op` on the operands as they come."""
    return lambda call: call.add(op, *call.operands)


def _alpha(op: str) -> Rule:
    return lambda call: call.add(op, call.operand(0), alpha=call.attributes.get("alpha", float, 1.0))


def _dropout(call: Call) -> str:
    if "dropoutRate" not in call.attributes:
        call.draft.notes.append("v1 files do not hold dropout rates; they are 0 until you set them")
    rate = call.attributes.get("dropoutRate", float, 0.0)
    require(0 <= rate < 1, f"its dropout rate is {rate}")
    return call.add("dropout", call.operand(0), rate=rate)


def _along_axes(op: str) -> Rule:
    """Softmax and its relatives: along the stated axis; without one, over all elements of a sample."""

    def lower(call: Call) -> str:
        axis = call.attributes.get("axis", Axis, Axis(ALL_STATIC_AXES, ""))
        return call.add(op, call.operand(0), axes=static_axes([axis], len(call.shape())))

    return lower


_REDUCTIONS = {
    "Sum": "reduce_sum", "Mean": "reduce_mean", "Max": "reduce_max", "Min": "reduce_min",
    "LogSum": "reduce_log_sum_exp", "Prod": "reduce_product", "Argmax": "argmax", "Argmin": "argmin",
}  # fmt: skip


_OVER_BATCH = {"Sum": "sum", "Mean": "mean", "Max": "amax", "Min": "amin", "LogSum": "logsumexp", "Prod": "prod"}


def _reduce(call: Call) -> str:
    name = call.attributes.get("reductionOpName", str)
    if name not in _REDUCTIONS:
        raise UnsupportedError(f"unknown reduction {brief(name)}; known are {', '.join(_REDUCTIONS)}")
    axes = call.attributes.items("axisVec", Axis, []) or [call.attributes.get("axis", Axis)]
    if [axis.index for axis in axes] == [ALL_AXES]:
        if name == "Sum":
            return call.add("sum_all", call.operand(0))  # over the batch too: a trainer's aggregate loss
        whole = call.add(_REDUCTIONS[name], call.operand(0), axes=tuple(range(len(call.shape()))), keep_dims=False)
        return call.add("over_batch", whole, how=_OVER_BATCH[name]) if call.draft.batched(whole) else whole
    if [axis.name for axis in axes] == ["defaultBatchAxis"]:
        return call.add("over_batch", call.operand(0), how=_OVER_BATCH[name])
    keep_dims = call.attributes.get("reductionKeepDimensions", bool, True)
    return call.add(_REDUCTIONS[name], call.operand(0), axes=static_axes(axes, len(call.shape())), keep_dims=keep_dims)


def _reshape(call: Call) -> str:
    """`newShape` replaces the axes from `beginAxis` up to `endAxis`; a size of -1 (in v1: 0) is inferred."""
    old, new = call.shape()[::-1], call.attributes.get("newShape", tuple)
    begin = axis_position(call.attributes.get("beginAxis", Axis, Axis(0, "")), len(old))
    end = axis_position(call.attributes.get("endAxis", Axis, Axis(END_AXIS, "")), len(old))
    require(begin <= end, f"axes {begin} to {end} of a value with {len(old)} axes")
    unknown = [index for index, size in enumerate(new) if size in (-1, 0)]
    require(len(unknown) <= 1, f"more than one size to infer in {new}")
    if unknown:
        known = prod(size for size in new if size not in (-1, 0))
        require(known > 0 and prod(old[begin:end]) % known == 0, f"axes {old[begin:end]} do not fill {new}")
        new = (*new[: unknown[0]], prod(old[begin:end]) // known, *new[unknown[0] + 1 :])
    return call.reshaped(call.operand(0), (old[:begin] + new + old[end:])[::-1])


def _squeeze(call: Call) -> str:
    shape = call.shape()
    axes = call.attributes.items("axisVec", Axis, [])
    dropped = static_axes(axes, len(shape)) if axes else [axis for axis, size in enumerate(shape) if size == 1]
    require(all(shape[axis] == 1 for axis in dropped), f"axes {dropped} of shape {shape} are not all of size 1")
    return call.reshaped(call.operand(0), tuple(size for axis, size in enumerate(shape) if axis not in dropped))


def _transpose(call: Call) -> str:
    rank = len(call.shape())
    if "axisVec" in call.attributes:
        axes = static_axes(call.attributes.items("axisVec", Axis), rank)
        order = axes[::-1]  # the list says where each CNTK axis comes from, the fastest first
    else:
        first = static_axis(call.attributes.get("axis1", Axis), rank)
        second = static_axis(call.attributes.get("axis2", Axis), rank)
        swapped = {first: second, second: first}
        order = tuple(swapped.get(axis, axis) for axis in range(rank))
    return call.add("transpose", call.operand(0), order=order)


def _slice(call: Call) -> str:
    """One axis after the other. An end of 0 means up to the end; negative numbers count from the end."""
    x = call.attributes
    if "axisVec" in x:
        axes, begins, ends = x.items("axisVec", Axis), x.items("beginIndexVec", int), x.items("endIndexVec", int)
        steps = x.items("sliceStridesVec", int, [1] * len(axes))
    else:
        axes, begins, ends = [x.get("axis", Axis)], [x.get("beginIndex", int)], [x.get("endIndex", int)]
        steps = [x.get("sliceStrides", int, 1)]
    require(
        len(axes) == len(begins) == len(ends) == len(steps),
        f"{len(axes)} axes with other numbers of begins, ends or strides",
    )
    value = call.operand(0)
    for cntk_axis, begin, end, step in zip(axes, begins, ends, steps, strict=True):
        axis = static_axis(cntk_axis, len(call.shape()))
        size = call.shape()[axis]
        first, last = begin + size * (begin < 0), end + size * (end <= 0)
        if step < 0:  # the same cells, the last one first
            require(0 <= first < last <= size, f"a slice of {first} to {last} of {size} cells")
            cells = tuple(range(first, last))[::step]
            value = call.add("gather", value, axis=axis, indices=cells)
        else:
            value = call.add("slice", value, axis=axis, begin=first, end=last, step=step)
    return value


def _splice(call: Call) -> str:
    """Concatenation along an axis, which may be one behind the slowest: three scalars along axis 2 make (3, 1, 1).

    Sizes of 1 along the other axes are repeated.
    """
    axis = call.attributes.get("axis", Axis, Axis(0, ""))
    shapes = [call.draft.shape(value) for value in call.operands]
    rank = max([min(axis.index, MAX_RANK) + 1, *map(len, shapes)])
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    values = [call.reshaped(value, shape) for value, shape in zip(call.operands, padded, strict=True)]
    along = static_axis(axis, rank)
    common = [max(shape[at] for shape in padded) for at in range(rank)]
    for index, shape in enumerate(padded):
        whole = tuple(size if at == along or size != 1 else common[at] for at, size in enumerate(shape))
        if whole != shape:
            values[index] = call.add("expand", values[index], shape=whole)
    return call.add("concatenate", *values, axis=along)


_PADDING_MODES = {0: "constant", 1: "reflect", 2: "symmetric"}


def _pad(call: Call) -> str:
    mode = call.attributes.get("paddingMode", int, 0)
    require(mode in _PADDING_MODES, f"padding mode {mode}")
    lower, upper = call.attributes.items("paddingHead", int), call.attributes.items("paddingFoot", int)
    value = call.attributes.get("paddingConstantValue", float, 0.0)
    ends = {"lower": tuple(lower[::-1]), "upper": tuple(upper[::-1])}
    return call.add("pad", call.operand(0), mode=_PADDING_MODES[mode], value=value, **ends)


def _one_hot(call: Call) -> str:
    axis = static_axis(call.attributes.get("onehotAxis", Axis, Axis(0, "")), len(call.shape()) + 1)
    return call.add("one_hot", call.operand(0), axis=axis, classes=call.attributes.get("numClass", int))


def _top_k(call: Call) -> tuple[str, str]:
    axis = static_axis(call.attributes.get("axis", Axis, Axis(0, "")), len(call.shape()))
    k = call.attributes.get("numItems", int, 1)
    values = call.add("top_k_values", call.operand(0), axis=axis, k=k)
    return values, call.add("top_k_indices", call.operand(0), axis=axis, k=k)


def _cast(call: Call) -> str:
    """Between Float, Double and Float16, nothing is done: the module computes in one precision."""
    kind = call.attributes.get("newDataType", int, 1)
    if kind not in (1, 2, 4):
        raise UnsupportedError(f"a cast to data type {kind}; only Float, Double and Float16 are read")
    return call.operand(0)


def _constant_like(call: Call) -> str:
    """One number for each element of the operand, for each sample."""
    zeros = call.add("less", call.operand(0), call.operand(0))
    number = call.attributes.get("fillValue", float, 0.0)
    return call.add("add", zeros, call.constant(number)) if number else zeros


def _classification_error(call: Call) -> str:
    top = 1
    if len(call.operands) == 3:
        number = call.draft.array(call.operand(2))
        require(
            number is not None and number.size == 1 and float(number.flat[0]) >= 1,
            "top N must be a constant of 1 or more",
        )
        top = 0 if number is None else int(number.flat[0])
    return call.add("classification_error", call.operand(0), call.operand(1), top=top)


def _statistic(call: Call) -> str:
    """v1's Mean and InvStdDev: numbers that were computed before the training, in the shape of the operand."""
    values, shape = call.attributes.values["values"], call.shape()
    require(values.size == prod(shape), f"{values.size} numbers for the shape {shape}")
    return call.constant(values.reshape(shape))


def _normalize(call: Call) -> str:
    """(x - mean) * inverse standard deviation."""
    return call.add("multiply", call.add("subtract", call.operand(0), call.operand(1)), call.operand(2))


def _denormalize(call: Call) -> str:
    """x / inverse standard deviation + mean."""
    return call.add(
        "add", call.add("multiply", call.operand(0), call.add("reciprocal", call.operand(2))), call.operand(1)
    )


def _cosine(call: Call) -> str:
    """x . y / (|x| |y|) of each sample."""

    def product(left: str, right: str) -> str:
        axes = tuple(range(len(call.draft.shape(left))))
        return call.add("reduce_sum", call.add("multiply", left, right), axes=axes, keep_dims=False)

    x, y = call.operands
    found = product(x, y)
    for each in (x, y):  # one after the other: where one is 0, the other's gradient is 0 too
        length = call.add("sqrt", product(each, each))
        found = call.add("multiply", found, call.add("reciprocal", length))
    return found


_ELEMENTWISE = {
    "Negate": "negate", "Sigmoid": "sigmoid", "StableSigmoid": "sigmoid", "Tanh": "tanh", "ReLU": "relu",
    "Exp": "exp", "Log": "log", "Sqrt": "sqrt", "Floor": "floor", "Abs": "abs", "Reciprocal": "reciprocal",
    "Sin": "sin", "Cos": "cos", "Tan": "tan", "Asin": "asin", "Acos": "acos", "Atan": "atan", "Sinh": "sinh",
    "Cosh": "cosh", "Asinh": "asinh", "Atanh": "atanh", "StopGradient": "stop_gradient", "Plus": "add",
    "Minus": "subtract", "ElementTimes": "multiply", "Pow": "power", "LogPlus": "log_add_exp", "Equal": "equal",
    "NotEqual": "not_equal", "Less": "less", "LessEqual": "less_equal", "Greater": "greater",
    "GreaterEqual": "greater_equal", "Clip": "clip", "Select": "select", "SumAll": "sum_all",
    "CrossEntropyWithSoftmax": "cross_entropy_with_softmax", "SquaredError": "squared_error", "Logistic": "logistic",
}  # fmt: skip

PLAIN_RULES: dict[str, Rule] = {
    **{name: _plain(op) for name, op in _ELEMENTWISE.items()},
    **dict.fromkeys(("NoOp", "Pass", "ReconcileDynamicAxis"), Call.operand),
    "Cast": _cast,
    "ELU": _alpha("elu"),
    "LeakyReLU": _alpha("leaky_relu"),
    "Dropout": _dropout,
    "Statistic": _statistic,
    "PerDimMeanVarNormalization": _normalize,
    "PerDimMeanVarDeNormalization": _denormalize,
    "Softmax": _along_axes("softmax"),
    "LogSoftmax": _along_axes("log_softmax"),
    "Hardmax": _along_axes("hardmax"),
    "ReduceElements": _reduce,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "TransposeAxes": _transpose,
    "Slice": _slice,
    "Splice": _splice,
    "Pad": _pad,
    "ConstantOp": _constant_like,
    "StraightThrough": _plain("straight_through"),
    "OneHot": _one_hot,
    "TopK": _top_k,
    "CosDistance": _cosine,
    "ClassificationError": _classification_error,
}
