"""Layers with parameters, poolings and normalizations."""

from typing import Any

import numpy as np

from convolve.cntk.default_options import Unset, current, default_override_or
from convolve.cntk.initializer import glorot_uniform, initializer_with_rank
from convolve.cntk.layers.blocks import activation_of
from convolve.cntk.ops import (
    AVG_POOLING,
    MAX_POOLING,
    MAX_UNPOOLING,
    batch_normalization,
    convolution,
    convolution_transpose,
    element_divide,
    elementwise,
    minus,
    pooling,
    reduce_mean,
    sqrt,
    square,
    squeeze,
    times,
    unpooling,
)
from convolve.cntk.ops.functions import BlockFunction, Function
from convolve.cntk.variables import Constant, InferredDimension, Parameter, as_shape

_GLOROT = default_override_or(glorot_uniform())
_ALL, _TIME, _EPSILON, _NO = (default_override_or(value) for value in (None, 5000, 0.00001, False))
_NO_ACTIVATION, _BIAS, _ZERO, _PAD = (default_override_or(value) for value in (None, True, 0, False))


def _chosen(layer: str, **given: Any) -> list[Any]:
    """The values of some keywords of a layer: those given, else those of `default_options`, else the layer's own."""
    return [current(name, v.value, layer) if isinstance(v, Unset) else v for name, v in given.items()]


def _activated(activation: Any, value: Any) -> Any:
    return activation_of(activation)(value) if activation is not None else value


def Dense(
    shape: Any, activation: Any = _NO_ACTIVATION, init: Any = _GLOROT, input_rank: Any = None, map_rank: Any = None,
    bias: Any = _BIAS, init_bias: Any = _ZERO, name: str = "",
) -> Function:  # fmt: skip
    """W x + b over the last `input_rank` axes, or all but the first `map_rank`; by default over all axes."""
    activation, init, bias, init_bias = _chosen(
        "Dense", activation=activation, init=init, bias=bias, init_bias=init_bias
    )
    if input_rank is not None and map_rank is not None:
        raise ValueError("Dense: input_rank and map_rank cannot be specified at the same time.")
    output_shape = as_shape(shape)
    rank = len(output_shape)
    inputs = (InferredDimension,) * (input_rank or 1)
    infer = -1 if input_rank is not None else map_rank or 0
    weight = Parameter(inputs + output_shape, init=initializer_with_rank(init, output_rank=rank), name="W")
    b = Parameter(output_shape, init=init_bias, name="b") if bias else None

    @BlockFunction("Dense", name)
    def dense(x: Any) -> Any:
        r = times(x, weight, output_rank=rank, infer_input_rank_to_map=infer)
        return _activated(activation, r if b is None else r + b)

    return dense


def Embedding(shape: Any = None, init: Any = _GLOROT, weights: Any = None, name: str = "") -> Function:
    if weights is None and shape is None:
        raise ValueError("Embedding: output shape must be specified")
    if weights is not None and (shape is not None or not isinstance(init, Unset)):
        raise ValueError("Embedding: output shape or init cannot be specified with weights")
    [init] = _chosen("Embedding", init=init)
    if weights is None:
        output = as_shape(shape)
        table: Any = Parameter((InferredDimension, *output), init=initializer_with_rank(init, len(output)), name="E")
    else:
        table = Constant(np.asarray(weights, np.float32), name="E")
    rank = len(table.shape) - 1

    @BlockFunction("Embedding", name)
    def embed(x: Any) -> Any:
        return times(x, table, output_rank=rank, infer_input_rank_to_map=0)

    return embed


def _spread(what: str, value: Any, size: tuple[int, ...]) -> tuple[Any, ...]:
    """One value for each axis of a window."""
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    if len(values) not in (1, len(size)):
        raise ValueError(
            f"{what} parameter ({values}) must be a scalar or have same number of elements as the filter_shape "
            f"parameter ({size})"
        )
    return values * len(size) if len(values) == 1 else values


def _geometry(size: tuple[int, ...], strides: Any, pad: Any, dilation: Any = 1) -> list[tuple[Any, ...]]:
    """(strides, padding, dilation), each with one value for each axis of a window."""
    given = {"strides": strides, "pad": pad, "dilation": dilation}
    return [_spread(what, value, size) for what, value in given.items()]


def Convolution(
    filter_shape: Any, num_filters: Any = None, sequential: bool = False, activation: Any = _NO_ACTIVATION,
    init: Any = _GLOROT, pad: Any = _PAD, strides: Any = 1, sharing: bool = True, bias: Any = _BIAS,
    init_bias: Any = _ZERO, reduction_rank: int = 1, transpose_weight: bool = False, dilation: Any = 1, groups: int = 1,
    max_temp_mem_size_in_samples: int = 0, op_name: str = "Convolution", name: str = "", input_num_filters: Any = None,
) -> Function:  # fmt: skip
    activation, init, pad, bias, init_bias = _chosen(
        "Convolution", activation=activation, init=init, pad=pad, bias=bias, init_bias=init_bias
    )
    if sequential:
        raise NotImplementedError("Convolution over a sequence is not supported; feed images")
    if not sharing:
        raise NotImplementedError("Convolution: sharing option currently must be True")
    if reduction_rank not in (0, 1):
        raise NotImplementedError("Convolution: reduction_rank must be 0 or 1")
    size = as_shape(filter_shape)
    rank = len(size)
    maps = () if num_filters in (None, ()) else as_shape(num_filters)
    out, inside = maps or (1,), (InferredDimension,) * reduction_rank
    if isinstance(init, np.ndarray) and not reduction_rank:
        init = init.reshape(*out, *size)
    weight = Parameter((*out, *inside, *size), init=initializer_with_rank(init, -len(out), rank), name="W")
    b = Parameter((*out, *(1,) * rank), init=init_bias, name="b") if bias else None
    steps, flags, spread = _geometry(size, strides, pad, dilation)

    @BlockFunction("Convolution", name)
    def convolve(x: Any) -> Any:
        r = convolution(
            weight, x, strides=(*inside, *steps) if not reduction_rank else steps, auto_padding=[False, *flags],
            dilation=(*(1,) * reduction_rank, *spread), reduction_rank=reduction_rank, groups=groups,
        )  # fmt: skip
        r = r if b is None else r + b
        if not maps and reduction_rank == 0:
            r = squeeze(r, 0)
        return _activated(activation, r)

    return convolve


def Convolution1D(filter_shape: Any, num_filters: Any = None, **options: Any) -> Function:
    return _of_rank(1, Convolution, filter_shape, num_filters, options)


def Convolution2D(
    filter_shape: Any, num_filters: Any = None, activation: Any = _NO_ACTIVATION, **options: Any
) -> Function:
    return _of_rank(2, Convolution, filter_shape, num_filters, {"activation": activation, **options})


def Convolution3D(filter_shape: Any, num_filters: Any = None, **options: Any) -> Function:
    return _of_rank(3, Convolution, filter_shape, num_filters, options)


def _of_rank(rank: int, layer: Any, filter_shape: Any, num_filters: Any, options: dict[str, Any]) -> Function:
    size = as_shape(filter_shape)
    if len(size) > rank:
        raise ValueError(
            f"{layer.__name__}{rank}D: filter_shape must be a scalar or a {rank}D tuple, e.g. {(3,) * rank}"
        )
    size = size * rank if len(size) == 1 else size
    return layer(size, num_filters, **options)  # type: ignore[no-any-return]


def ConvolutionTranspose(
    filter_shape: Any, num_filters: Any, activation: Any = _NO_ACTIVATION, init: Any = _GLOROT, pad: Any = _PAD,
    strides: Any = 1, sharing: bool = True, bias: Any = _BIAS, init_bias: Any = _ZERO, output_shape: Any = None,
    reduction_rank: int = 1, dilation: Any = 1, max_temp_mem_size_in_samples: int = 0, name: str = "",
) -> Function:  # fmt: skip
    activation, init, pad, bias, init_bias = _chosen(
        "ConvolutionTranspose", activation=activation, init=init, pad=pad, bias=bias, init_bias=init_bias
    )
    if not sharing:
        raise NotImplementedError("ConvolutionTranspose: sharing option currently must be True")
    size, out = as_shape(filter_shape), as_shape(num_filters)
    rank = len(size)
    weight = Parameter((InferredDimension, *out, *size), init=initializer_with_rank(init, -len(out), rank), name="W")
    b = Parameter((*out, *(1,) * rank), init=init_bias, name="b") if bias else None
    steps, flags, spread = _geometry(size, strides, pad, dilation)
    output = None if output_shape is None else (*out, *_spread("output_shape", output_shape, size))

    @BlockFunction("ConvolutionTranspose", name)
    def convolve_transposed(x: Any) -> Any:
        r = convolution_transpose(
            weight, x, strides=(1, *steps), auto_padding=[False, *flags], output_shape=output, dilation=spread
        )
        return _activated(activation, r if b is None else r + b)

    return convolve_transposed


def ConvolutionTranspose1D(filter_shape: Any, num_filters: Any = None, **options: Any) -> Function:
    return _of_rank(1, ConvolutionTranspose, filter_shape, num_filters, options)


def ConvolutionTranspose2D(
    filter_shape: Any, num_filters: Any = None, activation: Any = _NO_ACTIVATION, **options: Any
) -> Function:
    return _of_rank(2, ConvolutionTranspose, filter_shape, num_filters, {"activation": activation, **options})


def ConvolutionTranspose3D(filter_shape: Any, num_filters: Any = None, **options: Any) -> Function:
    return _of_rank(3, ConvolutionTranspose, filter_shape, num_filters, options)


def _pooled(op: int, filter_shape: Any, strides: Any, pad: Any, include_pad: bool = False, name: str = "") -> Function:
    size = as_shape(filter_shape)
    steps, flags, _ = _geometry(size, strides, pad)

    @BlockFunction("MaxPooling" if op == MAX_POOLING else "AveragePooling", name)
    def pool(x: Any) -> Any:
        return pooling(x, op, size, strides=steps, auto_padding=[False, *flags],
                       include_pad=include_pad)  # fmt: skip

    return pool


def MaxPooling(filter_shape: Any, strides: Any = 1, pad: Any = _PAD, name: str = "") -> Function:
    [pad] = _chosen("MaxPooling", pad=pad)
    return _pooled(MAX_POOLING, filter_shape, strides, pad, name=name)


def AveragePooling(
    filter_shape: Any, strides: Any = 1, pad: Any = _PAD, name: str = "", include_pad: bool = False
) -> Function:
    [pad] = _chosen("AveragePooling", pad=pad)
    return _pooled(AVG_POOLING, filter_shape, strides, pad, include_pad=include_pad, name=name)


def _global(op: int, op_name: str, name: str) -> Function:
    @BlockFunction(op_name, name)
    def pool(x: Any) -> Any:
        from convolve.cntk.ops.making import primitive

        return primitive("Pooling", x, poolingType=op, poolingWindowShape=(-2,), strides=(1,), autoPadding=[False],
                         lowerPad=(0,), upperPad=(0,), ceilOutDim=False, includePad=False)  # fmt: skip

    return pool


def GlobalMaxPooling(name: str = "") -> Function:
    return _global(MAX_POOLING, "GlobalMaxPooling", name)


def GlobalAveragePooling(name: str = "") -> Function:
    return _global(AVG_POOLING, "GlobalAveragePooling", name)


def MaxUnpooling(filter_shape: Any, strides: Any = 1, pad: Any = False, name: str = "") -> Function:
    size = as_shape(filter_shape)
    steps, flags, _ = _geometry(size, strides, pad)

    @BlockFunction("MaxUnpooling", name)
    def unpool(x: Any, y: Any) -> Any:
        return unpooling(x, y, MAX_UNPOOLING, size, strides=steps, auto_padding=[False, *flags])

    return unpool


def Dropout(dropout_rate: Any = None, keep_prob: Any = None, seed: Any = None, name: str = "") -> Function:
    if dropout_rate is None and keep_prob is None:
        raise ValueError("Dropout: either dropout_rate or keep_prob must be specified.")
    if dropout_rate is not None and keep_prob is not None:
        raise ValueError("Dropout: dropout_rate and keep_prob cannot be specified at the same time.")
    rate = 1 - keep_prob if dropout_rate is None else dropout_rate
    if not 0 <= rate < 1:
        raise ValueError("Dropout: dropout_rate must be in the interval [0,1)")

    @BlockFunction("Dropout", name)
    def drop(x: Any) -> Any:
        return elementwise.dropout(x, rate, seed=seed)

    return drop


def BatchNormalization(
    map_rank: Any = _ALL, init_scale: Any = 1, normalization_time_constant: Any = _TIME,
    blend_time_constant: float = 0, epsilon: Any = _EPSILON, use_cntk_engine: Any = _NO,
    disable_regularization: Any = _NO,
    name: str = "",
) -> Function:  # fmt: skip
    map_rank, constant_time, epsilon, engine, free = _chosen(
        "BatchNormalization", map_rank=map_rank, normalization_time_constant=normalization_time_constant,
        epsilon=epsilon, use_cntk_engine=use_cntk_engine, disable_regularization=disable_regularization,
    )  # fmt: skip
    if map_rank not in (None, 1):
        raise NotImplementedError("BatchNormalization: map_rank can only be 1 or None for now")
    shape = (InferredDimension,)
    scale = Parameter(shape, init=init_scale, name="scale")
    bias = Parameter(shape, init=0, name="bias")
    mean, variance = (Constant(0, shape=shape, name=f"aggregate_{what}") for what in ("mean", "variance"))
    count = Constant(0, shape=(), name="aggregate_count")

    @BlockFunction("BatchNormalization", name)
    def normalize(x: Any) -> Any:
        return batch_normalization(
            x, scale, bias, mean, variance, spatial=map_rank == 1, normalization_time_constant=constant_time,
            blend_time_constant=blend_time_constant, epsilon=epsilon, use_cudnn_engine=not engine,
            disable_regularization=free, running_count=count,
        )  # fmt: skip

    return normalize


def LayerNormalization(
    initial_scale: float = 1, initial_bias: float = 0, epsilon: Any = _EPSILON, name: str = ""
) -> Function:
    [epsilon] = _chosen("LayerNormalization", epsilon=epsilon)
    scale = Parameter((InferredDimension,), init=initial_scale, name="scale")
    bias = Parameter((InferredDimension,), init=initial_bias, name="bias")

    @BlockFunction("LayerNormalization", name)
    def normalize(x: Any) -> Any:
        centered = minus(x, reduce_mean(x))
        deviation = sqrt(reduce_mean(square(centered)))
        return element_divide(centered, deviation + epsilon) * scale + bias

    return normalize
