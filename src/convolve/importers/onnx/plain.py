"""ONNX's elementwise operators, reductions and choices along an axis -> the neutral graph.

Source: https://onnx.ai/onnx/operators. Where opsets differ, a rule reads the form of each.
"""

from collections.abc import Callable
from math import inf

import numpy as np

from convolve.errors import UnsupportedError
from convolve.graph.shapes import axis_of, require
from convolve.importers.onnx.call import Call, Tensor, Value
from convolve.importers.onnx.model import Constant

Rule = Callable[[Call], Value | tuple[Value, ...]]


# -- elementwise ------------------------------------------------------------------------------------------------------


def _unary(*ops: str) -> Rule:
    """A chain of operations of one operand, in this order."""

    def lower(call: Call) -> Tensor:
        x = call.tensor()
        key = x.key
        for op in ops:
            key = call.add(op, key)
        return call.like(x, key)

    return lower


def _alpha(op: str, default: float) -> Rule:
    return lambda call: call.like(x := call.tensor(), call.add(op, x.key, alpha=call.get("alpha", float, default)))


def _broadcasting(op: str, learned: bool = False) -> Callable[[Call], Tensor]:
    """An operation that broadcasts; more than two operands are combined from left to right. What is combined with a
    layer's result was `learned`; a constant that comes before the first layer is preprocessing."""

    def lower(call: Call) -> Tensor:
        if call.opset < 7:
            raise UnsupportedError(
                "opsets before 7 broadcast differently; convert the model with onnx.version_converter"
            )
        keys, where = call.aligned([call.tensor(index, learned) for index in range(len(call.operands))])
        result = keys[0]
        for key in keys[1:]:
            result = call.add(op, result, key)
        return call.like(where, result)

    return lower


def _divide(call: Call) -> Tensor:
    """The quotient of integers is an integer, rounded towards zero."""
    result = _broadcasting("divide")(call)
    return call.like(result, call.add("trunc", result.key)) if call.whole else result


def _mean(call: Call) -> Tensor:
    total = _broadcasting("add")(call)
    return call.like(total, call.add("multiply", total.key, call.number_key(1 / len(call.operands))))


def _select(call: Call) -> Tensor:
    keys, where = call.aligned([call.tensor(index) for index in range(3)])
    return call.like(where, call.add("select", *keys))


def _clip(call: Call) -> Tensor:
    x = call.tensor()
    low, high = call.number("min", 1, -inf), call.number("max", 2, inf)
    return call.like(x, call.add("clamp", x.key, low=low, high=high))


def _hard_sigmoid(call: Call) -> Tensor:
    x = call.tensor()
    return call.like(x, _hard(call, x.key, call.get("alpha", float, 0.2), call.get("beta", float, 0.5)))


def _hard(call: Call, key: str, alpha: float, beta: float) -> str:
    scaled = call.add("multiply", key, call.number_key(alpha))
    return call.add("clamp", call.add("add", scaled, call.number_key(beta)), low=0.0, high=1.0)


def _hard_swish(call: Call) -> Tensor:
    x = call.tensor()
    return call.like(x, call.add("multiply", x.key, _hard(call, x.key, 1 / 6, 0.5)))


def _softplus(call: Call, key: str) -> str:
    return call.add("log_add_exp", key, call.number_key(0.0))


def _mish(call: Call) -> Tensor:
    x = call.tensor()
    return call.like(x, call.add("multiply", x.key, call.add("tanh", _softplus(call, x.key))))


def _softsign(call: Call) -> Tensor:
    x = call.tensor()
    return call.like(x, call.add("divide", x.key, call.add("add", call.add("abs", x.key), call.number_key(1.0))))


def _swish(call: Call) -> Tensor:
    x = call.tensor()
    inner = call.add("multiply", x.key, call.number_key(call.get("alpha", float, 1.0)))
    return call.like(x, call.add("multiply", x.key, call.add("sigmoid", inner)))


def _selu(call: Call) -> Tensor:
    x = call.tensor()
    alpha = call.get("alpha", float, 1.67326319217681884765625)
    gamma = call.get("gamma", float, 1.05070102214813232421875)
    return call.like(x, call.add("multiply", call.add("elu", x.key, alpha=alpha), call.number_key(gamma)))


def _celu(call: Call) -> Tensor:
    """max(0, x) + min(0, alpha * (exp(x / alpha) - 1))"""
    x, alpha = call.tensor(), call.get("alpha", float, 1.0)
    inner = call.add("elu", call.add("multiply", x.key, call.number_key(1 / alpha)), alpha=1.0)
    return call.like(x, call.add("multiply", inner, call.number_key(alpha)))


def _thresholded_relu(call: Call) -> Tensor:
    x = call.tensor()
    passes = call.add("greater", x.key, call.number_key(call.get("alpha", float, 1.0)))
    return call.like(x, call.add("multiply", x.key, passes))


def _gelu(call: Call) -> Tensor:
    x = call.tensor()
    return call.like(x, call.add("gelu", x.key, approximate=call.get("approximate", str, "none")))


def _not(call: Call) -> Tensor:
    x = call.tensor()
    return call.like(x, call.add("equal", x.key, call.number_key(0.0)))


def _prelu(call: Call) -> Tensor:
    """The slope is one number, one per channel, or anything that broadcasts."""
    x, slopes = call.tensor(), call.constant(1)
    shape = call.draft.shape(x.key)
    by_channel = slopes.size == shape[0] and len(slopes.squeeze().shape) <= 1 and _channel_axis(call, x) == 1
    if x.axis == 0 and not x.parts and (slopes.size == 1 or by_channel):
        return call.like(x, call.add("prelu", x.key, call.weights(1, (slopes.size,))))
    keys, where = call.aligned([x, call.tensor(1, learned=True)])
    positive, negative = call.add("relu", keys[0]), call.add("minimum", keys[0], call.number_key(0.0))
    return call.like(where, call.add("add", positive, call.add("multiply", negative, keys[1])))


def _channel_axis(call: Call, x: Tensor) -> int:
    """The file's axis that matches the longest axis of the second operand."""
    slopes, rank = call.constant(1).shape, len(call.dims(x))
    longest = max(range(len(slopes)), key=lambda axis: slopes[axis], default=0)
    return rank - len(slopes) + longest


WHOLE_TYPES = (2, 3, 4, 5, 6, 7, 12, 13)


def _cast(call: Call) -> Tensor:
    """Between float types, nothing; to integers, rounding towards zero; to booleans, x != 0."""
    x, kind = call.tensor(), call.get("to", int)
    if kind in (1, 10, 11, 16):
        return x
    if kind == 9:
        return call.like(x, call.add("not_equal", x.key, call.number_key(0.0)))
    if kind in WHOLE_TYPES:
        return call.like(x, call.add("trunc", x.key))
    raise UnsupportedError(f"a cast to the data type {kind}")


def _cast_like(call: Call) -> Value:
    like = call.value(1)
    if isinstance(like, Constant) and like.array.dtype.kind in "iub":
        raise UnsupportedError(f"a cast to {like.array.dtype}")
    return call.value()


def _dropout(call: Call) -> tuple[Tensor, ...]:
    x, rate = call.tensor(), call.number("ratio", 1, 0.5)
    require(rate is not None and 0 <= rate < 1, f"a dropout ratio of {rate}")
    return (call.like(x, call.add("dropout", x.key, rate=rate)),)


def _image_scaler(call: Call) -> Tensor:
    """An operator of before opset 10: x * scale + bias, with one bias per channel."""
    x, bias = call.image(), np.asarray(call.attributes.get("bias", [0.0]))
    scaled = call.add("multiply", x.key, call.number_key(call.get("scale", float, 1.0)))
    return call.like(x, call.add("add", scaled, call.number_key(bias.reshape(-1, 1, 1))))


# -- along axes -------------------------------------------------------------------------------------------------------


def _softmax(op: str) -> Rule:
    """The softmax along one axis; before opset 13, over all axes from the given one on."""

    def lower(call: Call) -> Tensor:
        x = call.tensor()
        rank = len(call.dims(x))
        axis = axis_of(call.get("axis", int, 1 if call.opset < 13 else -1), rank)
        axes = tuple(
            place for each in range(axis, rank if call.opset < 13 else axis + 1) for place in _axis(call, x, each)
        )
        return call.like(x, call.add(op, x.key, axes=axes))

    return lower


def _axis(call: Call, x: Tensor, axis: int) -> tuple[int, ...]:
    """The draft's axes; in a file for one sample, its batch axis of size 1 is left out."""
    if axis == x.axis and call.samples == 1:
        return call.places(x, axis)
    return (call.place(x, axis),)


def _reduction(op: str, before: str = "", after: str = "") -> Rule:
    """A reduction: `before` is applied to each number, `after` to the result."""

    def lower(call: Call) -> Tensor:
        x = call.tensor()
        axes = call.integers("axes", 1)
        if not axes:
            if call.opset >= 13 and call.attributes.get("noop_with_empty_axes", 0):
                if before or after:
                    raise UnsupportedError("a reduction along no axis")
                return x
            axes = list(range(len(call.dims(x))))
        keep = bool(call.get("keepdims", int, 1))
        result = _reduced(call, x, axes, keep, (op, before))
        return call.like(result, call.add(after, result.key)) if after else result

    return lower


def _reduced(call: Call, x: Tensor, axes: list[int], keep: bool, ops: tuple[str, str]) -> Tensor:
    op, before = ops
    rank = len(call.dims(x))
    axes = sorted({axis_of(axis, rank) for axis in axes})
    over_batch = x.axis in axes
    if over_batch and call.samples != 1:
        raise UnsupportedError("a reduction over the samples of the batch")
    places = tuple(place for axis in axes for place in call.places(x, axis))
    key = x.key
    if before == "square":
        key = call.add("multiply", key, key)
    elif before:
        key = call.add(before, key)
    if op in ("argmax", "argmin") and len(places) != 1:
        raise UnsupportedError(f"{op} over the samples of the batch")
    key = call.add(op, key, axes=places, keep_dims=keep)
    if over_batch:
        return Tensor(key) if keep and x.axis == 0 else Tensor(key, None)
    if keep or x.axis is None:
        return call.like(x, key)
    return Tensor(key, x.axis - sum(axis < x.axis for axis in axes), x.outer, x.inner)


def _extreme(op: str) -> Rule:
    def lower(call: Call) -> Tensor:
        if call.attributes.get("select_last_index", 0):
            raise UnsupportedError("it selects the last of several equal values")
        axis, keep = call.get("axis", int, 0), bool(call.get("keepdims", int, 1))
        return _reduced(call, call.tensor(), [axis], keep, (op, ""))

    return lower


def _mean_variance(call: Call) -> Tensor:
    """(x - mean) / (deviation + 1e-9) over some axes, by default all but the channels."""
    x = call.tensor()
    axes = [axis_of(axis, len(call.dims(x))) for axis in call.integers("axes") or [0, 2, 3]]
    if x.axis in axes and call.samples != 1:
        raise UnsupportedError("statistics over the samples of the batch")
    places = tuple(place for axis in axes for place in call.places(x, axis))
    centered = call.add("subtract", x.key, call.add("reduce_mean", x.key, axes=places, keep_dims=True))
    square = call.add("multiply", centered, centered)
    deviation = call.add("ieee_sqrt", call.add("reduce_mean", square, axes=places, keep_dims=True))
    return call.like(x, call.add("divide", centered, call.add("add", deviation, call.number_key(1e-9))))


def _top_k(call: Call) -> tuple[Tensor, Tensor]:
    x = call.tensor()
    k = call.get("k", int) if call.opset < 10 else int(call.constant(1).reshape(-1)[0])
    if not call.attributes.get("largest", 1):
        raise UnsupportedError("it selects the smallest numbers (largest=0)")
    axis = call.place(x, call.get("axis", int, -1))
    return tuple(call.like(x, call.add(op, x.key, axis=axis, k=k)) for op in ("top_k_values", "top_k_indices"))  # type: ignore[return-value]


def _one_hot(call: Call) -> Tensor:
    x, depth, values = call.tensor(), int(call.constant(1).reshape(-1)[0]), call.constant(2).reshape(-1)
    rank = len(call.dims(x)) + 1
    axis = axis_of(call.get("axis", int, -1), rank)
    if x.axis is None or x.parts or axis <= x.axis:
        raise UnsupportedError("its new axis is not behind the batch axis")
    key = call.add("one_hot", x.key, axis=axis - 1, classes=depth)
    off, on = float(values[0]), float(values[1])
    if (off, on) != (0, 1):
        key = call.add("add", call.add("multiply", key, call.number_key(on - off)), call.number_key(off))
    return call.like(x, key)


def _constant(call: Call) -> Constant:
    for name in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        if name in call.attributes:
            kind = np.float32 if "float" in name else np.int64
            value = call.attributes[name]
            return Constant(value if name == "value" else np.asarray(value, kind))
    raise UnsupportedError("the constant is not a number")


_UNARY = {
    "Abs": "abs", "Neg": "negate", "Exp": "exp", "Log": "ieee_log", "Sqrt": "ieee_sqrt", "Floor": "floor",
    "Ceil": "ceil", "Round": "round", "Sign": "sign", "Erf": "erf", "Relu": "relu", "Sigmoid": "sigmoid",
    "Tanh": "tanh", "Sin": "sin", "Cos": "cos", "Tan": "tan", "Asin": "asin", "Acos": "acos", "Atan": "atan",
    "Sinh": "sinh", "Cosh": "cosh", "Asinh": "asinh", "Acosh": "acosh", "Atanh": "atanh",
}  # fmt: skip

PLAIN_RULES: dict[str, Rule] = {
    **{name: _unary(op) for name, op in _UNARY.items()},
    "Reciprocal": lambda call: call.like(x := call.tensor(), call.add("divide", call.number_key(1.0), x.key)),
    "LeakyRelu": _alpha("leaky_relu", 0.01),
    "Elu": _alpha("elu", 1.0),
    "Selu": _selu,
    "Celu": _celu,
    "ThresholdedRelu": _thresholded_relu,
    "Clip": _clip,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "Softplus": lambda call: call.like(x := call.tensor(), _softplus(call, x.key)),
    "Softsign": _softsign,
    "Mish": _mish,
    "Swish": _swish,
    "Gelu": _gelu,
    "PRelu": _prelu,
    "Add": _broadcasting("add", learned=True),
    "Sum": _broadcasting("add", learned=True),
    "Sub": _broadcasting("subtract"),
    "Mul": _broadcasting("multiply", learned=True),
    "Div": _divide,
    "Pow": _broadcasting("power"),
    "Max": _broadcasting("maximum"),
    "Min": _broadcasting("minimum"),
    "Mean": _mean,
    "Equal": _broadcasting("equal"),
    "Less": _broadcasting("less"),
    "LessOrEqual": _broadcasting("less_equal"),
    "Greater": _broadcasting("greater"),
    "GreaterOrEqual": _broadcasting("greater_equal"),
    "And": _broadcasting("multiply"),
    "Or": _broadcasting("maximum"),
    "Xor": _broadcasting("not_equal"),
    "Not": _not,
    "Where": _select,
    "Cast": _cast,
    "CastLike": _cast_like,
    "Identity": Call.value,
    "Constant": _constant,
    "Dropout": _dropout,
    "ImageScaler": _image_scaler,
    "Softmax": _softmax("softmax"),
    "LogSoftmax": _softmax("log_softmax"),
    "Hardmax": _softmax("hardmax"),
    "ReduceSum": _reduction("reduce_sum"),
    "ReduceMean": _reduction("reduce_mean"),
    "ReduceMax": _reduction("reduce_max"),
    "ReduceMin": _reduction("reduce_min"),
    "ReduceProd": _reduction("reduce_product"),
    "ReduceLogSumExp": _reduction("reduce_log_sum_exp"),
    "ReduceLogSum": _reduction("reduce_sum", after="ieee_log"),
    "ReduceL1": _reduction("reduce_sum", "abs"),
    "ReduceL2": _reduction("reduce_sum", "square", "ieee_sqrt"),
    "ReduceSumSquare": _reduction("reduce_sum", "square"),
    "ArgMax": _extreme("argmax"),
    "ArgMin": _extreme("argmin"),
    "MeanVarianceNormalization": _mean_variance,
    "TopK": _top_k,
    "OneHot": _one_hot,
}
