"""Products, convolutions, poolings, normalizations."""

import warnings
from collections.abc import Sequence
from typing import Any

from convolve.cntk.axis import Axis
from convolve.cntk.nodes import resolved
from convolve.cntk.ops import elementwise, sequence, shaping
from convolve.cntk.ops.functions import Function
from convolve.cntk.ops.making import block, operands_of, primitive
from convolve.cntk.variables import Variable, as_shape

MAX_POOLING, AVG_POOLING = 0, 1
MAX_UNPOOLING = 0
TIMES_NO_INFERRED_INPUT_RANK, TIMES_REDUCE_SEQUENCE_AXIS_WITHOUT_INFERRED_INPUT_RANK = -1, -2


def times(left: Any, right: Any, output_rank: int = 1, infer_input_rank_to_map: int = -1, name: str = "") -> Function:
    """left @ right: the last axes of `left` meet the first of `right`, of which the last `output_rank` remain."""
    left, right = operands_of(left, right)
    if infer_input_rank_to_map == TIMES_REDUCE_SEQUENCE_AXIS_WITHOUT_INFERRED_INPUT_RANK:
        return sequence.reduce_sum(times(left, right, output_rank), name)
    return primitive("Times", right, left, name=name, outputRank=int(output_rank),
                     inferInputRankToMap=int(infer_input_rank_to_map))  # fmt: skip


def times_transpose(left: Any, right: Any, name: str = "") -> Function:
    left, right = operands_of(left, right)
    return primitive("TransposeTimes", right, left, name=name, outputRank=1)


def _flags(values: Any) -> list[bool]:
    return [bool(value) for value in (values if isinstance(values, list | tuple) else [values])][::-1]


def _with_channels(weight: Variable, x: Variable, transposed: bool) -> tuple[Any, Any]:
    """A kernel without channel axis gets one of size 1, and so do the maps."""
    known = resolved(x).known_shape
    rank = max(len(weight.shape) - 1, 1) if known is None else len(known)
    maps, kernel = weight.shape[: len(weight.shape) - rank] or (1,), weight.shape[len(weight.shape) - rank :]
    reshaped = shaping.reshape(weight, (1, *maps, *kernel) if transposed else (*maps, 1, *kernel))
    return reshaped, shaping.expand_dims(x, Axis.new_leading_axis())


def convolution(
    convolution_map: Any, operand: Any, strides: Any = (1,), sharing: Any = (True,), auto_padding: Any = (True,),
    sequential: bool = False, dilation: Any = (1,), reduction_rank: int = 1, groups: int = 1,
    max_temp_mem_size_in_samples: int = 0, name: str = "",
) -> Function:  # fmt: skip
    """`convolution_map`: (maps, channels, rows, columns)."""
    weight, x = operands_of(convolution_map, operand)
    flags = _flags(auto_padding)
    if groups > 1 and flags[-1] and len(flags) in (1, len(weight.shape) - 1):
        raise NotImplementedError(
            f"convolution: groups={groups} with padding along the channels is not supported; leave the channels out, "
            f"auto_padding={[False, *[True] * (len(weight.shape) - 2)]}"
        )
    if reduction_rank == 0:
        return convolution(*_with_channels(weight, x, False), strides, sharing, auto_padding, sequential=sequential,
                           dilation=dilation, groups=groups, name=name)  # fmt: skip
    return primitive(
        "Convolution", weight, x, name=name, strides=as_shape(strides)[::-1], sharing=_flags(sharing),
        autoPadding=_flags(auto_padding), lowerPad=(0,), upperPad=(0,), dilation=as_shape(dilation)[::-1],
        transpose=False, outputShape=(0,), groups=int(groups), sequential=bool(sequential),
        maxTempMemSizeInSamples=int(max_temp_mem_size_in_samples),
    )  # fmt: skip


def convolution_transpose(
    convolution_map: Any, operand: Any, strides: Any = (1,), sharing: Any = (True,), auto_padding: Any = (True,),
    output_shape: Any = None, dilation: Any = (1,), reduction_rank: int = 1, max_temp_mem_size_in_samples: int = 0,
    name: str = "",
) -> Function:  # fmt: skip
    """`convolution_map`: (channels, maps, rows, columns)."""
    weight, x = operands_of(convolution_map, operand)
    if reduction_rank == 0:
        return convolution_transpose(*_with_channels(weight, x, True), strides, sharing, auto_padding,
                                     output_shape=output_shape, dilation=dilation, name=name)  # fmt: skip
    output = (0,) if output_shape is None else as_shape(output_shape)[::-1]
    return primitive(
        "Convolution", weight, x, name=name, strides=as_shape(strides)[::-1], sharing=_flags(sharing),
        autoPadding=_flags(auto_padding), lowerPad=(0,), upperPad=(0,), dilation=as_shape(dilation)[::-1],
        transpose=True, outputShape=output, groups=1, maxTempMemSizeInSamples=int(max_temp_mem_size_in_samples),
    )  # fmt: skip


def pooling(
    operand: Any, pooling_type: int, pooling_window_shape: Any, strides: Any = (1,), auto_padding: Any = (False,),
    ceil_out_dim: bool = False, include_pad: bool = False, name: str = "",
) -> Function:  # fmt: skip
    return primitive(
        "Pooling", operand, name=name, poolingType=int(pooling_type),
        poolingWindowShape=as_shape(pooling_window_shape)[::-1], strides=as_shape(strides)[::-1],
        autoPadding=_flags(auto_padding), lowerPad=(0,), upperPad=(0,), ceilOutDim=bool(ceil_out_dim),
        includePad=bool(include_pad),
    )  # fmt: skip


def unpooling(
    operand: Any, pooling_input: Any, unpooling_type: int, unpooling_window_shape: Any, strides: Any = (1,),
    auto_padding: Any = (False,), name: str = "",
) -> Function:  # fmt: skip
    return primitive(
        "Unpooling", operand, pooling_input, name=name, poolingType=int(unpooling_type),
        unpoolingWindowShape=as_shape(unpooling_window_shape)[::-1], strides=as_shape(strides)[::-1],
        autoPadding=_flags(auto_padding), lowerPad=(0,), upperPad=(0,),
    )  # fmt: skip


def roipooling(
    operand: Any, rois: Any, pooling_type: int, roi_output_shape: Any, spatial_scale: float, name: str = ""
) -> Function:
    return primitive("ROIPooling", operand, rois, name=name, poolingType=int(pooling_type),
                     roiOutputShape=as_shape(roi_output_shape)[::-1], spatialScale=float(spatial_scale))  # fmt: skip


def batch_normalization(
    operand: Any, scale: Any, bias: Any, running_mean: Any, running_inv_std: Any, spatial: bool,
    normalization_time_constant: float = 5000, blend_time_constant: float = 0, epsilon: float = 0.00001,
    use_cudnn_engine: bool = False, disable_regularization: bool = False, name: str = "", running_count: Any = None,
) -> Function:  # fmt: skip
    """`running_inv_std` is the running variance; its name is CNTK's."""
    if running_count is None:
        warnings.warn("batch_normalization: running_count will be required in a future version of CNTK", stacklevel=2)
    statistics = [running_mean, running_inv_std, *([] if running_count is None else [running_count])]
    return primitive(
        "BatchNormalization", operand, scale, bias, *statistics, name=name, spatial=bool(spatial),
        normalizationTimeConstant=float(normalization_time_constant), blendTimeConstant=float(blend_time_constant),
        epsilon=float(epsilon), useCuDNNEngine=bool(use_cudnn_engine),
        disableRegularization=bool(disable_regularization),
    )  # fmt: skip


def local_response_normalization(
    operand: Any, depth_radius: int, bias: float, alpha: float, beta: float, name: str = ""
) -> Function:
    """x / (bias + alpha / n * sum of x^2 over n channels)^beta, n = 2 * depth_radius + 1."""
    size, image = 2 * int(depth_radius) + 1, operands_of(operand)[0]
    window = min(size, image.shape[0]) if image.known_shape and image.shape[0] > 0 else size  # as CNTK rounds it

    def made(x: Any) -> Function:
        import numpy as np

        squares = shaping.expand_dims(elementwise.square(x), Axis.new_leading_axis())
        kernel = np.full((1, 1, window, 1, 1), alpha / size, image.data_type)
        total = convolution(kernel, squares, reduction_rank=1, auto_padding=[False, True, True, True])
        base = elementwise.plus(shaping.squeeze(total, 0), bias)
        power = elementwise.exp(elementwise.element_times(beta, elementwise.log(base)))
        return elementwise.element_times(x, elementwise.reciprocal(power))

    attributes = {"depthRadius": depth_radius, "bias": float(bias), "alpha": float(alpha), "beta": float(beta)}
    return block("LocalResponseNormalization", made, operand, name=name, attributes=attributes)


def mean_variance_normalization(
    operand: Any, epsilon: float = 0.00001, use_stats_across_channels: bool = False, do_variance_scaling: bool = True,
    name: str = "",
) -> Function:  # fmt: skip
    if epsilon < 0:
        raise ValueError("epsilon must be non-negative.")
    axes: Sequence[int] | None = None if use_stats_across_channels else list(range(1, len(operand.shape)))

    def made(x: Any) -> Function:
        centered = elementwise.minus(x, shaping.reduce_mean(x, axes))
        if not do_variance_scaling:
            return centered
        variance = shaping.reduce_mean(elementwise.square(centered), axes)
        return elementwise.element_divide(centered, elementwise.plus(elementwise.sqrt(variance), epsilon))

    return block("MeanVarianceNormalization", made, operand, name=name)


def image_scaler(x: Any, scalar: float, biases: Sequence[float], name: str = "") -> Function:
    import numpy as np

    def made(x: Any) -> Function:
        shift = np.asarray(biases, np.float32).reshape(-1, 1, 1)
        return elementwise.plus(elementwise.element_times(x, scalar), shift)

    return block("ImageScaler", made, x, name=name)
