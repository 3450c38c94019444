"""The operations that become layers of torch: convolution, pooling, dense, normalization, dropout.

A layer owns its parameters only if nothing else uses them; shared ones belong to the whole module, and the operation
becomes a function of them.
"""

import operator
from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from convolve.graph import functions
from convolve.graph.emit import Emitter, tensor
from convolve.graph.graph import Array, Node, Parameter
from convolve.graph.shapes import Shape
from convolve.models.batch_norm import CntkBatchNorm2d, SharedBatchNorm
from convolve.models.lrn import LocalResponseNorm

_ByRank = dict[int, Callable[..., nn.Module]]

# By the number of spatial axes.
_CONVOLUTIONS: _ByRank = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED: _ByRank = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_MAX_POOLS: _ByRank = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_AVERAGE_POOLS: _ByRank = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}


def _weight_and_bias(emitter: Emitter, node: Node) -> tuple[fx.Node, fx.Node | None]:
    weight, *bias = (emitter.value(name) for name in node.inputs[1:])
    return weight, emitter.call("", torch.flatten, bias[0]) if bias else None


def _filled(emitter: Emitter, layer: nn.Module, own: list[Parameter], weight: Array | None = None) -> nn.Module:
    """`layer`, made on the meta device where nothing is computed, with its weight and its bias, if any."""
    layer.weight = emitter.parameter(own[0], weight)
    if len(own) == 2:
        layer.bias = emitter.parameter(own[1], own[1].array.reshape(-1))
    return layer


# -- windows ----------------------------------------------------------------------------------------------------------


def convolution(emitter: Emitter, node: Node) -> fx.Node:
    weight_shape, dilation = emitter.shape(node.inputs[1]), node.integers("dilation")
    reach = tuple((k - 1) * d + 1 for k, d in zip(weight_shape[2:], dilation, strict=True))
    x, padding = emitter.value(node.inputs[0]), node.integers("lower")
    if not _fits(emitter, node, reach, ceil=False):
        x = emitter.call("", F.pad, x, emitter.padding(node))
        padding = (0,) * len(padding)
    rank, groups, own = len(dilation), node.integer("groups"), emitter.own(*node.inputs[1:])
    settings = {"stride": node.integers("strides"), "padding": padding, "dilation": dilation, "groups": groups}
    if own is None:
        return emitter.call(node.name, _CONVOLVE[rank], x, *_weight_and_bias(emitter, node), **settings)
    maps, channels, *kernel = weight_shape
    bias = len(own) == 2
    layer = _CONVOLUTIONS[rank](channels * groups, maps, tuple(kernel), bias=bias, device="meta", **settings)
    return emitter.layer(node.name, _filled(emitter, layer, own), x)


def convolution_transpose(emitter: Emitter, node: Node) -> fx.Node:
    strides, dilation, groups = node.integers("strides"), node.integers("dilation"), node.integer("groups")
    lower, output = node.integers("lower"), node.integers("output")
    channels, maps, *kernel = emitter.shape(node.inputs[1])
    sizes = zip(emitter.shape(node.inputs[0])[1:], kernel, strides, dilation, lower, strict=True)
    symmetric = [(size - 1) * s + (k - 1) * d + 1 - 2 * low for size, k, s, d, low in sizes]
    # torch crops the same amount at both ends, and output_padding restores some at the far end.
    back = tuple(out - size for out, size in zip(output, symmetric, strict=True))
    fits = min(lower) >= 0 and all(0 <= b < max(s, d) for b, s, d in zip(back, strides, dilation, strict=True))
    x, own = emitter.value(node.inputs[0]), emitter.own(*node.inputs[1:])
    if own is None or not fits:
        function, operands = functions.convolution_transpose, _weight_and_bias(emitter, node)
        settings = node.settings("strides", "dilation", "groups", "lower", "output")
        return emitter.call(node.name, function, x, *operands, **settings)
    settings = {"stride": strides, "padding": lower, "output_padding": back, "groups": groups, "dilation": dilation}
    layer = _TRANSPOSED[len(strides)](
        channels, maps * groups, tuple(kernel), bias=len(own) == 2, device="meta", **settings
    )
    return emitter.layer(node.name, _filled(emitter, layer, own), x)


def _fits(emitter: Emitter, node: Node, reach: Shape, ceil: bool) -> bool:
    """Whether torch, padding both ends by `lower`, gets as many windows as the node has."""
    sizes = zip(emitter.shape(node.inputs[0])[1:], reach, node.integers("strides"), node.integers("lower"), strict=True)
    counts = []
    for size, window, stride, lower in sizes:
        count = (size + 2 * lower - window + (stride - 1) * ceil) // stride + 1
        # With ceil_mode torch drops a last window that would begin beyond the image and its padding.
        counts.append(count - (ceil and (count - 1) * stride >= size + lower))
    return min(node.integers("lower")) >= 0 and tuple(counts) == node.shape[1:]


def _pool_settings(emitter: Emitter, node: Node) -> dict[str, Any] | None:
    """The arguments with which torch's own layer computes this pooling, if it can."""
    window, lower = node.integers("window"), node.integers("lower")
    if any(low > size // 2 for low, size in zip(lower, window, strict=True)):
        return None  # torch refuses padding of more than half the window
    for ceil in (False, True):
        if _fits(emitter, node, window, ceil):
            return {"stride": node.integers("strides"), "padding": lower, "ceil_mode": ceil}
    return None


def max_pool(emitter: Emitter, node: Node) -> fx.Node:
    window, settings = node.integers("window"), _pool_settings(emitter, node)
    x = emitter.value(node.inputs[0])
    if settings is None:
        x = emitter.call("", F.pad, x, emitter.padding(node), value=float("-inf"))
        settings = {"stride": node.integers("strides")}
    return emitter.layer(node.name, _MAX_POOLS[len(window)](window, **settings), x)


def average_pool(emitter: Emitter, node: Node) -> fx.Node:
    window, strides, settings = node.integers("window"), node.integers("strides"), _pool_settings(emitter, node)
    x, layer = emitter.value(node.inputs[0]), _AVERAGE_POOLS[len(window)]
    real = node.attributes["divisor"] == "real"
    if settings and (real or not settings["ceil_mode"]):
        return emitter.layer(node.name, layer(window, count_include_pad=not real, **settings), x)
    padding = emitter.padding(node)
    if real:
        settings = node.settings("window", "strides")
        return emitter.call(node.name, functions.average_pool_real_cells, x, **settings, padding=padding)
    return emitter.layer(node.name, layer(window, strides), emitter.call("", F.pad, x, padding))


def max_unpool(emitter: Emitter, node: Node) -> fx.Node:
    values, settings = map(emitter.value, node.inputs), node.settings("window", "strides")
    return emitter.call(node.name, functions.max_unpool, *values, **settings, padding=emitter.padding(node))


# -- products ---------------------------------------------------------------------------------------------------------


def linear(emitter: Emitter, node: Node) -> fx.Node:
    """nn.Linear, if the product has one output axis and contracts all axes of the input."""
    x, weight_shape = emitter.value(node.inputs[0]), emitter.shape(node.inputs[1])
    contracted, transposed = node.integer("contracted"), bool(node.attributes["transposed"])
    kept = len(emitter.shape(node.inputs[0])) - contracted
    own = emitter.own(*node.inputs[1:])
    if own is None or len(weight_shape) != contracted + 1 or not (contracted == 1 or (kept == 0 and node.batched)):
        return _contraction(emitter, node, x, contracted, transposed)
    if contracted > 1:
        x = emitter.call("", torch.flatten, x, 1)
    weight = own[0].array if transposed else own[0].array.reshape(-1, weight_shape[-1]).T
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=len(own) == 2, device="meta")
    return emitter.layer(node.name, _filled(emitter, layer, own, weight), x)


def _contraction(emitter: Emitter, node: Node, x: fx.Node, contracted: int, transposed: bool) -> fx.Node:
    weight, *bias = (emitter.value(name) for name in node.inputs[1:])
    if transposed:
        weight = emitter.call("", torch.transpose, weight, -1, -2)
    name = "" if bias else node.name
    batched = dict(zip(("x_batched", "weight_batched"), map(emitter.batched, node.inputs), strict=False))
    result = emitter.call(name, functions.contract, x, weight, contracted, **batched)
    return emitter.call(node.name, operator.add, result, bias[0]) if bias else result


# -- normalization and dropout ----------------------------------------------------------------------------------------


def batch_normalization(emitter: Emitter, node: Node) -> fx.Node:
    """With statistics for each element, the sample is flattened and each element is a channel."""
    x, shape, own = emitter.value(node.inputs[0]), node.shape, emitter.own(*node.inputs[1:])
    spatial = bool(node.attributes["spatial"])
    if emitter.shares and node.batched:
        return _shared_batch_normalization(emitter, node)
    if own is None or not node.batched:
        statistics = map(emitter.value, node.inputs[1:5])
        wanted = (shape[0],) + (1,) * (len(shape) - 1) if spatial else shape
        settings = {"epsilon": node.number("epsilon"), "shape": wanted}
        return emitter.call(node.name, functions.normalize, x, *statistics, **settings)
    times = (node.number("time_constant_samples"), node.number("blend_time_constant_samples"))
    layer = CntkBatchNorm2d(shape[0] if spatial else prod(shape), *times, node.number("epsilon"))
    weight, bias, mean, variance = (parameter.array.reshape(-1) for parameter in own[:4])
    layer.weight, layer.bias = emitter.parameter(own[0], weight), emitter.parameter(own[1], bias)
    layer.running_mean, layer.running_var = tensor(mean, own[2].name), tensor(variance, own[3].name)
    if len(own) == 5:
        layer.running_count = tensor(own[4].array.reshape(()), own[4].name)
    if spatial or len(shape) == 1:
        return emitter.layer(node.name, layer, x)
    normalized = emitter.layer(f"{node.name}_flat", layer, emitter.call("", torch.flatten, x, 1))
    return emitter.reshaped(node.name, normalized, shape, node.batched)


def _shared_batch_normalization(emitter: Emitter, node: Node) -> fx.Node:
    """A layer whose parameters belong to others: in training it updates their statistics."""
    x, spatial, shape = emitter.value(node.inputs[0]), bool(node.attributes["spatial"]), node.shape
    times = (node.number("time_constant_samples"), node.number("blend_time_constant_samples"))
    with torch.device("meta"):
        layer = CntkBatchNorm2d(shape[0] if spatial else prod(shape), *times, node.number("epsilon"))
    flat = x if spatial else emitter.call("", torch.flatten, x, 1)
    numbers = map(emitter.value, node.inputs[1:])
    normalized = emitter.layer(node.name, SharedBatchNorm(layer), flat, *numbers)
    return normalized if flat is x else emitter.reshaped("", normalized, shape, node.batched)


def local_response_normalization(emitter: Emitter, node: Node) -> fx.Node:
    alpha, beta, k = (node.number(name) for name in ("alpha", "beta", "k"))
    layer = LocalResponseNorm(node.integer("size"), alpha, beta, k)
    return emitter.layer(node.name, layer, emitter.value(node.inputs[0]))


def layer_normalization(emitter: Emitter, node: Node) -> fx.Node:
    x, shape, epsilon = emitter.value(node.inputs[0]), node.shape[-node.integer("axes") :], node.number("epsilon")
    own = emitter.own(*node.inputs[1:])
    if own is None:
        return emitter.call(node.name, F.layer_norm, x, shape, *map(emitter.value, node.inputs[1:]), eps=epsilon)
    affine, bias = len(own) > 0, len(own) == 2
    layer = nn.LayerNorm(shape, epsilon, elementwise_affine=affine, bias=bias, device="meta")
    return emitter.layer(node.name, _filled(emitter, layer, own) if own else layer, x)


def group_normalization(emitter: Emitter, node: Node) -> fx.Node:
    x, groups, epsilon = emitter.value(node.inputs[0]), node.integer("groups"), node.number("epsilon")
    own = emitter.own(*node.inputs[1:])
    if own is None or not node.batched:
        return emitter.call(node.name, F.group_norm, x, groups, *map(emitter.value, node.inputs[1:]), eps=epsilon)
    layer = nn.GroupNorm(groups, node.shape[0], epsilon, device="meta")
    return emitter.layer(node.name, _filled(emitter, layer, own), x)


def prelu(emitter: Emitter, node: Node) -> fx.Node:
    x, own = emitter.value(node.inputs[0]), emitter.own(node.inputs[1])
    if own is None or not node.batched:
        channels = (-1,) + (1,) * (len(node.shape) - 1)
        slopes = emitter.call("", torch.reshape, emitter.value(node.inputs[1]), channels)
        return emitter.call(node.name, functions.prelu, x, slopes)
    layer = nn.PReLU(own[0].array.size, device="meta")
    layer.weight = emitter.parameter(own[0], own[0].array.reshape(-1))
    return emitter.layer(node.name, layer, x)


def dropout(emitter: Emitter, node: Node) -> fx.Node:
    return emitter.layer(node.name, nn.Dropout(node.number("rate")), emitter.value(node.inputs[0]))
