"""Sources without files: arrays in memory, and a program's own sources."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convolve.cntk.core import MinibatchData, Value
from convolve.cntk.io.config import INFINITELY_REPEAT
from convolve.cntk.io.sequences import Sequences
from convolve.cntk.io.source import MinibatchSource
from convolve.cntk.io.streams import StreamInformation, Streams, mapped
from convolve.cntk.layers.typing import as_variable_type


class UserMinibatchSource(Streams):
    """A program's own source, which defines `stream_infos` and `next_minibatch`."""

    def __init__(self) -> None:
        super().__init__(self.stream_infos())

    def stream_infos(self) -> list[Any]:
        raise NotImplementedError("the program must define UserMinibatchSource.stream_infos()")

    def next_minibatch(
        self, num_samples: int, number_of_workers: int = 1, worker_rank: int = 0, device: Any = None
    ) -> Any:
        raise NotImplementedError("the program must define UserMinibatchSource.next_minibatch()")

    def get_checkpoint_state(self) -> dict[str, Any]:
        return {}

    def restore_from_checkpoint(self, state: Any) -> None:
        """A source without a state has nothing to restore."""

    def is_infinite(self) -> bool:
        return False


class MinibatchSourceFromData(UserMinibatchSource):
    """Arrays in memory, or lists of sequences with their type: in their order, again and again."""

    def __init__(self, data_streams: Mapping[str, Any], max_samples: int = INFINITELY_REPEAT) -> None:
        if not data_streams:
            raise ValueError("at least one stream must be specified, in the form name=data or name=(data, type)")
        self._data = {name: _rows(each) for name, each in data_streams.items()}
        lengths = {len(data) for data in self._data.values()}
        if len(lengths) > 1:
            raise TypeError("all data items must have the same first dimension")
        [self.count] = lengths
        sparse = {name: hasattr(_data(each), "tocsr") for name, each in data_streams.items()}
        self._made = [
            StreamInformation(name, at, "sparse" if sparse[name] else "dense", rows[0].dtype, _shape(rows))
            for at, (name, rows) in enumerate(self._data.items())
        ]
        super().__init__()
        self.max_samples, self.position, self.cursor = max_samples, 0, 0

    def stream_infos(self) -> list[Any]:
        return self._made

    def next_minibatch(
        self, num_samples: int, number_of_workers: int = 1, worker_rank: int = 0, device: Any = None
    ) -> dict[Any, MinibatchData]:
        wanted = min(num_samples, self.max_samples - self.position)
        if wanted <= 0:
            return {}
        counts_N = np.max([_counts(rows) for rows in self._data.values()], axis=0)[self.cursor :]
        fits = max(1, int(np.searchsorted(np.cumsum(counts_N), wanted, side="right")))
        start, end = self.cursor, self.cursor + fits  # a minibatch ends with the data
        taken = int(counts_N[:fits].sum())
        self.position, self.cursor = self.position + taken, end % self.count
        ends = end == self.count or self.position >= self.max_samples
        found = {}
        for info, rows in zip(self._made, self._data.values(), strict=True):
            value = _value(rows[start:end][worker_rank::number_of_workers], info)
            samples = int(_counts(rows[start:end]).sum())
            found[info] = MinibatchData(value, fits, samples, ends)
        return found

    def is_infinite(self) -> bool:
        return self.max_samples >= INFINITELY_REPEAT

    def get_checkpoint_state(self) -> dict[str, Any]:
        return {"cursor": self.cursor, "total_num_samples": self.position}

    def restore_from_checkpoint(self, state: Mapping[str, Any]) -> None:
        self.cursor, self.position = int(state["cursor"]), int(state["total_num_samples"])


def next_data(
    source: Any, size: int, input_map: Any, num_data_partitions: int = 1, partition_index: int = 0
) -> dict[Any, MinibatchData]:
    """A minibatch of any source, keyed by the program's variables; for several partitions, one of them."""
    if isinstance(source, MinibatchSource):
        return source.next_minibatch(
            size, input_map, num_data_partitions=num_data_partitions, partition_index=partition_index
        )
    return mapped(source.next_minibatch(size, num_data_partitions, partition_index), input_map)


def _data(given: Any) -> Any:
    return given[0] if isinstance(given, tuple) else given


def _rows(given: Any) -> Any:
    """An array with one sample per row, or a list of sequences."""
    data = _data(given)
    if hasattr(data, "toarray"):
        return np.asarray(data.toarray(), np.float32)
    if isinstance(data, np.ndarray):
        return data if data.dtype in (np.float32, np.float64) else data.astype(np.float32)
    if isinstance(data, list):
        rows = [np.asarray(each.toarray() if hasattr(each, "toarray") else each, np.float32) for each in data]
        return rows if isinstance(given, tuple) and _is_sequence(given[1]) else np.stack(rows)
    raise TypeError("data must be a numpy.array or scipy.sparse.csr_matrix, or a list of those")


def _is_sequence(kind: Any) -> bool:
    return any(axis.is_sequence_axis for axis in as_variable_type(kind).axes or ())


def _shape(rows: Any) -> tuple[int, ...]:
    shape: tuple[int, ...] = rows[0].shape
    return shape[1:] if isinstance(rows, list) else shape


def _counts(rows: Any) -> NDArray[np.int64]:
    return np.array(list(map(len, rows))) if isinstance(rows, list) else np.ones(len(rows), np.int64)


def _value(rows: Any, info: StreamInformation) -> Value:
    if isinstance(rows, list) and rows:
        return Sequences(np.concatenate(rows), _counts(rows), bool(info.m_storage_format))
    value = Value(rows)
    value.is_sparse = bool(info.m_storage_format)
    return value
