"""Values: arrays with their batch and sequence axes."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from convolve.cntk.device import DeviceDescriptor, cpu
from convolve.cntk.feeding import Fed, Sparse
from convolve.cntk.variables import Variable, as_shape, data_type_of
from convolve.cntk.wire_writer import DATA_TYPES

Array = NDArray[Any]


def csr(array: Array) -> Any:
    """A csr matrix of scipy; without scipy, one that can be fed, read and made dense."""
    matrix = array.reshape(-1, array.shape[-1])
    try:
        return importlib.import_module("scipy.sparse").csr_matrix(matrix)
    except ImportError:
        return Sparse(matrix)


class Held:
    """What arrays and minibatches have in common; CNTK's binary module has these methods."""

    array: Array
    is_sparse: bool = False
    is_read_only = False
    is_valid = True

    def __str__(self) -> str:
        sizes = " x ".join(map(str, self.shape))
        sparse = ", sparse" if self.is_sparse else ""
        return f"{type(self).__name__}([{sizes}], CPU{sparse})"

    __repr__ = __str__

    def as_string(self) -> str:
        return str(self)

    def get_data_type(self) -> int:
        return DATA_TYPES.get(self.array.dtype, 1)

    def deep_clone(self, device: Any = None, read_only: bool = False) -> Any:
        made = copy.copy(self)
        made.array, made.is_read_only = self.array.copy(), bool(read_only)
        return made

    def alias(self, read_only: bool = False) -> Any:
        """A value that shares the same memory."""
        made = copy.copy(self)
        made.is_read_only = bool(read_only)
        return made

    def copy_from(self, source: Any) -> None:
        if not isinstance(source, type(self)):
            raise TypeError(f"copy_from takes a {type(self).__name__}, not {type(source)}")
        self.array[...] = source.array

    def __len__(self) -> int:
        return len(self.array)

    @property
    def device(self) -> DeviceDescriptor:
        return cpu()

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> Any:
        return self.array.dtype.type

    @property
    def samples_for_feeding(self) -> Any:
        return Sparse(self.array) if self.is_sparse else self.array

    def asarray(self) -> Any:
        """A numpy array; a csr matrix of sparse vectors."""
        return csr(self.array) if self.is_sparse else self.array

    def to_ndarray(self) -> Array:
        return self.array

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        return self.array if dtype is None else self.array.astype(dtype)


class NDArrayView(Held):
    """An array, under CNTK's name."""

    def __init__(self, shape: Any, data_type: Any, device: Any = None) -> None:
        self.array = np.zeros(as_shape(shape), data_type_of(data_type))
        self.is_slice = False

    @staticmethod
    def from_dense(np_array: Any, device: Any = None, read_only: bool = False, borrow: bool = False) -> NDArrayView:
        if not isinstance(np_array, np.ndarray):
            raise TypeError(f"data must be of type numpy.ndarray and not {type(np_array)}")
        if np_array.dtype not in (np.float32, np.float64, np.float16, np.int8, np.int16):
            raise RuntimeError(
                f"NumPy array of type int8, int16, float16, float32 or float64 expected: {np_array.dtype}"
            )
        made = NDArrayView((), np_array.dtype)
        made.array = np_array if borrow else np.array(np_array)
        made.is_read_only = bool(read_only)
        return made

    @staticmethod
    def from_data(data: Any, device: Any = None, read_only: bool = False, borrow: bool = False) -> NDArrayView:
        if hasattr(data, "tocsr"):
            return NDArrayView.from_csr(data, device, read_only, borrow)
        return NDArrayView.from_dense(data, device, read_only, borrow)

    @staticmethod
    def from_csr(
        csr_array: Any, device: Any = None, read_only: bool = False, borrow: bool = False, shape: Any = None
    ) -> NDArrayView:
        if not hasattr(csr_array, "tocsr"):
            raise TypeError("only CSR is supported as of now. Please convert your data using 'tocsr()'")
        dense = np.asarray(csr_array.toarray())
        wanted = dense.shape if shape is None else as_shape(shape)
        if wanted[-1:] != dense.shape[-1:] or prod(wanted) != dense.size:
            raise ValueError(f"shape {wanted} of the NDArrayView does not fit the csr matrix of shape {dense.shape}")
        made = NDArrayView.from_dense(dense.reshape(wanted))
        made.is_sparse = True
        return made

    def slice_view(self, start_offset: Any, extent: Any, read_only: bool = True) -> NDArrayView:
        """A part that is contiguous in memory."""
        starts, sizes, shape = as_shape(start_offset), as_shape(extent), self.shape
        if len(starts) != len(shape) or len(sizes) != len(shape):
            raise ValueError(f"slice_view: a view of the shape {shape} has {len(shape)} axes, not {len(starts)}")
        for start, size, whole in zip(starts, sizes, shape, strict=True):
            if start < 0 or start + size > whole:
                raise ValueError(f"The slice ({start}+{size}) is out of range of the source matrix ({whole}).")
        part = self.array[tuple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))]
        if not part.flags.c_contiguous:
            raise ValueError(
                f"NDArrayView::SliceView: Cannot create a slice which is not contiguous in memory. This NDArrayView "
                f"shape = {shape}, slice offset = {starts}, slice extent = {sizes}."
            )
        made = NDArrayView.from_dense(part, read_only=read_only, borrow=True)
        made.is_slice = True
        return made

    def is_slice_view(self) -> bool:
        return self.is_slice

    def as_shape(self, shape: Any) -> NDArrayView:
        if not isinstance(shape, tuple | list):
            raise TypeError("tuple expected")
        return NDArrayView.from_dense(self.array.reshape(as_shape(shape)), borrow=True)

    def set_value(self, value: float) -> None:
        self.array[...] = value

    def change_device(self, device: Any) -> None:
        """Does nothing: a program has one device."""


class Value(Held):
    """A minibatch: an array whose first axis is the batch, or sequences of several lengths, padded to the longest."""

    def __init__(self, batch: Any, seq_starts: Any = None, device: Any = None) -> None:
        self.lengths: list[int] | None = None
        self.is_sparse = _is_sparse(batch)
        if isinstance(batch, list | tuple):
            self._hold([_dense(item) for item in batch])
        else:
            self.array = _dense(batch)

    def _hold(self, parts: Sequence[Array]) -> None:
        if len({part.shape for part in parts}) <= 1:
            self.array = np.stack(parts) if parts else np.zeros((0,), np.float32)
            return
        if len({part.shape[1:] for part in parts}) > 1:
            raise ValueError(
                f"a minibatch has samples of several shapes: {', '.join(str(part.shape[1:]) for part in parts)}"
            )
        self.lengths = [len(part) for part in parts]
        self.array = np.zeros((len(parts), max(self.lengths), *parts[0].shape[1:]), parts[0].dtype)
        for row, part in zip(self.array, parts, strict=True):
            row[: len(part)] = part

    @staticmethod
    def one_hot(batch: Any, num_classes: Any, dtype: Any = None, device: Any = None) -> Value:
        """One-hot vectors of class numbers; sequences of them if `batch` is a list of lists."""
        shape = num_classes if isinstance(num_classes, tuple) else (num_classes,)
        if not isinstance(batch, list | tuple | np.ndarray):
            raise ValueError("input must be a list of list of integers")
        eye = np.eye(shape[-1], dtype=dtype or np.float32)
        numbers = [np.asarray(item, int) for item in batch]
        rows = [eye[item].reshape(-1, *shape) if item.ndim else eye[item] for item in numbers]
        value = Value(rows)
        value.is_sparse = True
        return value

    @staticmethod
    def create(var: Any, data: Any, seq_starts: Any = None, device: Any = None, read_only: bool = False) -> Value:
        """`data`: an array of a whole minibatch, or a list of sequences."""
        value = Value(data)
        if isinstance(data, list | tuple) and not var.has_batch_axis and (value.lengths or value.is_sparse):
            raise ValueError(f"'{var}' has no batch axis, but was given a list of samples")
        rank = len(var.shape)
        is_flat = isinstance(data, list | tuple) and var.has_batch_axis and value.array.ndim == rank + 1
        if is_flat or (isinstance(data, list | tuple) and var.is_sequence and value.array.ndim == rank + 1):
            value.array = value.array[:, None]  # each sample is a sequence of length one
        return value

    @property
    def samples_for_feeding(self) -> Any:
        if self.is_sparse and self.array.ndim > 2:
            return [Sparse(part) for part in self.parts()]
        if self.lengths is not None:
            return self.parts()
        return super().samples_for_feeding

    def parts(self) -> list[Array]:
        lengths = self.lengths or [self.array.shape[1]] * len(self.array) if self.array.ndim > 1 else []
        return [row[:length] for row, length in zip(self.array, lengths, strict=True)] if lengths else list(self.array)

    @property
    def data(self) -> NDArrayView:
        view = NDArrayView((), self.array.dtype)
        view.array, view.is_sparse = self.array, self.is_sparse
        return view

    @property
    def mask(self) -> Array:
        """For each place in each sequence: 2 where it begins, 1 where it continues, 0 where it is over."""
        if self.lengths is None:
            raise AttributeError("'Value' object has no attribute 'mask'")
        places = np.arange(self.array.shape[1])
        mask = (places < np.array(self.lengths)[:, None]).astype(np.int8)
        mask[:, 0] = 2
        return mask

    def asarray(self) -> Any:
        """A numpy array; a csr matrix of sparse vectors."""
        if self.is_sparse and (self.array.ndim > 2 or self.lengths is not None):
            raise ValueError(
                f"Invalid Value object: sparse data of shape {self.shape} is not a matrix; use as_sequences"
            )
        return super().asarray()

    def as_sequences(self, variable: Variable | None = None) -> list[Any]:
        """One array per sequence; csr matrices of sparse vectors."""
        if self.is_sparse and variable is None:
            raise ValueError("cannot convert sparse value to sequences without the corresponding variable")
        if not self.is_sparse:
            return self.parts()
        if variable is not None and not variable.has_batch_axis:
            return [csr(self.array)]
        return [csr(part) for part in self.parts()]

    def masked_count(self) -> int:
        """The number of places where sequences are over."""
        return 0 if self.lengths is None else self.array.shape[1] * len(self.lengths) - sum(self.lengths)

    def erase(self) -> None:
        self.is_valid = False


class MinibatchData:
    """One stream of a reader's minibatch: `value`, and its number of samples."""

    def __init__(self, value: Value, num_sequences: int, num_samples: int, sweep_end: bool) -> None:
        self.value, self.num_sequences, self.num_samples = value, num_sequences, num_samples
        self.end_of_sweep = sweep_end

    sweep_end = property(lambda self: self.end_of_sweep)
    number_of_samples = property(lambda self: self.num_samples)
    number_of_sequences = property(lambda self: self.num_sequences)
    is_sparse = property(lambda self: self.value.is_sparse)
    data = property(lambda self: self.value)

    @property
    def samples_for_feeding(self) -> Any:
        given = self.value.samples_for_feeding
        if isinstance(given, Fed | list):
            return given
        array = self.value.array
        return Fed(torch.from_numpy(np.ascontiguousarray(array.reshape(len(array), -1))))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def mask(self) -> Any:
        return self.value.mask

    def __str__(self) -> str:
        shape = " x ".join(map(str, self.shape))
        return f"MinibatchData(data=Value([{shape}], CPU), samples={self.num_samples}, seqs={self.num_sequences})"

    __repr__ = __str__

    def asarray(self) -> Any:
        return self.value.asarray()

    def as_sequences(self, variable: Variable | None = None) -> list[Any]:
        return self.value.as_sequences(variable)

    def __len__(self) -> int:
        return self.num_sequences


def _dense(item: Any) -> Array:
    item = getattr(item, "array", item)
    if isinstance(item, list | tuple) and item and not np.isscalar(item[0]):
        return np.stack([_dense(each) for each in item])
    return np.asarray(item.toarray() if hasattr(item, "tocsr") else item)


def _is_sparse(batch: Any) -> bool:
    first = batch[0] if isinstance(batch, list | tuple) and batch else batch
    return hasattr(first, "tocsr") or bool(getattr(first, "is_sparse", False))


def asarray(variable: Variable, value: Any) -> Array:
    return np.asarray(value.asarray() if hasattr(value, "asarray") else value)


def asvalue(variable: Variable, data: Any) -> Value:
    return Value.create(variable, data)
