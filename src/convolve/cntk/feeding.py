"""What programs feed: arrays and lists of any type, sparse matrices, CNTK's values, with or without a batch axis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from convolve.cntk import device as devices
from convolve.cntk.axis import Axis
from convolve.cntk.variables import TORCH_TYPES, Shape, Variable, shape_in_words

Array = NDArray[Any]


@dataclass(eq=False)
class Fed:
    """`tensor`: all samples, one after the other; `lengths`: the length of each sequence, None if unknown."""

    tensor: torch.Tensor
    lengths: list[int] | None = None

    @property
    def shape(self) -> Shape:
        return tuple(self.tensor.shape[1:])


class Minibatch(dict[Variable, Fed]):
    """The fed values, and the lengths of sequences that the network itself created."""

    def __init__(self, fed: Mapping[Variable, Fed]) -> None:
        super().__init__(fed)
        self.made: dict[Axis, list[int]] = {}

    def lengths(self, axis: Axis) -> list[int] | None:
        return self.made.get(axis) or lengths_of(self).get(axis)


def lengths_of(given: Mapping[Variable, Fed]) -> dict[Axis, list[int]]:
    """For each sequence axis in what is fed, the lengths of its sequences."""
    found: dict[Axis, list[int]] = {}
    for variable, each in given.items():
        if variable.is_sequence:
            lengths = each.lengths or [1] * len(each.tensor)
            if found.setdefault(variable.dynamic_axes[1], lengths) != lengths:
                axis = variable.dynamic_axes[1].name
                raise ValueError(
                    f"the arguments' sequences along '{axis}' have different lengths; give them different axes"
                )
    return found


class Sparse:
    """Values in a dense array that a sparse variable accepts."""

    def __init__(self, array: Array) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def tocsr(self) -> Self:
        return self

    def toarray(self) -> Array:
        return self.array

    todense = toarray

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        return self.array if dtype is None else self.array.astype(dtype)


def feed(variable: Variable, value: Any) -> Fed:
    """`value` as the samples of `variable`."""
    value = getattr(value, "samples_for_feeding", value)
    if isinstance(value, Fed):
        return _of_reader(variable, value)
    if hasattr(value, "tocsr"):
        array = value.toarray()
        rows = array.reshape(-1, *_sizes(variable, array.shape[1:]))
        return Fed(_tensor(variable, rows), [1] * len(rows) if variable.is_sequence else None)
    is_listed = isinstance(value, list | tuple) and bool(value)
    if variable.is_sparse and not (is_listed and hasattr(value[0], "tocsr")):
        raise ValueError(f"Dense input data supplied for sparse input Variable '{variable}'.")
    if isinstance(value, list | tuple) and value and variable.is_sequence:
        return _sequences(variable, value)
    if isinstance(value, list | tuple) and value and hasattr(value[0], "tocsr"):
        value = np.stack([item.toarray() for item in value])
    array = np.asarray(value)
    if array.dtype == object:
        return _sequences(variable, value)
    rank = len(variable.shape)
    if not _fits(array.shape[max(array.ndim - rank, 0) :], variable.shape):
        raise ValueError(
            f"The trailing dimensions of the Value shape '{shape_in_words(array.shape)}' do not match the Variable "
            f"'{variable}' shape '{shape_in_words(variable.shape)}'."
        )
    if not variable.has_batch_axis:
        return Fed(_tensor(variable, array[0] if array.ndim == rank + 1 and len(array) == 1 else array))
    if array.ndim == rank + 2 and variable.is_sequence:
        tensor = _tensor(variable, array.reshape(-1, *array.shape[2:]))
        return Fed(tensor, [array.shape[1]] * len(array))
    if array.ndim == rank + 2 and array.shape[1] == 1:  # a sequence axis of length one
        array = array[:, 0]
    if array.ndim == rank:
        array = array[None]
    if array.ndim != rank + 1:
        raise ValueError(
            f"Value rank ({array.ndim}) should be larger than the Variable rank ({rank}) at most by number of dynamic "
            f"axes ({len(variable.dynamic_axes)})"
        )
    return Fed(_tensor(variable, array), [len(array)] if variable.is_sequence else None)


def _of_reader(variable: Variable, value: Fed) -> Fed:
    """A reader's vectors, in the form that the variable has."""
    tensor = value.tensor.to(devices.used(), TORCH_TYPES[variable.data_type])
    if prod(tensor.shape[1:]) != prod(variable.shape) and min(variable.shape, default=0) >= 0:
        raise ValueError(
            f"The trailing dimensions of the Value shape '{shape_in_words(tuple(tensor.shape))}' do not match the "
            f"Variable '{variable}' shape '{shape_in_words(variable.shape)}'."
        )
    lengths = value.lengths or [1] * len(tensor)
    if not variable.is_sequence and max(lengths, default=1) > 1:
        what = f"'{variable}' has no sequence axis, but was given sequences of up to {max(lengths)} samples"
        raise ValueError(f"{what}; create it with cntk.sequence.input_variable")
    return Fed(tensor.reshape(-1, *variable.shape), lengths if variable.is_sequence else None)


def _sequences(variable: Variable, value: Sequence[Any]) -> Fed:
    arrays = [item.toarray() if hasattr(item, "tocsr") else np.asarray(item) for item in value]
    parts = [_samples(variable, array) for array in arrays]
    return Fed(_tensor(variable, np.concatenate(parts)), [len(part) for part in parts])


def _samples(variable: Variable, part: Array) -> Array:
    """Samples with a batch axis in front; an array without structure is cut into samples."""
    shape, rank = variable.shape, len(variable.shape)
    if not _fits(part.shape[max(part.ndim - rank, 0) :], shape) and min(shape) > 0 and part.size % prod(shape) == 0:
        return part.reshape(-1, *shape)
    return part[None] if part.ndim == rank else part


def _sizes(variable: Variable, found: Shape) -> Shape:
    return found if any(size < 0 for size in variable.shape) else variable.shape


def _fits(found: Shape, wanted: Shape) -> bool:
    return len(found) == len(wanted) and all(b < 0 or a == b for a, b in zip(found, wanted, strict=True))


def _tensor(variable: Variable, array: Array) -> torch.Tensor:
    dtype = variable.data_type
    copy = np.ascontiguousarray(array, dtype)
    return torch.from_numpy(copy if copy.flags.writeable else copy.copy()).to(devices.used())


def shown(variable: Variable, tensor: torch.Tensor, given: Minibatch, as_numpy: bool) -> Any:
    """A value as programs get it: one array, or a list with one array per sequence."""
    array = tensor.detach().cpu().numpy()
    if not variable.has_batch_axis:
        array = array.copy()  # might share a parameter's memory
    lengths = given.lengths(variable.dynamic_axes[1]) if variable.is_sequence else None
    if lengths:
        ends = np.cumsum(lengths)
        parts = [array[end - length : end] for end, length in zip(ends, lengths, strict=True)]
        return parts if as_numpy else _value(variable, parts)
    if not as_numpy:
        return _value(variable, array)
    return _value(variable, array).asarray() if variable.is_sparse and array.ndim == 2 else array


def _value(variable: Variable, data: Any) -> Any:
    from convolve.cntk.core import Value

    value = Value(data)
    value.is_sparse = variable.is_sparse
    return value
