"""What each kind of node stores in a CNTK v1 file. There is no length field: an unknown kind ends the reading.

Attributes come out under their v2 names and in v2 conventions: axes counted from 0, pooling types 0 and 1.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from convolve.errors import UnsupportedError, legible
from convolve.graph.graph import Array
from convolve.graph.shapes import Shape
from convolve.importers.cntk.model import ALL_STATIC_AXES, DYNAMIC_AXIS, END_AXIS
from convolve.importers.cntk.v1_bytes import Cursor
from convolve.importers.cntk.wire import Axis


@dataclass(frozen=True)
class Node:
    """`shape` is set for inputs and parameters, `array` (in the file's order) for parameters and stored statistics."""

    op: str
    attributes: dict[str, Any] = field(default_factory=dict)
    shape: Shape | None = None
    array: Array | None = None
    learning_rate_multiplier: float = 1.0
    uid: str = ""
    name: str = ""
    offset: int = 0

    @property
    def is_column(self) -> bool:
        return self.array is not None and self.shape is not None and self.shape[1:] == (1,)


def read_node(cursor: Cursor, kind: str, uid: str, version: int) -> Node:
    """What the node `uid` of the given kind stores, at the cursor."""
    kind = _ALIASES.get(kind, kind)
    if kind in _READERS:
        return _READERS[kind](cursor, version)
    if kind in _WITHOUT_CONTENT.split():
        return Node(kind)
    if kind in _RENAMED or kind in _INCOMPLETE:
        return Node(_RENAMED.get(kind) or _INCOMPLETE[kind])
    place = f"{cursor.path}: byte {cursor.offset}: node {legible(uid)}"
    raise UnsupportedError(
        f"{place}: the operator {legible(kind)} is not supported, and a v1 file cannot be read past it"
    )


# -- leaves -----------------------------------------------------------------------------------------------------------


def _input(cursor: Cursor, version: int) -> Node:
    rows = cursor.u64()
    cursor.u64()
    shape = cursor.shape(legacy=True)
    if rows and int(np.prod(shape, dtype=object)) != rows:
        shape = (rows,)
    if version >= 8 and cursor.u32() == 1:
        cursor.text()  # the name of the dynamic axis
    if version >= 10:
        cursor.f32()  # a learning-rate multiplier, which an input has no use for
    return Node("InputValue", shape=shape)


def _parameter(cursor: Cursor, version: int) -> Node:
    if version >= 3:
        multiplier, shape = cursor.f32(), cursor.shape()
    else:
        multiplier, rows, columns = float(cursor.flag()), cursor.u64(), cursor.u64()
        shape = (rows, columns) if rows else (*cursor.shape(legacy=True), *((columns,) if columns > 1 else ()))
    return Node("LearnableParameter", shape=shape, array=cursor.matrix(), learning_rate_multiplier=multiplier)


def _statistic(cursor: Cursor, version: int) -> Node:
    """Mean and InvStdDev: computed over the training set before the first epoch."""
    computed = cursor.flag()
    return Node("Statistic", {"computed": computed}, array=cursor.matrix())


# -- windows ----------------------------------------------------------------------------------------------------------


def _window(cursor: Cursor, version: int) -> dict[str, Any]:
    """The fields that convolution and pooling share."""
    fields: dict[str, Any] = {"kernelShape": cursor.shape()}
    cursor.shape()  # the number of maps, which the weight says too
    fields["strides"] = cursor.shape()
    fields["sharing"], fields["autoPadding"] = cursor.flags(), cursor.flags()
    fields["lowerPad"], fields["upperPad"] = cursor.shape(), cursor.shape()
    fields["poolingType"] = cursor.i32() - 1
    fields["imageLayout"] = cursor.i32()
    cursor.u64()  # a limit on memory
    fields["transpose"] = cursor.flag() if version >= 9 else False
    fields["outputShape"] = cursor.shape() if version >= 20 else ()
    fields["ceilOutDim"] = cursor.flag() if version >= 21 else False
    fields["includePad"] = cursor.flag() if version >= 23 else False
    return fields


def _convolution(cursor: Cursor, version: int) -> Node:
    if version < 5:
        return _first_convolution(cursor)
    fields = _window(cursor, version)
    fields["wholeDepth"] = cursor.flag()
    if version >= 18:
        fields["dilation"] = cursor.shape()
    return Node("Convolution", fields)


def _first_convolution(cursor: Cursor) -> Node:
    """2-D only; the weight is a matrix of maps x (kW * kH * channels)."""
    kernel, strides = (cursor.u64(), cursor.u64()), (cursor.u64(), cursor.u64())
    cursor.u32()  # the number of maps
    layout, padding = cursor.u32(), cursor.flag()
    cursor.u64()  # a limit on memory
    fields = {
        "kernelShape": kernel,
        "strides": strides,
        "autoPadding": [padding, padding, False],
        "imageLayout": layout,
    }
    return Node("Convolution", {**fields, "wholeDepth": True})


def _pooling(op: str, window: str) -> Callable[[Cursor, int], Node]:
    def read(cursor: Cursor, version: int) -> Node:
        fields = _window(cursor, version)
        return Node(op, {**fields, window: fields["kernelShape"]})

    return read


def _first_pooling(kind: int) -> Callable[[Cursor, int], Node]:
    """The 2-D pooling nodes of old, with their order of fields."""

    def read(cursor: Cursor, version: int) -> Node:
        width, layout = cursor.u32(), cursor.u32()
        height, *strides = cursor.u64(), cursor.u64(), cursor.u64()
        fields = {"poolingWindowShape": (width, height), "strides": tuple(strides)}
        return Node("Pooling", {**fields, "imageLayout": layout, "poolingType": kind})

    return read


def _roi_pooling(cursor: Cursor, version: int) -> Node:
    fields: dict[str, Any] = {"roiOutputShape": cursor.shape()}
    if version >= 26:
        fields["poolingType"], fields["spatialScale"] = cursor.i32() - 1, cursor.f64()
    return Node("ROIPooling", fields)


# -- products, normalization, dropout ---------------------------------------------------------------------------------


def _product(op: str) -> Callable[[Cursor, int], Node]:
    def read(cursor: Cursor, version: int) -> Node:
        rank = cursor.u64() if version >= 3 else 1
        if version >= 12:
            cursor.i32()  # how the ranks were inferred; the shapes are complete
        return Node(op, {"outputRank": rank, "flattenInput": True})

    return read


def _batch_normalization(cursor: Cursor, version: int) -> Node:
    if version < 6:
        return _first_batch_normalization(cursor)
    fields: dict[str, Any] = {"spatial": cursor.flag(), "normalizationTimeConstant": cursor.f64()}
    fields["blendTimeConstant"], fields["imageLayout"] = cursor.f64(), cursor.i32()
    if version == 19:
        cursor.flag()  # whether the count, an operand since, is 0
    elif version >= 13:
        fields["runCount"] = cursor.u64()
    else:
        fields["runCount"] = 16 * cursor.u64()  # it counted minibatches; CNTK takes 16 samples each
    fields["epsilon"] = cursor.f64()
    cursor.flag()  # which engine computed it
    return Node("BatchNormalization", {**fields, "inverseDeviation": version < 13})


def _first_batch_normalization(cursor: Cursor) -> Node:
    """The node had a version number of its own."""
    written = cursor.i32()
    cursor.i32()  # the oldest reader that understands it
    cursor.flag()  # whether it was used for evaluation last
    fields: dict[str, Any] = {"spatial": cursor.flag(), "inverseDeviation": True}
    factor = cursor.f64()
    if written >= 0x10004:
        fields["normalizationTimeConstant"] = factor
    if written >= 0x10002:
        fields["imageLayout"], fields["runCount"] = cursor.i32(), 16 * cursor.u64()
    fields["epsilon"] = cursor.f64() if written >= 0x10003 else 0.0
    if written >= 0x10003:
        cursor.flag()
    return Node("BatchNormalization", fields)


def _dropout(cursor: Cursor, version: int) -> Node:
    if version == 16:
        raise UnsupportedError(
            f"{cursor.path}: byte {cursor.offset}: Dropout of version 16, whose size depends on the machine"
        )
    if version >= 17:
        cursor.u64()  # seed
        cursor.u64()  # offset
    return Node("Dropout")


# -- shapes and reductions --------------------------------------------------------------------------------------------


def _axis(number: int) -> Axis:
    """v1 counts axes from 1; 0 stands for all of them, negative ones for the batch."""
    if number <= 0:
        return Axis(ALL_STATIC_AXES if number == 0 else DYNAMIC_AXIS, "")
    return Axis(number - 1, "")


def _reshape(cursor: Cursor, version: int) -> Node:
    begin, end = cursor.i32(), cursor.i32()
    fields = {"beginAxis": Axis(max(begin - 1, 0), ""), "endAxis": Axis(end - 1 if end else END_AXIS, "")}
    return Node("Reshape", {**fields, "newShape": cursor.shape()})


def _first_reshape(cursor: Cursor, version: int) -> Node:
    cursor.u64()
    cursor.shape(legacy=True)
    return Node("LegacyReshape")  # which CNTK 2.7 refuses too


def _slice(cursor: Cursor, version: int) -> Node:
    fields: dict[str, list[Any]] = {"axisVec": [], "beginIndexVec": [], "endIndexVec": [], "sliceStridesVec": []}
    for _ in cursor.axes(cursor.i32() if version >= 22 else 1):
        begin, length = cursor.i64(), cursor.i64()
        fields["beginIndexVec"].append(begin)
        fields["endIndexVec"].append(begin + length)
        fields["axisVec"].append(_axis(cursor.i32() if version >= 3 else 1))
        fields["sliceStridesVec"].append(cursor.i32() if version >= 27 else 1)
    return Node("Slice", fields)


def _splice(cursor: Cursor, version: int) -> Node:
    return Node("Splice", {"axis": _axis(cursor.i32() if version >= 3 else 1)})


def _reduce(cursor: Cursor, version: int) -> Node:
    axes = [_axis(cursor.i32()) for _ in cursor.axes(cursor.i32() if version >= 27 else 1)]
    name = cursor.text()
    keep = cursor.flag() if version >= 24 else True
    return Node("ReduceElements", {"axisVec": axes, "reductionOpName": name, "reductionKeepDimensions": keep})


def _transpose(cursor: Cursor, version: int) -> Node:
    first, second = cursor.i32(), cursor.i32()
    if version >= 25 and first == second == 0:
        order = [Axis(cursor.u64(), "") for _ in cursor.axes(cursor.u64())]  # these are counted from 0
        return Node("TransposeAxes", {"axisVec": order})
    return Node("TransposeAxes", {"axis1": _axis(first), "axis2": _axis(second)})


def _where(cursor: Cursor, version: int) -> Node:
    if version >= 11:
        cursor.text()
    return Node("Where")


def _row_repeat(cursor: Cursor, version: int) -> Node:
    cursor.u64()
    return Node("RowRepeat")


_READERS: dict[str, Callable[[Cursor, int], Node]] = {
    "InputValue": _input, "SparseInputValue": _input, "LearnableParameter": _parameter, "Mean": _statistic,
    "InvStdDev": _statistic, "Convolution": _convolution, "Pooling": _pooling("Pooling", "poolingWindowShape"),
    "MaxUnpooling": _pooling("Unpooling", "unpoolingWindowShape"), "MaxPooling": _first_pooling(0),
    "AveragePooling": _first_pooling(1), "ROIPooling": _roi_pooling,
    "Times": _product("Times"), "TransposeTimes": _product("TransposeTimes"),
    "BatchNormalization": _batch_normalization, "Dropout": _dropout, "Reshape": _reshape,
    "LegacyReshape": _first_reshape, "Slice": _slice, "RowStack": _splice, "ReduceElements": _reduce,
    "TransposeDimensions": _transpose, "Where": _where, "RowRepeat": _row_repeat,
}  # fmt: skip

_ALIASES = {
    "ErrorPrediction": "ClassificationError", "ColumnElementTimes": "ElementTimes", "RowElementTimes": "ElementTimes",
    "Scale": "ElementTimes", "DiagTimes": "ElementTimes", "RowSlice": "Slice", "Splice": "RowStack",
    "NewReshape": "Reshape", "ReconcileMBLayout": "ReconcileDynamicAxis",
}  # fmt: skip

# Nodes that store nothing.
_WITHOUT_CONTENT = (
    "Plus Minus ElementTimes Sigmoid StableSigmoid Tanh Softmax LogSoftmax Hardmax Log Exp Sqrt Reciprocal "
    "Abs Negate Floor Clip Sin Tan Asin Acos Atan Sinh Cosh Asinh Atanh Equal NotEqual Less LessEqual Greater "
    "GreaterEqual Pass LogPlus Pow StopGradient CrossEntropyWithSoftmax CrossEntropy ClassificationError "
    "StraightThrough Logistic SumColumnElements MatrixL1Reg MatrixL2Reg CosDistance PerDimMeanVarNormalization "
    "PerDimMeanVarDeNormalization DynamicAxis ReconcileDynamicAxis OutputMultiplexer"
)

# Those that have another name in v2 files.
_RENAMED = {
    "RectifiedLinear": "ReLU", "ExponentialLinearUnit": "ELU", "Cosine": "Cos", "If": "Select",
    "SquareError": "SquaredError", "SumElements": "SumAll",
}  # fmt: skip

# Those that do have attributes, but CNTK writes none: they are refused by name when they are needed.
_INCOMPLETE = {name: f"{name} (a v1 file does not hold its attributes)" for name in ("OneHot", "Padding", "TopK")}
