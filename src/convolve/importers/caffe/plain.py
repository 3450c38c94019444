"""Caffe's elementwise layers and changes of shape -> the neutral graph."""

from collections.abc import Callable
from math import log, prod

from convolve.errors import UnsupportedError
from convolve.graph.shapes import Shape, require
from convolve.importers.caffe.caffemodel import MAX_AXES
from convolve.importers.caffe.call import Call

Rule = Callable[[Call], str | tuple[str, ...]]


def _plain(op: str) -> Rule:
    """The neutral operation `op` of one operand."""
    return lambda call: call.add(op, call.operand())


# -- elementwise ------------------------------------------------------------------------------------------------------


def _relu(call: Call) -> str:
    slope = call.settings("relu_param").get("negative_slope", 0.0)
    return call.add("leaky_relu", call.operand(), alpha=slope) if slope else call.add("relu", call.operand())


def _affine(call: Call, x: str, scale: float, shift: float) -> str:
    """shift + scale * x, without what changes nothing."""
    if scale != 1:
        x = call.add("multiply", x, call.constant(scale))
    return call.add("add", x, call.constant(shift)) if shift else x


def _power(call: Call) -> str:
    """(shift + scale * x) ^ power"""
    settings = call.settings("power_param")
    x = _affine(call, call.operand(), settings.get("scale", 1.0), settings.get("shift", 0.0))
    power = settings.get("power", 1.0)
    return x if power == 1 else call.add("power", x, call.constant(power))


def _exp(call: Call) -> str:
    """base ^ (shift + scale * x); a base of -1 is e."""
    settings = call.settings("exp_param")
    base = settings.get("base", -1.0)
    require(base == -1 or base > 0, f"its base is {base}")
    inner = 1.0 if base == -1 else log(base)
    x = _affine(call, call.operand(), inner * settings.get("scale", 1.0), inner * settings.get("shift", 0.0))
    return call.add("exp", x)


def _eltwise(call: Call) -> str:
    settings = call.settings("eltwise_param")
    operation, factors = settings.get("operation", "SUM"), settings.all("coeff")
    shapes = {call.draft.shape(key) for key in call.operands}
    require(
        len(call.operands) >= 2 and len(shapes) == 1, f"{operation} does not fit the shapes {shapes or 'of nothing'}"
    )
    require(not factors or (operation == "SUM" and len(factors) == len(call.operands)), f"{len(factors)} coefficients")
    values = list(call.operands)
    if factors:
        values = [_affine(call, x, factor, 0.0) for x, factor in zip(values, factors, strict=True)]
    op = {"SUM": "add", "PROD": "multiply", "MAX": "maximum"}[operation]
    result = values[0]
    for value in values[1:]:
        result = call.add(op, result, value)
    return result


def _softmax(call: Call) -> str:
    axis = call.axis(call.settings("softmax_param").get("axis", 1), len(call.shape()))
    return call.add("softmax", call.operand(), axes=(axis,))


def _clip(call: Call) -> str:
    settings = call.settings("clip_param")
    require("min" in settings and "max" in settings, "Clip needs min and max")
    return call.add("clamp", call.operand(), low=settings.get("min", 0.0), high=settings.get("max", 0.0))


def _swish(call: Call) -> str:
    inner = _affine(call, call.operand(), call.settings("swish_param").get("beta", 1.0), 0.0)
    return call.add("multiply", call.operand(), call.add("sigmoid", inner))


def _threshold(call: Call) -> str:
    return call.add("greater", call.operand(), call.constant(call.settings("threshold_param").get("threshold", 0.0)))


def _axpy(call: Call) -> str:
    """a x + y, with one number of a for each map of x."""
    factor, x, y = call.shape(0), call.shape(1), call.shape(2)
    require(
        len(x) == 3 and x == y and prod(factor) == x[0] == factor[0], f"{factor} times {x} plus {y} do not fit together"
    )
    scaled = call.add("multiply", call.operand(1), call.reshaped(call.operand(0), (x[0], 1, 1)))
    return call.add("add", scaled, call.operand(2))


def _mvn(call: Call) -> str:
    settings, rank = call.settings("mvn_param"), len(call.shape())
    axes = tuple(range(0 if settings.get("across_channels", False) else 1, rank))
    x = call.operand()
    centered = call.add("subtract", x, call.add("reduce_mean", x, axes=axes, keep_dims=True))
    if not settings.get("normalize_variance", True):
        return centered
    squares = call.add("reduce_mean", call.add("multiply", centered, centered), axes=axes, keep_dims=True)
    deviation = call.add("add", call.add("sqrt", squares), call.constant(settings.get("eps", 1e-9)))
    return call.add("divide", centered, deviation)


# -- reductions -------------------------------------------------------------------------------------------------------


def _reduction(call: Call) -> str:
    """A reduction over the axis and all behind it."""
    settings, rank = call.settings("reduction_param"), len(call.shape())
    axes, x = tuple(range(call.axis(settings.get("axis", 0), rank), rank)), call.operand()
    operation = settings.get("operation", "SUM")
    if operation == "ASUM":
        x = call.add("abs", x)
    if operation == "SUMSQ":
        x = call.add("multiply", x, x)
    reduced = call.add("reduce_mean" if operation == "MEAN" else "reduce_sum", x, axes=axes, keep_dims=False)
    return _affine(call, reduced, settings.get("coeff", 1.0), 0.0)


def _arg_max(call: Call) -> str:
    """The indices of the largest values (or, with out_max_val, these) along an axis, or else in a sample."""
    settings = call.settings("argmax_param")
    k, values = settings.get("top_k", 1), settings.get("out_max_val", False)
    if "axis" in settings:
        axis = call.axis(settings.get("axis", 1), len(call.shape()))
        return call.add("top_k_values" if values else "top_k_indices", call.operand(), axis=axis, k=k)
    flat = call.reshaped(call.operand(), (prod(call.shape()),))
    rows = [call.add("top_k_indices", flat, axis=0, k=k)]
    if values:
        rows.append(call.add("top_k_values", flat, axis=0, k=k))
    rows = [call.reshaped(row, (1, k)) for row in rows]
    return call.add("concatenate", *rows, axis=0) if values else rows[0]


# -- shapes -----------------------------------------------------------------------------------------------------------


def _concat(call: Call) -> str:
    settings = call.settings("concat_param")
    axis = call.axis(settings.get("concat_dim", settings.get("axis", 1)), len(call.shape()))
    return call.add("concatenate", *call.operands, axis=axis)


def _slice(call: Call) -> tuple[str, ...]:
    settings, shape, count = call.settings("slice_param"), call.shape(), len(call.layer.tops)
    axis = call.axis(settings.get("slice_dim", settings.get("axis", 1)), len(shape))
    points = settings.all("slice_point")
    if not points:
        require(count >= 1 and shape[axis] % count == 0, f"{shape[axis]} cells cannot be cut into {count} equal slices")
        points = list(range(shape[axis] // count, shape[axis], shape[axis] // count))
    require(len(points) == count - 1, f"{len(points)} slice points for {count} slices")
    edges = zip([0, *points], [*points, shape[axis]], strict=True)
    return tuple(call.add("slice", call.operand(), axis=axis, begin=begin, end=end, step=1) for begin, end in edges)


def _crop(call: Call) -> str:
    """The first operand cut to the size of the second one, from `axis` on."""
    settings, wanted, x = call.settings("crop_param"), call.shape(1), call.operand()
    start = call.axis(settings.get("axis", 2), len(wanted))
    offsets = settings.all("offset") or [0]
    cropped = len(wanted) - start
    require(len(call.shape()) == len(wanted), f"shape {call.shape()} cannot be cropped to {wanted}")
    require(len(offsets) in (1, cropped), f"{len(offsets)} offsets for {cropped} axes")
    for axis, begin in enumerate(offsets * (cropped // len(offsets)), start):
        x = call.add("slice", x, axis=axis, begin=begin, end=begin + wanted[axis], step=1)
    return x


def _flatten(call: Call) -> str:
    settings, shape = call.settings("flatten_param"), call.shape()
    start, end = (call.axis(settings.get(name, last), len(shape)) for name, last in (("axis", 1), ("end_axis", -1)))
    require(start <= end, f"axes {start + 1} to {end + 1} cannot be flattened")
    return call.reshaped(call.operand(), (*shape[:start], prod(shape[start : end + 1]), *shape[end + 1 :]))


def _reshape(call: Call) -> str:
    """The axes [axis, axis + num_axes) become `shape`: 0 keeps a size, -1 is inferred."""
    settings = call.settings("reshape_param")
    whole = (call.batch, *call.shape())
    axis, count = settings.get("axis", 0), settings.get("num_axes", -1)
    start = axis if axis >= 0 else len(whole) + axis + 1
    end = len(whole) if count == -1 else start + count
    require(0 <= start <= end <= len(whole), f"axes {axis} to {axis + count} of shape {whole}")
    new = list(settings.message("shape").all("dim"))
    require(len(new) <= MAX_AXES, f"a reshape to {len(new)} axes")
    require(all(size >= -1 for size in new) and new.count(-1) <= 1, f"a reshape to {tuple(new)}")
    for place, size in enumerate(new):
        if size == 0:
            require(start + place < len(whole), f"a reshape to {tuple(new)} from {whole}")
            new[place] = whole[start + place]
    known = prod(size for size in (*whole[:start], *new, *whole[end:]) if size != -1)
    shape: Shape = tuple(prod(whole) // known if size == -1 else size for size in (*whole[:start], *new, *whole[end:]))
    require(prod(shape) == prod(whole), f"shape {whole} does not fill {shape}")
    if not shape or shape[0] != call.batch:
        raise UnsupportedError(f"a reshape that changes the batch axis, from {whole} to {shape}")
    return call.reshaped(call.operand(), shape[1:])


def _tile(call: Call) -> str:
    settings, shape = call.settings("tile_param"), call.shape()
    axis, tiles = call.axis(settings.get("axis", 1), len(shape)), settings.get("tiles", 0)
    require(tiles >= 1, f"{tiles} tiles")
    apart = call.reshaped(call.operand(), (*shape[:axis], 1, *shape[axis:]))
    repeated = call.add("expand", apart, shape=(*shape[:axis], tiles, *shape[axis:]))
    return call.reshaped(repeated, (*shape[:axis], tiles * shape[axis], *shape[axis + 1 :]))


def _shuffle_channel(call: Call) -> str:
    (channels, *rest), groups = call.shape(), call.settings("shuffle_channel_param").get("group", 1)
    require(groups >= 1 and channels % groups == 0, f"{channels} channels cannot be split into {groups} groups")
    apart = call.reshaped(call.operand(), (groups, channels // groups, *rest))
    order = (1, 0, *range(2, len(rest) + 2))
    return call.reshaped(call.add("transpose", apart, order=order), call.shape())


PLAIN_RULES: dict[str, Rule] = {
    "ReLU": _relu,
    "ELU": lambda call: call.add("elu", call.operand(), alpha=call.settings("elu_param").get("alpha", 1.0)),
    "Sigmoid": _plain("sigmoid"),
    "TanH": _plain("tanh"),
    "AbsVal": _plain("abs"),
    "BNLL": lambda call: call.add("log_add_exp", call.operand(), call.constant(0.0)),  # log(1 + exp(x))
    "Power": _power,
    "Exp": _exp,
    "Eltwise": _eltwise,
    "Softmax": _softmax,
    "Concat": _concat,
    "Slice": _slice,
    "Crop": _crop,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "ReLU6": lambda call: call.add("clamp", call.operand(), low=0.0, high=6.0),
    "Clip": _clip,
    "Swish": _swish,
    "Threshold": _threshold,
    "Axpy": _axpy,
    "MVN": _mvn,
    "Reduction": _reduction,
    "ArgMax": _arg_max,
    "Tile": _tile,
    "ShuffleChannel": _shuffle_channel,
}
