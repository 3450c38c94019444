"""Caffe's layers with windows, products and statistics -> the neutral graph."""

from math import inf, prod
from typing import Any

import numpy as np

from convolve.errors import UnsupportedError
from convolve.graph.shapes import Shape, require
from convolve.importers.caffe.call import Call
from convolve.importers.caffe.plain import Rule
from convolve.importers.caffe.schema import Message

# Caffe counts minibatches where CNTK counts samples; this is CNTK's default.
_TIME_CONSTANT_SAMPLES = 5000.0


def _sizes(settings: Message, name: str, rank: int, default: int | None = None) -> Shape:
    """One size per spatial axis: from `name` (one for all, or one each), or from `name`_h and `name`_w.

    The kernel's fields are kernel_size, but kernel_h and kernel_w.
    """
    stem = name.removesuffix("_size")
    by_axis = [f"{stem}_{letter}" for letter in "hw"]
    if any(field in settings for field in by_axis):
        require(
            rank == 2 and name not in settings,
            f"{' and '.join(by_axis)} need two spatial axes, and no {name} beside them",
        )
        values = [settings.get(field, 0) for field in by_axis]
    else:
        values = settings.all(name) or ([] if default is None else [default])
    require(len(values) in (1, rank), f"{len(values)} values of {name} for {rank} axes")
    return tuple(values) * (rank // len(values))


# -- convolution ------------------------------------------------------------------------------------------------------


def _windows(call: Call, settings: Message) -> dict[str, Any]:
    rank = len(call.shape()) - 1
    require(rank >= 1 and settings.get("axis", 1) == 1, f"it cannot convolve shape {call.shape()} along this axis")
    pad = _sizes(settings, "pad", rank, 0)
    require(min(pad) >= 0, f"padding {pad}")
    return {
        "strides": _sizes(settings, "stride", rank, 1),
        "dilation": _sizes(settings, "dilation", rank, 1),
        "lower": pad,
        "groups": settings.get("group", 1),
    }


def _weights(call: Call, settings: Message, shape: Shape) -> list[str]:
    """The weight of the given shape and, where the layer has one, the bias."""
    count = 1 + settings.get("bias_term", True)
    call.expect_blobs(count)
    maps = settings.get("num_output", 0)
    return [call.parameter(0, shape), *(call.parameter(1, (maps,)) for _ in range(count - 1))]


def _convolution(call: Call) -> str:
    settings = call.settings("convolution_param")
    windows = _windows(call, settings)
    channels, maps = call.shape()[0], settings.get("num_output", 0)
    if call.layer.type != "Convolution":  # the other names are those of depthwise convolutions
        windows["groups"] = channels
    groups = windows["groups"]
    require(groups >= 1 and channels % groups == 0, f"{channels} channels cannot be split into {groups} groups")
    kernel = _sizes(settings, "kernel_size", len(windows["strides"]))
    weights = _weights(call, settings, (maps, channels // groups, *kernel))
    return call.add("convolution", call.operand(), *weights, upper=windows["lower"], **windows)


def _deconvolution(call: Call) -> str:
    """The gradient of a convolution with respect to its input: padding of the one crops the other."""
    settings = call.settings("convolution_param")
    windows = _windows(call, settings)
    (channels, *sizes), groups, maps = call.shape(), windows["groups"], settings.get("num_output", 0)
    require(groups >= 1 and maps % groups == 0, f"{maps} maps cannot be split into {groups} groups")
    kernel = _sizes(settings, "kernel_size", len(sizes))
    axes = zip(sizes, kernel, windows["strides"], windows["dilation"], windows["lower"], strict=True)
    output = tuple((size - 1) * s + (k - 1) * d + 1 - 2 * pad for size, k, s, d, pad in axes)
    weights = _weights(call, settings, (channels, maps // groups, *kernel))
    return call.add("convolution_transpose", call.operand(), *weights, output=output, **windows)


# -- pooling ----------------------------------------------------------------------------------------------------------


def _pooling(call: Call) -> str:
    settings = call.settings("pooling_param")
    shape, kind = call.shape(), settings.get("pool", "MAX")
    require(len(shape) == 3, f"it cannot pool shape {shape}")
    if kind == "STOCHASTIC":
        raise UnsupportedError("stochastic pooling")
    sizes = shape[1:]
    pad, strides = _sizes(settings, "pad", 2, 0), _sizes(settings, "stride", 2, 1)
    if settings.get("global_pooling", False):
        require(pad == (0, 0) and strides == (1, 1), "global pooling has neither padding nor stride")
        window = sizes
    else:
        window = _sizes(settings, "kernel_size", 2)
    ceil = settings.get("ceil_mode", settings.get("round_mode", "CEIL") == "CEIL")
    upper = _upper_padding(sizes, window, strides, pad, ceil)
    if kind == "MAX":
        return call.add("max_pool", call.operand(), window=window, strides=strides, lower=pad, upper=upper)
    return _average_pool(call, window, strides, pad, upper)


def _upper_padding(sizes: Shape, window: Shape, strides: Shape, pad: Shape, ceil: bool) -> Shape:
    """The padding behind the image that makes the windows fit exactly: Caffe rounds their number up."""
    upper = []
    for size, cells, stride, low in zip(sizes, window, strides, pad, strict=True):
        require(
            cells >= 1 and stride >= 1 and 0 <= low < cells,
            f"the window {cells}, stride {stride} and padding {low} do not fit together",
        )
        count = (size + 2 * low - cells + (stride - 1 if ceil else 0)) // stride + 1
        if any(pad) and (count - 1) * stride >= size + low:  # Caffe drops a window that begins behind the image
            count -= 1
        require(count >= 1, f"a window of {cells} does not fit {size} cells padded by {low}")
        if (count - 1) * stride >= size + low:  # possible without padding only
            raise UnsupportedError(f"with stride {stride}, the last window begins behind the image")
        upper.append((count - 1) * stride + cells - low - size)
    return tuple(upper)


def _average_pool(call: Call, window: Shape, strides: Shape, pad: Shape, upper: Shape) -> str:
    """Caffe's divisor counts the cells of the image and of its padding, but not what lies behind the padding."""
    x, settings = call.operand(), {"window": window, "strides": strides}
    if all(high <= low for low, high in zip(pad, upper, strict=True)):
        return call.add("average_pool", x, lower=pad, upper=upper, divisor="window", **settings)
    if any(pad):
        edges = (0, *pad)
        x = call.add("pad", x, lower=edges, upper=edges, mode="constant", value=0.0)
        upper = tuple(high - low for low, high in zip(pad, upper, strict=True))
    return call.add("average_pool", x, lower=(0, 0), upper=upper, divisor="real", **settings)


# -- normalization ----------------------------------------------------------------------------------------------------


def _lrn(call: Call) -> str:
    settings = call.settings("lrn_param")
    size, alpha, beta = settings.get("local_size", 5), settings.get("alpha", 1.0), settings.get("beta", 0.75)
    require(size >= 1 and size % 2 == 1, f"local_size is {size}, but must be odd")
    if settings.get("norm_region", "ACROSS_CHANNELS") == "ACROSS_CHANNELS":
        k = settings.get("k", 1.0)
        return call.add("local_response_normalization", call.operand(), size=size, alpha=alpha, beta=beta, k=k)
    x, half = call.operand(), (size // 2, size // 2)
    require(len(call.shape()) == 3, f"it cannot normalize within the channels of shape {call.shape()}")
    windows = {"window": (size, size), "strides": (1, 1), "lower": half, "upper": half, "divisor": "window"}
    mean = call.add("average_pool", call.add("multiply", x, x), **windows)
    scaled = call.add("add", call.add("multiply", mean, call.constant(alpha)), call.constant(1.0))
    return call.add("multiply", x, call.add("power", scaled, call.constant(-beta)))


def _batch_norm(call: Call) -> str:
    """The blobs are sums over minibatches (of the mean, of the variance) and the divisor that makes means of them.

    Scale and bias are a separate layer, Scale, which `fuse` merges into it.
    """
    settings = call.settings("batch_norm_param")
    if not settings.get("use_global_stats", True):
        raise UnsupportedError("it normalizes by the statistics of the current batch (use_global_stats: false)")
    require(len(call.shape()) >= 1, "it cannot normalize a scalar")
    channels, has_own = call.shape()[:1], settings.get("scale_bias", False)
    call.expect_blobs(5 if has_own else 3)
    divisor = call.array(2, (1,))
    with np.errstate(all="ignore"):
        factor = np.where(divisor == 0, 0, 1 / divisor).astype(divisor.dtype)
        statistics = [call.constant(call.array(index, channels) * factor) for index in (0, 1)]
    fixed = [call.constant(np.full(channels, number, np.float32)) for number in (1, 0)]
    if has_own:  # NVIDIA's Caffe has scale and bias here
        fixed = [call.parameter(index, channels) for index in (3, 4)]
    seen = call.constant(divisor.reshape(()))
    frozen = "use_global_stats" in settings  # when it is not set, phase TEST alone freezes the statistics
    return call.add(
        "batch_normalization", call.operand(), *fixed, *statistics, seen, spatial=True,
        epsilon=settings.get("eps", 1e-5), time_constant_samples=inf if frozen else _TIME_CONSTANT_SAMPLES,
        blend_time_constant_samples=inf if frozen else 0.0,
    )  # fmt: skip


def _scale(call: Call) -> str:
    settings = call.settings("scale_param")
    has_bias, has_own_scale = settings.get("bias_term", False), len(call.operands) == 1
    scaled = _with_second(call, "multiply", settings, 1 + has_bias)
    return call.add("add", scaled, _own_operand(call, settings, int(has_own_scale))) if has_bias else scaled


def _with_second(call: Call, op: str, settings: Message, blobs: int) -> str:
    """`op` of the two bottoms; if there is only one, of that and the first of the layer's own `blobs`."""
    if len(call.operands) > 1:
        return call.add(op, call.operand(), _second_operand(call, settings))
    call.expect_blobs(blobs)
    return call.add(op, call.operand(), _own_operand(call, settings, 0))


def _own_operand(call: Call, settings: Message, index: int) -> str:
    """A blob of the layer that covers `num_axes` axes of the input from `axis` on, ready to broadcast."""
    shape = call.shape()
    start, count = call.axis(settings.get("axis", 1), len(shape)), settings.get("num_axes", 1)
    end = len(shape) if count == -1 else start + count
    require(start <= end <= len(shape), f"{count} axes from axis {start + 1} on are more than there are")
    own = shape[start:end]
    return call.parameter(index, own, (*own, *(1,) * (len(shape) - end)))


def _second_operand(call: Call, settings: Message) -> str:
    """The second bottom, whose shape is that of the first axes of the first bottom, batch included."""
    x, other = call.shape(0), call.shape(1)
    if settings.get("axis", 1) != 0 and settings.get("axis", 1) != -(len(x) + 1):
        raise UnsupportedError("its second bottom does not begin with the batch axis (axis: 0)")
    require(other == x[: len(other)], f"the shapes {x} and {other} do not fit together")
    return call.reshaped(call.operand(1), (*other, *(1,) * (len(x) - len(other))))


# -- products and others ----------------------------------------------------------------------------------------------


def _inner_product(call: Call) -> str:
    settings = call.settings("inner_product_param")
    shape, maps, transposed = call.shape(), settings.get("num_output", 0), not settings.get("transpose", False)
    start = call.axis(settings.get("axis", 1), len(shape))
    inputs = prod(shape[start:])
    weights = _weights(call, settings, (maps, inputs) if transposed else (inputs, maps))
    x = call.reshaped(call.operand(), (*shape[:start], inputs))
    return call.add("linear", x, *weights, contracted=1, transposed=transposed)


def _prelu(call: Call) -> str:
    settings = call.settings("prelu_param")
    require(len(call.shape()) >= 1, "it cannot be applied to a scalar")
    call.expect_blobs(1)
    slopes = (1,) if settings.get("channel_shared", False) else call.shape()[:1]
    return call.add("prelu", call.operand(), call.parameter(0, slopes))


def _dropout(call: Call) -> str:
    rate = call.settings("dropout_param").get("dropout_ratio", 0.5)
    require(0 <= rate < 1, f"its dropout_ratio is {rate}")
    return call.add("dropout", call.operand(), rate=rate)


_DEPTHWISE = ("ConvolutionDepthwise", "ConvolutionDepthWise", "DepthwiseConvolution", "DepthWiseConvolution")

LAYER_RULES: dict[str, Rule] = {
    **dict.fromkeys(("Convolution", *_DEPTHWISE), _convolution),
    "Deconvolution": _deconvolution,
    "Pooling": _pooling,
    "LRN": _lrn,
    "BatchNorm": _batch_norm,
    "Scale": _scale,
    "Bias": lambda call: _with_second(call, "add", call.settings("bias_param"), 1),
    "InnerProduct": _inner_product,
    "PReLU": _prelu,
    "Dropout": _dropout,
}
