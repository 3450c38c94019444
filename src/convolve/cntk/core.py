"""Values: numbers with their axes of batch and sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from convolve.cntk.feeding import Fed
from convolve.cntk.variables import Variable, as_shape


class NDArrayView:
    """An array, under CNTK's name."""

    def __init__(self, shape: Any, dtype: Any = np.float32, device: Any = None) -> None:
        self.array: NDArray[Any] = np.zeros(as_shape(shape), dtype)

    @staticmethod
    def from_dense(array: Any, device: Any = None, read_only: bool = False, borrow: bool = False) -> NDArrayView:
        array = np.asarray(array)
        if array.dtype not in (np.float32, np.float64, np.float16):
            raise TypeError(f"only float32, float64 and float16 are allowed, got {array.dtype}")
        made = NDArrayView(array.shape, array.dtype)
        made.array = np.array(array)
        return made

    from_data = from_dense

    @staticmethod
    def from_csr(
        array: Any, device: Any = None, read_only: bool = False, borrow: bool = False, shape: Any = None
    ) -> NDArrayView:
        dense = array.toarray()
        return NDArrayView.from_dense(dense if shape is None else dense.reshape(shape))

    def asarray(self) -> NDArray[Any]:
        return self.array

    to_ndarray = asarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> Any:
        return self.array.dtype.type

    def slice_view(self, start_offset: Any, extent: Any, read_only: bool = True) -> NDArrayView:
        places = tuple(slice(start, start + size) for start, size in zip(start_offset, extent, strict=True))
        return NDArrayView.from_dense(self.array[places])

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        return self.array if dtype is None else self.array.astype(dtype)


class Value:
    """A minibatch: an array whose first axis is the batch, or sequences of several lengths."""

    def __init__(self, batch: Any, seq_starts: Any = None, device: Any = None) -> None:
        self._lists = None
        batch = getattr(batch, "array", batch)
        if isinstance(batch, list | tuple):
            parts = [np.asarray(item.toarray() if hasattr(item, "tocsr") else item) for item in batch]
            if len({part.shape for part in parts}) > 1:
                self._lists = parts
                batch = np.concatenate(parts)
            else:
                batch = np.stack(parts)
        self.array = np.asarray(batch.toarray() if hasattr(batch, "tocsr") else batch)
        self.is_sparse = False
        self.classes = 0

    @staticmethod
    def one_hot(batch: Any, num_classes: Any, dtype: Any = None, device: Any = None) -> Value:
        """0/1 vectors of class numbers; sequences of them where `batch` is a list of lists."""
        shape = num_classes if isinstance(num_classes, tuple) else (num_classes,)
        if not isinstance(batch, list | tuple | np.ndarray):
            raise ValueError("input must be a list of list of integers")
        eye = np.eye(shape[-1], dtype=dtype or np.float32)
        rows = [eye[np.asarray(item, int)] for item in batch]
        value = Value(rows) if len({row.shape for row in rows}) > 1 else Value(np.stack(rows))
        value.is_sparse, value.classes = True, shape[-1]
        return value

    @staticmethod
    def create(var: Any, data: Any, seq_starts: Any = None, device: Any = None, read_only: bool = False) -> Value:
        return Value(data)

    @property
    def samples_for_feeding(self) -> Any:
        if self._lists is not None:
            return list(self._lists)
        array = self.array
        if self.is_sparse and array.ndim == 3:
            return list(array)
        return _Sparse(array) if self.is_sparse else array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> Any:
        return self.array.dtype.type

    @property
    def data(self) -> Value:
        return self

    @property
    def mask(self) -> Any:
        return None

    def asarray(self) -> NDArray[Any]:
        return self.array

    to_ndarray = asarray

    def as_sequences(self, variable: Variable | None = None) -> list[NDArray[Any]]:
        if self.is_sparse and variable is None:
            raise ValueError("cannot convert sparse value to sequences without the corresponding variable")
        return list(self._lists) if self._lists is not None else list(self.array)

    def __len__(self) -> int:
        return len(self._lists) if self._lists is not None else len(self.array)

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        return self.array if dtype is None else self.array.astype(dtype)


class _Sparse:
    """Numbers that a sparse variable may be fed although they lie in a dense array."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array, self.shape = array, array.shape

    def tocsr(self) -> _Sparse:
        return self

    def toarray(self) -> NDArray[Any]:
        return self.array


class MinibatchData:
    """What a reader gives of one stream: `value`, and how many samples it is."""

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

    def asarray(self) -> NDArray[Any]:
        return self.value.asarray()

    def as_sequences(self, variable: Variable | None = None) -> list[NDArray[Any]]:
        return self.value.as_sequences(variable)

    def __len__(self) -> int:
        return self.num_sequences


def asarray(variable: Variable, value: Any) -> NDArray[Any]:
    return np.asarray(value.asarray() if hasattr(value, "asarray") else value)


def asvalue(variable: Variable, data: Any) -> Value:
    return Value(data)


def as_values(values: Sequence[Any]) -> list[Value]:
    return [each if isinstance(each, Value) else Value(each) for each in values]
