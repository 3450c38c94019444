"""ONNX's convolutions and poolings -> the neutral graph."""

from itertools import product
from math import inf, prod

import numpy as np

from convolve.graph.shapes import Shape, require
from convolve.importers.onnx.call import Call, Tensor, Value
from convolve.importers.onnx.plain import Rule


def _each(call: Call, name: str, axes: int, default: int) -> Shape:
    values = call.integers(name) or [default] * axes
    require(len(values) == axes, f"{name} {values} for {axes} axes")
    return tuple(values)


def _padding(call: Call, sizes: Shape, reach: Shape, strides: Shape) -> tuple[Shape, Shape]:
    """(lower, upper) padding; "SAME" gives ceil(size / stride) windows."""
    how, axes = call.get("auto_pad", str, "NOTSET"), len(sizes)
    if how in ("NOTSET", ""):
        pads = _each(call, "pads", 2 * axes, 0)
        return pads[:axes], pads[axes:]
    if how == "VALID":
        return (0,) * axes, (0,) * axes
    require(how in ("SAME_UPPER", "SAME_LOWER") and min(strides) >= 1, f"auto_pad {how}")
    needed = [max(0, (-(-size // s) - 1) * s + r - size) for size, r, s in zip(sizes, reach, strides, strict=True)]
    smaller, larger = tuple(n // 2 for n in needed), tuple(n - n // 2 for n in needed)
    return (smaller, larger) if how == "SAME_UPPER" else (larger, smaller)


def _reach(window: Shape, dilation: Shape) -> Shape:
    return tuple((k - 1) * d + 1 for k, d in zip(window, dilation, strict=True))


def _weighted(call: Call) -> list[str]:
    """The keys of a layer's weight and bias."""
    bias = [call.weights(2, (call.constant(2).size,))] if call.has(2) else []
    return [call.weights(1), *bias]


def _convolution(call: Call) -> Tensor:
    x, weight = call.image(), call.constant(1)
    sizes, window = call.draft.shape(x.key)[1:], weight.shape[2:]
    require(len(sizes) == len(window) >= 1, f"a weight of shape {weight.shape} over {len(sizes)} spatial axes")
    strides, dilation = (_each(call, name, len(sizes), 1) for name in ("strides", "dilations"))
    lower, upper = _padding(call, sizes, _reach(window, dilation), strides)
    key = call.add(
        "convolution", x.key, *_weighted(call), strides=strides, dilation=dilation, lower=lower, upper=upper,
        groups=call.get("group", int, 1),
    )  # fmt: skip
    return call.like(x, key)


def _convolution_transpose(call: Call) -> Tensor:
    x, weight = call.image(), call.constant(1)
    sizes, window = call.draft.shape(x.key)[1:], weight.shape[2:]
    axes = len(sizes)
    require(axes == len(window) >= 1, f"a weight of shape {weight.shape} over {axes} spatial axes")
    strides, dilation = (_each(call, name, axes, 1) for name in ("strides", "dilations"))
    more, how = _each(call, "output_padding", axes, 0), call.get("auto_pad", str, "NOTSET")
    rows = zip(sizes, strides, _reach(window, dilation), more, strict=True)
    full = [(size - 1) * stride + reach + extra for size, stride, reach, extra in rows]
    asked = call.integers("output_shape")
    if asked or how.startswith("SAME"):
        wanted = asked[-axes:] if asked else [size * stride for size, stride in zip(sizes, strides, strict=True)]
        cut = [max(0, size - out) for size, out in zip(full, wanted, strict=True)]
        lower = tuple(c // 2 if how == "SAME_UPPER" else c - c // 2 for c in cut)
        output = wanted if asked else [size - c for size, c in zip(full, cut, strict=True)]
    else:
        pads = _each(call, "pads", 2 * axes, 0)
        lower = pads[:axes]
        output = [size - low - high for size, low, high in zip(full, lower, pads[axes:], strict=True)]
    key = call.add(
        "convolution_transpose", x.key, *_weighted(call), strides=strides, dilation=dilation, lower=lower,
        output=tuple(output), groups=call.get("group", int, 1),
    )  # fmt: skip
    return call.like(x, key)


# -- pooling ----------------------------------------------------------------------------------------------------------


def _windows(call: Call, x: Tensor) -> dict[str, Shape]:
    """window, strides, dilation, lower and upper padding, and `beyond`: what ceil_mode adds to the upper padding."""
    sizes = call.draft.shape(x.key)[1:]
    window = tuple(call.integers("kernel_shape") or ())
    require(len(window) == len(sizes), f"a window {window} over {len(sizes)} spatial axes")
    strides, dilation = (_each(call, name, len(sizes), 1) for name in ("strides", "dilations"))
    require(min(*strides, *window, *dilation) >= 1, f"a window of {window} with strides {strides}")
    reach = _reach(window, dilation)
    lower, upper = _padding(call, sizes, reach, strides)
    beyond = []
    for size, r, stride, low, high in zip(sizes, reach, strides, lower, upper, strict=True):
        room = size + low + high - r
        last = -(-room // stride) * stride  # where the last window begins, rounded up
        if not call.attributes.get("ceil_mode", 0) or last >= size + low:  # none begins behind the image
            last = room // stride * stride
        beyond.append(last - room)
    return {"window": window, "strides": strides, "dilation": dilation, "lower": lower, "upper": upper,
            "beyond": tuple(beyond)}  # fmt: skip


def _plus(upper: Shape, beyond: Shape) -> Shape:
    return tuple(high + more for high, more in zip(upper, beyond, strict=True))


def _max_pool(call: Call) -> tuple[Value, ...]:
    x, windows = call.image(), _windows(call, call.image())
    dilation, upper = windows.pop("dilation"), _plus(windows.pop("upper"), windows.pop("beyond"))
    if max(dilation) > 1:
        padded = _surrounded(call, x.key, windows["lower"], tuple(max(0, high) for high in upper), -inf)
        return (call.like(x, _over_cells(call, padded, "maximum", windows, dilation)),)
    return (call.like(x, call.add("max_pool", x.key, **windows, upper=upper)),)


def _average_pool(call: Call) -> Tensor:
    """The divisor counts the image's cells and, with count_include_pad, its padding's, but none of ceil_mode's."""
    x, windows = call.image(), _windows(call, call.image())
    dilation, upper, beyond = (windows.pop(name) for name in ("dilation", "upper", "beyond"))
    counts_padding, key = bool(call.attributes.get("count_include_pad", 0)), x.key
    if max(dilation) > 1:
        return call.like(x, _dilated_average(call, key, {**windows, "upper": upper, "beyond": beyond}, dilation))
    if counts_padding and max(beyond) > 0:
        key = _surrounded(call, key, windows["lower"], upper, 0.0)
        windows["lower"], upper, counts_padding = (0,) * len(upper), (0,) * len(upper), False
    divisor = "window" if counts_padding else "real"
    return call.like(x, call.add("average_pool", key, **windows, upper=_plus(upper, beyond), divisor=divisor))


def _surrounded(call: Call, key: str, lower: Shape, upper: Shape, value: float) -> str:
    if not any((*lower, *upper)):
        return key
    return call.add("pad", key, lower=(0, *lower), upper=(0, *upper), mode="constant", value=value)


def _over_cells(call: Call, key: str, op: str, windows: dict[str, Shape], dilation: Shape) -> str:
    """A pooling with dilation: the cells of its windows, one after the other, each as an image."""
    window, strides = windows["window"], windows["strides"]
    sizes = call.draft.shape(key)[1:]
    require(prod(window) <= 1024, f"its window {window} has dilation")
    counts = [(size - r) // s + 1 for size, r, s in zip(sizes, _reach(window, dilation), strides, strict=True)]
    result = ""
    for cell in product(*map(range, window)):
        part = key
        for axis, (at, d, s, n) in enumerate(zip(cell, dilation, strides, counts, strict=True), 1):
            part = call.add("slice", part, axis=axis, begin=at * d, end=at * d + (n - 1) * s + 1, step=s)
        result = call.add(op, result, part) if result else part
    return result


def _dilated_average(call: Call, key: str, windows: dict[str, Shape], dilation: Shape) -> str:
    lower, upper = windows["lower"], windows["upper"]
    beyond = tuple(max(0, more) for more in windows["beyond"])
    shape, counted = call.draft.shape(key), float(bool(call.attributes.get("count_include_pad", 0)))
    total = _over_cells(call, _surrounded(call, key, lower, _plus(upper, beyond), 0.0), "add", windows, dilation)
    require(prod(shape) <= 2**24, f"it averages shape {shape} with dilation")
    ones = np.pad(np.ones(shape[1:], np.float32), [*zip(lower, upper, strict=True)], constant_values=counted)
    ones = np.pad(ones, [(0, more) for more in beyond])[None]
    cells = _over_cells(call, call.number_key(ones), "add", windows, dilation)
    return call.add("divide", total, cells)


def _lp_pool(call: Call) -> Tensor:
    x, p = call.image(), float(call.get("p", int, 2))
    windows = _windows(call, x)
    require(max(windows.pop("dilation")) == 1, "its windows have dilation")
    upper = _plus(windows.pop("upper"), windows.pop("beyond"))
    key = call.add("power", call.add("abs", x.key), call.number_key(p))
    mean = call.add("average_pool", key, **windows, upper=upper, divisor="window")
    total = call.add("multiply", mean, call.number_key(float(prod(windows["window"]))))
    return call.like(x, call.add("power", total, call.number_key(1 / p)))


def _global(op: str) -> Rule:
    def lower(call: Call) -> Tensor:
        x = call.image()
        axes = tuple(range(1, len(call.draft.shape(x.key))))
        return call.like(x, call.add(op, x.key, axes=axes, keep_dims=True))

    return lower


def _global_lp_pool(call: Call) -> Tensor:
    x, p = call.image(), float(call.get("p", int, 2))
    axes = tuple(range(1, len(call.draft.shape(x.key))))
    key = call.add("power", call.add("abs", x.key), call.number_key(p))
    return call.like(
        x, call.add("power", call.add("reduce_sum", key, axes=axes, keep_dims=True), call.number_key(1 / p))
    )


WINDOW_RULES: dict[str, Rule] = {
    "Conv": _convolution,
    "ConvTranspose": _convolution_transpose,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "LpPool": _lp_pool,
    "GlobalAveragePool": _global("reduce_mean"),
    "GlobalMaxPool": _global("reduce_max"),
    "GlobalLpPool": _global_lp_pool,
}
