"""Operations of a BrainScript network -> the neutral graph, by the same rules as CNTK's model files.

What a text leaves open, CNTK infers from how a parameter is used; sizes of 0 are inferred here.
"""

import re
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from convolve.errors import UnsupportedError, unknown_name
from convolve.graph.draft import Draft
from convolve.graph.graph import Array, Graph
from convolve.graph.infer import OpenParameters
from convolve.graph.shapes import GraphError, Shape, require
from convolve.importers.brainscript.initial import CntkSeeds, Numbers, initial_values
from convolve.importers.brainscript.loaded import STORED
from convolve.importers.brainscript.network import Operation, Setting, needed_for
from convolve.importers.cntk.call import Call
from convolve.importers.cntk.lower import RULES
from convolve.importers.cntk.model import ALL_STATIC_AXES, ELEMENTWISE, END_AXIS, Attributes, vectors_among
from convolve.importers.cntk.wire import Axis

# Names that somebody chose: of members, and of what a record names. Calls make longer paths.
_OWN_NAME = re.compile(r"\w+(\.[A-Za-z]\w+)?")


def lower(outputs: Sequence[Operation], generator: Numbers | None, origin: str) -> Graph:
    """The graph that computes `outputs`, with fresh parameters drawn from `generator`; without it, random ones are 0.

    Raises FormatError, with the place in the text, for nodes that do not fit together.
    """
    lowering = _Lowering(needed_for(outputs), generator)
    return lowering.draft.finish([lowering.keys[output] for output in outputs], origin)


def sample_shapes(outputs: Sequence[Operation]) -> dict[Operation, tuple[Shape, bool]]:
    """(shape, the fastest axis first; whether each sample has one) of all that `outputs` are computed from."""
    lowering = _Lowering(needed_for(outputs), None)
    return {node: (lowering.shape(key), lowering.draft.batched(key)) for node, key in lowering.keys.items()}


class _Lowering:
    def __init__(self, operations: Sequence[Operation], generator: Numbers | None) -> None:
        self.draft = Draft()
        self.keys: dict[Operation, str] = {}
        self._generator = generator
        if isinstance(generator, CntkSeeds):
            generator.count(operations)
        self.parameters = OpenParameters(self._parameter)
        columns = {x for x in operations if x.kind == "Parameter" and _is_column(x.settings["shape"])}
        self._columns = vectors_among(columns, ((x.kind, x.inputs) for x in operations))
        for operation in operations:
            try:
                self._lower(operation)
            except GraphError as error:
                raise operation.error(str(error)) from None
            except UnsupportedError as error:
                raise UnsupportedError(str(operation.error(f"not supported: {error}"))) from None

    def _lower(self, operation: Operation) -> None:
        if operation.kind in ("Parameter", "Constant"):
            if key := self.parameters.declare(operation, self._dims(operation)):
                self.keys[operation] = key
            return
        if operation.kind not in _RULES:
            raise operation.error(unknown_name("operation", operation.kind, _RULES))
        self.draft.block = operation.name.split(".")[0].split("[")[0]
        key = self.keys[operation] = _RULES[operation.kind](self, operation)
        own = _OWN_NAME.fullmatch(operation.name) is not None
        self.draft.call(key, operation.name if own else "", operation.name)

    # -- parameters ---------------------------------------------------------------------------------------------------

    def _dims(self, parameter: Operation) -> Shape:
        """The fastest axis first, 0 where the size is to be inferred. A column that is only added is a vector."""
        stored: Any = parameter.settings.get("stored")
        if stored and stored.shape is not None:
            return stored.shape[::-1]  # type: ignore[no-any-return]
        dims = parameter.integers("shape") if parameter.kind == "Parameter" else (1,)
        return dims[:1] if parameter in self._columns else dims

    def _parameter(self, operation: Operation, dims: Shape) -> str:
        if operation.kind == "Constant":
            multiplier, values = 0.0, np.full(dims, operation.settings["value"], np.float32)
        else:
            multiplier, values = operation.number("rate"), self._numbers(operation, dims)
        key = self.draft.parameter(values, multiplier, operation.name)
        self.draft.call(key, operation.name)
        return key

    def _numbers(self, operation: Operation, dims: Shape) -> Array:
        """Initial numbers, or those of a trained model; without a generator, they are not needed."""
        stored: Any = operation.settings.get("stored")
        trained: Array | None = stored.read(dims) if stored and self._generator else None
        if stored and trained is None and "how" not in operation.settings:
            return np.broadcast_to(np.float32(0), dims[::-1])
        return initial_values(operation, dims, self._generator) if trained is None else trained

    def shape(self, key: str) -> Shape:
        """The shape of a value as CNTK writes it, the fastest axis first."""
        return self.draft.shape(key)[::-1]

    def operand(self, operation: Operation, index: int, *infer: int) -> str:
        """The key of an operand. `infer` has the sizes that a parameter of open shape takes here, axis by axis."""
        require(index < len(operation.inputs), f"operand {index + 1} is missing")
        operand = operation.inputs[index]
        if operand not in self.keys:
            self.keys[operand] = self.parameters.close(operand, operand.name, infer)
        return self.keys[operand]

    def add(self, op: str, operands: Sequence[str], **attributes: Any) -> str:
        """A node by the rule for CNTK's own models."""
        result = RULES[op](Call(self.draft, tuple(operands), Attributes(attributes)))
        assert isinstance(result, str)  # only TopK, which BrainScript lacks, gives two values
        return result


def _is_column(shape: Setting) -> bool:
    return isinstance(shape, tuple) and shape[1:] == (1,)


def _axis(operation: Operation, name: str = "along") -> Axis:
    """BrainScript counts axes from 1; 0 stands for all of them."""
    position = operation.integer(name)
    require(position >= 0, f"axis {position} is not an axis of a sample")
    return Axis(position - 1 if position else ALL_STATIC_AXES, "")


# -- rules ------------------------------------------------------------------------------------------------------------

Rule = Callable[[_Lowering, Operation], str]


def _input(self: _Lowering, operation: Operation) -> str:
    return self.draft.input(operation.integers("shape")[::-1], operation.name)


def _stored(self: _Lowering, operation: Operation) -> str:
    """A node of a loaded model's graph."""
    node: Any = operation.settings["node"]
    operands = [self.operand(operation, index) for index in range(len(operation.inputs))]
    return self.draft.add(node.op, operands, **node.attributes)


def _plain(op: str, *order: int, settings: Callable[[Operation], dict[str, Any]] = lambda operation: {}) -> Rule:
    """CNTK's operation `op` on the operands in this order; `settings` converts the settings in the text."""

    def lower_plain(self: _Lowering, operation: Operation) -> str:
        require(len(operation.inputs) == len(order), f"it takes {len(order)} operands, but got {len(operation.inputs)}")
        return self.add(op, [self.operand(operation, index) for index in order], **settings(operation))

    return lower_plain


def _elementwise(op: str) -> Rule:
    """A parameter of open shape takes that of the other operand."""

    def lower_elementwise(self: _Lowering, operation: Operation) -> str:
        require(len(operation.inputs) == 2, f"it takes two operands, but got {len(operation.inputs)}")
        known = [self.shape(self.keys[operand]) for operand in operation.inputs if operand in self.keys]
        return self.add(op, [self.operand(operation, index, *(known[0] if known else ())) for index in (0, 1)])

    return lower_elementwise


def _times(self: _Lowering, operation: Operation) -> str:
    """W x. W has as many input axes as x, except for the last `inferInputRankToMap`, if that is given."""
    rank, map_rank = operation.integer("rank") if "rank" in operation.settings else 1, -1
    if "mapRank" in operation.settings:
        map_rank = operation.integer("mapRank")
    x = self.operand(operation, 1)
    image, weight = self.shape(x), operation.inputs[0]
    reduced = image[: len(image) - map_rank] if map_rank >= 0 else image
    if weight not in self.keys:
        dims = self._dims(weight)
        require(
            len(dims) >= rank and all(dims[:rank]), f"{weight.name} has open output sizes {dims[:rank]}; write them out"
        )
        if map_rank >= 0:
            require(
                not any(dims[rank:]),
                f"{weight.name} states the input sizes {dims[rank:]}, which inferInputRankToMap infers; leave them out",
            )
            self.keys[weight] = self.parameters.close(weight, weight.name, dims[:rank] + reduced, whole=True)
        else:
            self.operand(operation, 0, *dims[:rank], *reduced)
    return self.add("Times", [self.keys[weight], x], outputRank=rank, flattenInput=True)


def _require_planes(operation: Operation) -> None:
    if str(operation.settings["layout"]).upper() not in ("CHW", "CUDNN"):
        raise UnsupportedError("imageLayout='HWC' puts the channels last; use imageLayout='CHW'")


def _spatial(operation: Operation, name: str, count: int) -> Shape:
    """One value for each of `count` axes: the last one given is repeated, those for the channels are left out."""
    values = operation.integers(name)
    return (values + values[-1:] * count)[:count]


def _convolution(self: _Lowering, operation: Operation) -> str:
    """All channels are read at once; what the text says about the channel axis is ignored."""
    _require_planes(operation)
    require(all(operation.flags("shared")), "its weights are not shared between places (sharing=false)")
    x, kernel, adjoint = self.operand(operation, 1), operation.integers("kernel"), operation.flag("adjoint")
    image = self.shape(x)
    require(len(image) >= 2, f"it cannot convolve the shape {image}")
    count = len(image) - 1
    require(count <= len(kernel) <= len(image), f"the kernel {kernel} does not fit the shape {image}")
    maps = operation.integer("maps")
    channels = image[-1]
    if adjoint:  # the weight leads from `maps` input channels to those of its last axis but one
        weight = self.operand(operation, 0)
        require(len(self.shape(weight)) == count + 2, f"the weight cannot have the shape {self.shape(weight)}")
        channels = self.shape(weight)[count]
    else:
        weight = self.operand(operation, 0, *_weight(self, operation, (*kernel[:count], channels), maps))
        found = prod(self.shape(weight)) // (prod(kernel[:count]) * channels)
        require(maps in (0, found), f"mapDims is {maps}, but the weight has {found} maps")
    auto = operation.flags("auto")
    return self.add(
        "Convolution", [weight, x], kernelShape=(*kernel[:count], channels), transpose=adjoint,
        strides=(*_spatial(operation, "strides", count), channels),
        dilation=(*_spatial(operation, "dilations", count), 1),
        autoPadding=[*(auto + auto[-1:] * count)[:count], False],
        lowerPad=(*_spatial(operation, "lower", count), 0), upperPad=(*_spatial(operation, "upper", count), 0),
        outputShape=(*_spatial(operation, "output", count), 0),
    )  # fmt: skip


def _weight(self: _Lowering, operation: Operation, window: Shape, maps: int) -> Shape:
    """The sizes of a weight: an axis for each of the window's and one for the maps, or a matrix (maps x window)."""
    operand = operation.inputs[0]
    if operand in self.keys or len(self._dims(operand)) != 2:
        return (*window, maps)
    return (maps, prod(window))


def _pooling(self: _Lowering, operation: Operation) -> str:
    _require_planes(operation)
    kinds = {"max": 0, "average": 1}
    kind = str(operation.settings["how"]).lower()
    require(kind in kinds, unknown_name("kind of pooling", kind, kinds))
    return self.add(
        "Pooling", [self.operand(operation, 0)], poolingType=kinds[kind],
        poolingWindowShape=operation.integers("kernel"), strides=operation.integers("strides"),
        autoPadding=operation.flags("auto"), lowerPad=operation.integers("lower"),
        upperPad=operation.integers("upper"), ceilOutDim=operation.flag("ceil"),
        includePad=operation.flag("padCounts"),
    )  # fmt: skip


def _unpooling(self: _Lowering, operation: Operation) -> str:
    _require_planes(operation)
    return self.add(
        "Unpooling", [self.operand(operation, 0), self.operand(operation, 1)],
        unpoolingWindowShape=operation.integers("kernel"), strides=operation.integers("strides"),
        autoPadding=operation.flags("auto"), lowerPad=operation.integers("lower"),
        upperPad=operation.integers("upper"),
    )  # fmt: skip


def _regions(operation: Operation) -> dict[str, Any]:
    scale = operation.number("scale")
    return {"roiOutputShape": operation.integers("output"), "spatialScale": scale, "poolingType": 0}


def _batch_normalization(self: _Lowering, operation: Operation) -> str:
    _require_planes(operation)
    x, spatial = self.operand(operation, 0), operation.flag("each")
    size = self.shape(x)[-1] if spatial else prod(self.shape(x))
    statistics = [self.operand(operation, index, size, 1, 1) for index in range(1, len(operation.inputs))]
    return self.add(
        "BatchNormalization", [x, *statistics], spatial=spatial, epsilon=operation.number("added"),
        normalizationTimeConstant=operation.number("timeConstant"), blendTimeConstant=operation.number("blend"),
    )  # fmt: skip


def _statistic(value: float, name: str) -> Rule:
    """What CNTK computes from the training data before the first epoch; until then it has no effect."""

    def lower_statistic(self: _Lowering, operation: Operation) -> str:
        shape = self.draft.shape(self.operand(operation, 0))
        self.draft.notes.append(f"{name} is computed from the training data before the first epoch")
        return self.draft.parameter(np.full(shape, value, np.float32), 0.0, operation.name)

    return lower_statistic


def _reshape(operation: Operation) -> dict[str, Any]:
    begin, end = operation.integer("begin"), operation.integer("end")
    return {
        "newShape": operation.integers("shape"), "beginAxis": Axis(max(begin - 1, 0), ""),
        "endAxis": Axis(end - 1 if end else END_AXIS, ""),
    }  # fmt: skip


def _slice(operation: Operation) -> dict[str, Any]:
    return {
        "axis": _axis(operation), "beginIndex": operation.integer("begin"), "endIndex": operation.integer("end"),
    }  # fmt: skip


def _splice(self: _Lowering, operation: Operation) -> str:
    operands = [self.operand(operation, index) for index in range(len(operation.inputs))]
    return self.add("Splice", operands, axis=_axis(operation))


def _criterion(op: str) -> Rule:
    """CNTK's model files have the operands (z, labels), BrainScript has (labels, z)."""

    def lower_criterion(self: _Lowering, operation: Operation) -> str:
        if operation.integer("along"):
            raise UnsupportedError("a criterion along one axis is not supported")
        order = (1, 0, *range(2, len(operation.inputs)))
        return self.add(op, [self.operand(operation, index) for index in order])

    return lower_criterion


_OF_ONE = (
    "Abs Exp Log Sqrt Floor Negate Reciprocal Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Atanh Sigmoid Tanh ReLU ELU "
    "Pass StopGradient SumAll"
)
_OF_TWO = "LogPlus Equal NotEqual Less LessEqual Greater GreaterEqual"

# What a node's `operation` is called in the library -> its rule.
_RULES: dict[str, Rule] = {
    "Input": _input,
    STORED: _stored,
    **{name: _elementwise(name) for name in sorted(ELEMENTWISE)},
    **{name: _plain(name, 0) for name in _OF_ONE.split()},
    **{name: _plain(name, 0, 1) for name in _OF_TWO.split()},
    "If": _plain("Select", 0, 1, 2),
    "Clip": _plain("Clip", 2, 0, 1),
    "SquareError": _plain("SquaredError", 1, 0),
    "Logistic": _plain("Logistic", 1, 0),
    "PerDimMeanVarNormalization": _plain("PerDimMeanVarNormalization", 0, 1, 2),
    "PerDimMeanVarDeNormalization": _plain("PerDimMeanVarDeNormalization", 0, 1, 2),
    "Mean": _statistic(0.0, "Mean"),
    "InvStdDev": _statistic(1.0, "InvStdDev"),
    "Dropout": _plain("Dropout", 0, settings=lambda x: {"dropoutRate": 0.0}),  # the trainer sets the rate
    **{name: _plain(name, 0, settings=lambda x: {"axis": _axis(x)}) for name in ("Softmax", "LogSoftmax", "Hardmax")},
    "Times": _times,
    "TransposeTimes": _plain("TransposeTimes", 0, 1, settings=lambda x: {"outputRank": x.integer("rank")}),
    "Convolution": _convolution,
    "Pooling": _pooling,
    "MaxUnpooling": _unpooling,
    "ROIPooling": _plain("ROIPooling", 0, 1, settings=_regions),
    "BatchNormalization": _batch_normalization,
    "Reshape": _plain("Reshape", 0, settings=_reshape),
    "Transpose": _plain(
        "TransposeAxes", 0, settings=lambda x: {"axis1": _axis(x, "first"), "axis2": _axis(x, "second")}
    ),
    "Slice": _plain("Slice", 0, settings=_slice),
    "Splice": _splice,
    "Reduce": _plain(
        "ReduceElements", 0, settings=lambda x: {"axisVec": [_axis(x)], "reductionOpName": str(x.settings["how"])}
    ),
    "CrossEntropyWithSoftmax": _criterion("CrossEntropyWithSoftmax"),
    "ClassificationError": _criterion("ClassificationError"),
}
