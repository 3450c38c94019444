"""CNTK's operations on variables and functions."""

from types import ModuleType
from typing import Any

import numpy as np

from convolve.cntk.axis import Axis
from convolve.cntk.losses import (
    binary_cross_entropy,
    cosine_distance,
    cross_entropy_with_softmax,
    fmeasure,
    squared_error,
    weighted_binary_cross_entropy,
)
from convolve.cntk.metrics import classification_error
from convolve.cntk.nodes import Node
from convolve.cntk.ops import sequence
from convolve.cntk.ops.elementwise import *
from convolve.cntk.ops.functions import (
    BlockFunction,
    CloneMethod,
    Function,
    ModelFormat,
    as_block,
    as_composite,
    as_function,
    as_variable,
    combined,
)
from convolve.cntk.ops.sequence import reconcile_dynamic_axes, to_sequence, to_sequence_like
from convolve.cntk.ops.shaping import *
from convolve.cntk.ops.user_functions import UserFunction, user_function
from convolve.cntk.ops.windows import *
from convolve.cntk.sampling import random_sample, random_sample_inclusion_frequency
from convolve.cntk.variables import (
    Constant,
    FreeDimension,
    InferredDimension,
    Input,
    Parameter,
    Placeholder,
    Variable,
    as_shape,
)


def combine(*operands: Any, **kwargs: Any) -> Function:
    """One function with the outputs of several."""
    name = kwargs.get("name", "")
    listed = operands[0] if len(operands) == 1 and isinstance(operands[0], list | tuple) else operands
    return combined(listed, name)


def input_variable(
    shape: Any, dtype: Any = None, needs_gradient: bool = False, is_sparse: bool = False, dynamic_axes: Any = None,
    name: str = "",
) -> Variable:  # fmt: skip
    """An input of the network; `shape` is that of one sample."""
    axes = [Axis.default_batch_axis()] if dynamic_axes is None else dynamic_axes
    axes = tuple(axes) if isinstance(axes, list | tuple) else (axes,)
    if axes and not any(axis.is_batch_axis for axis in axes):
        axes = (Axis.default_batch_axis(), *axes)
    found = Input(as_shape(shape), dtype=_default_type(dtype), name=name, dynamic_axes=axes)
    found.needs_gradient, found.is_sparse = bool(needs_gradient), bool(is_sparse)
    return found


input = input_variable


def _default_type(dtype: Any) -> Any:
    from convolve.cntk.default_options import current

    return current("dtype", np.float32) if dtype is None else dtype


def output_variable(shape: Any, dtype: Any, dynamic_axes: Any, needs_gradient: bool = True, name: str = "") -> Variable:
    return Variable(as_shape(shape), dtype=dtype, dynamic_axes=tuple(dynamic_axes), name=name)


def placeholder(shape: Any = None, dynamic_axes: Any = None, name: str = "") -> Placeholder:
    """A variable that is replaced later."""
    known = None if shape is None else as_shape(shape)
    axes = dynamic_axes
    if dynamic_axes is not None:
        axes = (dynamic_axes,) if isinstance(dynamic_axes, Axis) else tuple(dynamic_axes)
    return Placeholder(known, name=name, dynamic_axes=axes)


placeholder_variable = placeholder


def parameter(shape: Any = None, init: Any = None, dtype: Any = None, device: Any = None, name: str = "") -> Parameter:
    """A learnable parameter."""
    return Parameter(shape, init, dtype, device, name)


def constant(value: Any = None, shape: Any = None, dtype: Any = None, device: Any = None, name: str = "") -> Constant:
    return Constant(value, shape, dtype, device, name)


__all__ = [
    name for name, value in list(globals().items()) if not (name.startswith("_") or isinstance(value, ModuleType))
]
_ = FreeDimension, InferredDimension

from convolve.cntk import refused as _refused

__getattr__ = _refused.attribute(__name__)
