"""CNTK's convolutions, poolings, matrix products and batch normalization -> the neutral graph.

Source of the rules for windows: design of CNTK's ConvolveGeometry, checked against 60 cases of the real CNTK 2.7
(tests/golden/importers).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from convolve.errors import UnsupportedError
from convolve.graph.shapes import Shape, require
from convolve.importers.cntk.call import Call
from convolve.importers.cntk.cropping import crop
from convolve.importers.cntk.plain import Rule


@dataclass(frozen=True)
class _Axis:
    """What the file says about a window along one axis. `output` is the result's size, or 0."""

    window: int
    stride: int
    dilation: int
    auto: bool
    lower: int
    upper: int
    output: int

    @property
    def reach(self) -> int:
        """The cells from the first to the last that a dilated window reads."""
        return (self.window - 1) * self.dilation + 1

    def over(self, size: int, ceil: bool = False) -> tuple[int, int]:
        """(lower, upper): the padding with which the windows fit `size` cells exactly; negative padding crops.

        The upper padding is what the last window needs: cells beyond the image that a window reaches because of "ceil"
        are padding, and cells that no window reaches are left out. Automatic padding is not TensorFlow's "same": it
        centers the windows on the image, so that with a stride of 4 and a window of 1 the first one reads cell 1 of
        8, not cell 0.
        """
        reach, stride, lower = self.reach, self.stride, self.lower
        room = (size - 1 if self.auto else size + lower + self.upper - reach) + (stride - 1 if ceil else 0)
        require(room >= 0, f"a window of {reach} over {size} cells padded by {lower} and {self.upper}")
        last = room // stride * stride  # where the last window begins
        if self.auto:
            spare = size - (last + 1)
            before = abs(spare) // 2 * (1 if spare >= 0 else -1)  # C's division, which rounds towards 0
            lower = (reach - 1) // 2 - before
        return lower, last + reach - lower - size


def _axes(call: Call, window: Shape, rank: int) -> list[_Axis]:
    """One entry for each axis of the input, the slowest first."""
    x = call.attributes
    columns = [
        (window, 1),
        (x.get("strides", tuple, (1,)), 1),
        (x.get("dilation", tuple, (1,)), 1),
        (x.items("autoPadding", bool, [False]), False),
        (x.get("lowerPad", tuple, (0,)), 0),
        (x.get("upperPad", tuple, (0,)), 0),
        (x.get("outputShape", tuple, (0,)) or (0,), 0),
    ]
    each = (_completed(values, len(window), rank, fill) for values, fill in columns)
    axes = [_Axis(*values) for values in zip(*each, strict=True)]
    for axis in axes:
        require(
            min(axis.window, axis.stride, axis.dilation) >= 1, f"a window of {axis.window} with stride {axis.stride}"
        )
    return axes[::-1]


def _completed(values: Sequence[Any], window_rank: int, rank: int, fill: Any) -> list[Any]:
    """`rank` values from fewer: the last one is repeated for the window's axes, `fill` for those beyond."""
    require(1 <= len(values) <= rank, f"{len(values)} values for {rank} axes")
    repeated = [*values, *[values[-1]] * (window_rank - len(values))]
    return [*repeated, *[fill] * (rank - len(repeated))]


def _geometry(axes: list[_Axis], sizes: Sequence[int], ceil: bool = False) -> dict[str, Any]:
    ends = [axis.over(size, ceil) for axis, size in zip(axes, sizes, strict=True)]
    return {
        "strides": tuple(axis.stride for axis in axes),
        "lower": tuple(lower for lower, _ in ends),
        "upper": tuple(upper for _, upper in ends),
    }


# -- convolution ------------------------------------------------------------------------------------------------------


def _require_planes(call: Call) -> None:
    if call.attributes.get("imageLayout", int, 1) != 1:
        raise UnsupportedError("its images are stored as (H, W, C), as CNTK did before cuDNN")


def _convolution(call: Call) -> str:
    _require_planes(call)
    weight, x = call.operand(0), call.operand(1)
    shape, weight_shape = call.shape(1), call.shape(0)
    if call.attributes.get("sequential", bool, False):
        raise UnsupportedError("it convolves along a sequence")
    call.refuse_batched(range(1), "weights of a convolution")
    if not all(call.attributes.items("sharing", bool, [True])):
        raise UnsupportedError("its weights are not shared between places (sharing=false)")
    require(len(shape) >= 2, f"it cannot convolve shape {shape}")
    channels, *spatial = _axes(call, _kernel(call), len(shape))
    if call.attributes.get("transpose", bool, False):
        return _transposed(call, channels, spatial)
    groups = call.attributes.get("groups", int, 1)
    if groups == 1:
        _require_all_channels(channels, shape[0])
    window = (channels.window, *(axis.window for axis in spatial))
    maps = prod(weight_shape) // prod(window)
    require(
        maps * prod(window) == prod(weight_shape),
        f"the weight of shape {weight_shape} does not fit the kernel {window}",
    )
    dilation = tuple(axis.dilation for axis in spatial)
    weight = call.reshaped(weight, (maps, *window))
    return call.add("convolution", x, weight, groups=groups, dilation=dilation, **_geometry(spatial, shape[1:]))


def _kernel(call: Call) -> Shape:
    """The kernel, fastest axis first. 2-D convolutions of v1 leave out the depth; a 0 is what CNTK was to infer."""
    kernel = call.attributes.get("kernelShape", tuple, call.shape(0)[:0:-1])
    if call.attributes.get("wholeDepth", bool, False) and len(kernel) == 2:
        kernel = (*kernel, call.shape(1)[0])
    weight = call.shape(0)[::-1]
    require(all(kernel) or len(kernel) < len(weight), f"the kernel {kernel} does not fit the weight of shape {weight}")
    return tuple(size or weight[axis] for axis, size in enumerate(kernel))


def _require_all_channels(axis: _Axis, channels: int) -> None:
    lower, upper = axis.over(channels)
    slides = channels + lower + upper > axis.reach
    if axis.window != channels or slides or lower:
        raise UnsupportedError(
            f"its kernel reads {axis.window} of {channels} channels; either it slides over the channels, or it is a "
            "grouped convolution from a v1 file, which does not hold the number of groups"
        )


def _transposed(call: Call, channels: _Axis, spatial: list[_Axis]) -> str:
    """The adjoint of the convolution that leads from the output back to the input."""
    if call.attributes.get("groups", int, 1) != 1:
        raise UnsupportedError("it is a transposed convolution with groups")
    shape = call.shape(1)
    window = (channels.window, *(axis.window for axis in spatial))
    lower, output = [], []
    for axis, size in zip(spatial, shape[1:], strict=True):
        # CNTK ignores dilation in the size that it infers.
        full = (size - 1) * axis.stride + (1 if axis.auto else axis.window - axis.lower - axis.upper)
        output.append(axis.output or full)
        require(output[-1] >= 1, f"its output has {output[-1]} cells")
        lower.append(axis.over(output[-1])[0] if axis.auto else axis.lower)
    weight = call.reshaped(call.operand(0), (shape[0], *window))
    return call.add(
        "convolution_transpose", call.operand(1), weight, groups=1, lower=tuple(lower), output=tuple(output),
        strides=tuple(axis.stride for axis in spatial), dilation=tuple(axis.dilation for axis in spatial),
    )  # fmt: skip


# -- pooling ----------------------------------------------------------------------------------------------------------


def _pool(call: Call) -> str:
    _require_planes(call)
    kind = call.attributes.get("poolingType", int)
    require(kind in (0, 1), f"pooling type {kind}")
    ceil = call.attributes.get("ceilOutDim", bool, False)
    if kind == 0:
        return _over_windows(call, "max_pool", "poolingWindowShape", ceil)
    divisor = "window" if call.attributes.get("includePad", bool, False) else "real"
    return _over_windows(call, "average_pool", "poolingWindowShape", ceil, divisor=divisor)


def _over_windows(call: Call, op: str, window_name: str, ceil: bool, **attributes: Any) -> str:
    """A pooling of (C, ...) values. A window that extends over the channels gets a channel axis of size 1 in front."""
    image = call.shape(len(call.operands) - 1)
    window = call.attributes.get(window_name, tuple)
    if -2 in window:  # written before CNTK knew the image's size: the whole image
        window = image[:0:-1]
    axes = _axes(call, window, len(image))
    flat = (axes[0].window, axes[0].stride) != (1, 1)
    spatial, sizes = (axes, image) if flat else (axes[1:], image[1:])
    values = [call.reshaped(key, (1, *call.draft.shape(key))) if flat else key for key in call.operands]
    windows = tuple(axis.window for axis in spatial)
    result = call.add(op, *values, window=windows, **_geometry(spatial, sizes, ceil), **attributes)
    return call.reshaped(result, call.draft.shape(result)[1:]) if flat else result


def _roi_pool(call: Call) -> str:
    if "spatialScale" not in call.attributes:
        raise UnsupportedError("its regions of interest have the relative coordinates of CNTK before 2.2")
    output = call.attributes.get("roiOutputShape", tuple)[::-1]
    kind = call.attributes.get("poolingType", int, 0)
    require(kind in (0, 1), f"pooling type {kind}")
    scale = call.attributes.get("spatialScale", float)
    return call.add("roi_pool", *call.operands, output=output, scale=scale, kind=("max", "average")[kind])


# -- products and batch normalization ---------------------------------------------------------------------------------


def _times(call: Call) -> str:
    """W x: the first operand is the weight. The `outputRank` fastest axes of the weight are the result's."""
    weight, x = call.operand(0), call.operand(1)
    contracted = len(call.shape(0)) - call.attributes.get("outputRank", int, 1)
    require(
        contracted >= 0,
        f"a weight of shape {call.shape(0)} has no {call.attributes.get('outputRank', int, 1)} output axes",
    )
    matrix, image = call.shape(0), call.shape(1)
    may_flatten = call.attributes.get("flattenInput", bool, False)
    if may_flatten and contracted == 1 and image[-1:] != matrix[:1] == (prod(image),):
        x = call.reshaped(x, matrix[:1])  # v1 networks multiply images with matrices without a reshape
    return call.add("linear", x, weight, contracted=contracted, transposed=False)


def _transpose_times(call: Call) -> str:
    """A^T x. A vector is a matrix of one column; criteria multiply two vectors, labels and logits."""
    rank, matrix = call.attributes.get("outputRank", int, 1), call.shape(0)
    require(len(matrix) in (1, 2) and rank == 1, f"it cannot transpose shape {matrix} with output rank {rank}")
    if matrix == call.shape(1) and len(matrix) == 1:
        return call.add("reduce_sum", call.add("multiply", *call.operands), axes=(0,), keep_dims=True)
    weight = call.reshaped(call.operand(0), (1, *matrix)) if len(matrix) == 1 else call.operand(0)
    return call.add("linear", call.operand(1), weight, contracted=1, transposed=True)


def _batch_normalization(call: Call) -> str:
    """The operands are x, scale, bias, mean, variance and, since v1's version 19, the number of samples seen."""
    _require_planes(call)
    call.refuse_batched(range(1, len(call.operands)), "statistics of a batch normalization")
    x, operands = call.attributes, list(call.operands)
    if x.get("inverseDeviation", bool, False):
        operands[4:5] = [_variance(call, x.get("epsilon", float, 1e-5))]
    if len(operands) == 5 and "runCount" in x:
        operands.append(call.constant(x.get("runCount", float)))
    return call.add(
        "batch_normalization", *operands, spatial=x.get("spatial", bool), epsilon=x.get("epsilon", float, 1e-5),
        time_constant_samples=x.get("normalizationTimeConstant", float, 5000.0),
        blend_time_constant_samples=x.get("blendTimeConstant", float, 0.0),
    )  # fmt: skip


def _variance(call: Call, epsilon: float) -> str:
    """The variance from old files' inverse standard deviation; like CNTK, this adds epsilon once more."""
    inverse = call.draft.array(call.operand(4))
    if inverse is None:
        raise UnsupportedError("its statistics are computed, not stored")
    with np.errstate(divide="ignore"):
        return call.constant(1 / inverse**2 + inverse.dtype.type(epsilon))


LAYER_RULES: dict[str, Rule] = {
    "Convolution": _convolution,
    "Pooling": _pool,
    "Unpooling": lambda call: _over_windows(call, "max_unpool", "unpoolingWindowShape", ceil=False),
    "ROIPooling": _roi_pool,
    "Times": _times,
    "TransposeTimes": _transpose_times,
    "BatchNormalization": _batch_normalization,
    "Crop": crop,
}
