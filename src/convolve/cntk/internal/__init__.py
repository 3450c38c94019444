"""CNTK's internal helpers that programs and CNTK's tests use."""

from typing import Any

import numpy as np

from convolve.cntk.core import Value
from convolve.cntk.ops.functions import as_variable
from convolve.cntk.variables import Variable, as_shape

_TYPES = {
    "float": np.float32,
    "float32": np.float32,
    "double": np.float64,
    "float64": np.float64,
    "float16": np.float16,
}


def sanitize_dtype_cntk(dtype: Any) -> Any:
    if isinstance(dtype, str):
        if dtype not in _TYPES:
            raise ValueError(f'data type "{dtype}" is not supported')
        return _TYPES[dtype]
    found = np.dtype(np.float32 if dtype is None or dtype is int else dtype).type
    if found not in _TYPES.values():
        raise ValueError(f'data type "{dtype}" is not supported')
    return found


sanitize_dtype_numpy = sanitize_precision = sanitize_dtype_cntk


def sanitize_input(arg: Any, fallback_dtype: Any = np.float32, reshape: Any = None) -> Variable:
    return as_variable(arg, fallback_dtype)


def sanitize_shape(shape: Any) -> tuple[int, ...]:
    return as_shape(shape)


def sanitize_value(shape: Any, value: Any, dtype: Any, device: Any) -> Any:
    array = np.asarray(value if value is not None else 0, dtype)
    return np.broadcast_to(array, as_shape(shape)).copy() if shape is not None else array


def _value_as_sequence_or_array(value: Any, variable: Variable) -> Any:
    if isinstance(value, Value) and variable.is_sequence:
        return value.as_sequences(variable)
    return np.asarray(value)
