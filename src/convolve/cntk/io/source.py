"""Minibatch sources: samples in CNTK's order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convolve.cntk.core import MinibatchData, Value
from convolve.cntk.io.deserializers import Deserializer
from convolve.cntk.variables import Record
from convolve.data.cntk_order import WINDOW_CHUNKS, sweep_order

INFINITELY_REPEAT = 2**64 - 1
FULL_DATA_SWEEP = 2**64 - 2
DEFAULT_RANDOMIZATION_WINDOW_IN_CHUNKS = WINDOW_CHUNKS


class StreamInformation:
    """A stream of a source."""

    def __init__(
        self, name: str, stream_id: int, storage_format: str, dtype: Any, shape: Any, defines_mb_size: bool = False
    ) -> None:
        self.m_name, self.m_id, self.m_storage_format = name, stream_id, storage_format
        self.m_element_type, self.sample_shape = dtype, shape if isinstance(shape, tuple) else (shape,)
        self.m_defines_mb_size = defines_mb_size

    @property
    def is_sparse(self) -> bool:
        return self.m_storage_format == "sparse"

    def __hash__(self) -> int:
        return hash((self.m_name, self.m_id))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StreamInformation) and (self.m_name, self.m_id) == (other.m_name, other.m_id)


class _Source:
    """What all sources have: streams by name, minibatches, a position that can be kept."""

    def __init__(self, infos: Sequence[StreamInformation]) -> None:
        self._infos = {info.m_name: info for info in infos}

    @property
    def streams(self) -> Record:
        return Record(**self._infos)

    def stream_info(self, name: str) -> StreamInformation:
        return self._infos[name]

    def stream_infos(self) -> list[StreamInformation]:
        return list(self._infos.values())

    def __getitem__(self, name: str) -> StreamInformation:
        return self._infos[name]


class MinibatchSource(_Source):
    """Samples of one or several files, which go together line by line."""

    def __init__(
        self, deserializers: Any, max_samples: int = INFINITELY_REPEAT, max_sweeps: int = INFINITELY_REPEAT,
        randomization_window_in_chunks: int = DEFAULT_RANDOMIZATION_WINDOW_IN_CHUNKS,
        randomization_window_in_samples: int = 0, randomization_seed: int = 0, trace_level: Any = None,
        multithreaded_deserializer: Any = None, frame_mode: bool = False, truncation_length: int = 0,
        randomize: bool = True, max_errors: int = 0, epoch_size: Any = None,
    ) -> None:  # fmt: skip
        if INFINITELY_REPEAT not in (max_samples, max_sweeps):
            raise RuntimeError(
                "MinibatchSourceConfig: max samples and max sweeps are mutually exclusive options and cannot have "
                "non-default values at the same time."
            )
        self._files: list[Deserializer] = (
            list(deserializers) if isinstance(deserializers, list | tuple) else [deserializers]
        )
        infos, number = [], 0
        for file in self._files:
            for name, size in file.streams.items():
                infos.append(
                    StreamInformation(
                        name,
                        number,
                        "sparse" if getattr(file, "is_sparse", lambda _: False)(name) else "dense",
                        np.float32,
                        size,
                    )
                )
                number += 1
        super().__init__(infos)
        self.randomize, self.seed = randomize, randomization_seed
        self.window: dict[str, Any] = {
            "window_chunks": randomization_window_in_chunks,
            "window_samples": randomization_window_in_samples,
        }
        self.max_samples, self.max_sweeps = max_samples, max_sweeps
        self.position = 0
        self._orders: dict[int, NDArray[np.int64]] = {}

    def _limit(self) -> int:
        if FULL_DATA_SWEEP in (self.max_samples, self.max_sweeps):
            return len(self._files[0])
        if self.max_sweeps != INFINITELY_REPEAT:
            return self.max_sweeps * len(self._files[0])
        return self.max_samples

    def _order(self, sweep: int) -> NDArray[np.int64]:
        if sweep not in self._orders:
            count = len(self._files[0])
            order = (
                sweep_order(self._files[0].chunk_N, sweep, seed=self.seed, **self.window)
                if self.randomize
                else np.arange(count)
            )
            self._orders = {sweep: order}
        return self._orders[sweep]

    def next_minibatch(
        self, minibatch_size_in_samples: int, input_map: Mapping[Any, StreamInformation] | None = None,
        device: Any = None,
        num_data_partitions: int | None = None, partition_index: int | None = None,
    ) -> dict[Any, MinibatchData]:  # fmt: skip
        """Up to so many samples; an empty dictionary at the end. Of several partitions, this worker's part."""
        if minibatch_size_in_samples <= 0:
            raise ValueError("GetNextMinibatch: Requested minibatch size must be > 0.")
        count = len(self._files[0])
        wanted = min(minibatch_size_in_samples, self._limit() - self.position)
        if wanted <= 0:
            return {}
        numbers, at, sweep_end = [], self.position, False
        while wanted > 0:
            sweep, start = divmod(at, count)
            taken = self._order(sweep)[start : start + wanted]
            numbers.append(taken)
            at, wanted = at + len(taken), wanted - len(taken)
            sweep_end = sweep_end or at % count == 0
        self.position = at
        numbers_N = np.concatenate(numbers)
        if num_data_partitions:
            numbers_N = numbers_N[partition_index or 0 :: num_data_partitions]
        return self._named(self._read(numbers_N), input_map, sweep_end)

    def _read(self, numbers_N: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        found: dict[str, NDArray[Any]] = {}
        for file in self._files:
            found |= file.read(numbers_N)
        return found

    def _named(self, arrays: dict[str, NDArray[Any]], input_map: Any, sweep_end: bool) -> dict[Any, MinibatchData]:
        data = {}
        for name, array in arrays.items():
            value = Value(array[:, None])  # CNTK's readers give sequences of one sample
            value.is_sparse = self._infos[name].is_sparse
            data[name] = MinibatchData(value, len(array), len(array), sweep_end)
        if input_map is None:
            return {self._infos[name]: each for name, each in data.items()}
        return {getattr(key, "output", key): data[info.m_name] for key, info in input_map.items()}

    def get_checkpoint_state(self) -> dict[str, Any]:
        return {"minibatchSourcePosition": self.position}

    def restore_from_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        self.position = int(checkpoint["minibatchSourcePosition"])

    @property
    def current_position(self) -> dict[str, Any]:
        return self.get_checkpoint_state()

    @current_position.setter
    def current_position(self, state: Any) -> None:
        self.restore_from_checkpoint(state)

    @property
    def is_infinite(self) -> bool:
        return self._limit() >= FULL_DATA_SWEEP


class UserMinibatchSource(_Source):
    """A source of a program's own: it defines `stream_infos` and `next_minibatch`."""

    def __init__(self) -> None:
        super().__init__(self.stream_infos())

    def stream_infos(self) -> list[StreamInformation]:
        raise NotImplementedError("UserMinibatchSource.stream_infos() is to be defined by the program")

    def next_minibatch(
        self, num_samples: int, number_of_workers: int = 1, worker_rank: int = 0, device: Any = None
    ) -> Any:
        raise NotImplementedError("UserMinibatchSource.next_minibatch() is to be defined by the program")

    def get_checkpoint_state(self) -> dict[str, Any]:
        return {}

    def restore_from_checkpoint(self, state: Any) -> None:
        raise RuntimeError("UserMinibatchSource.restore_from_checkpoint() is to be defined by the program")

    @property
    def is_infinite(self) -> bool:
        return False


class MinibatchSourceFromData(_Source):
    """Arrays in memory, in their order, again and again."""

    def __init__(self, data_streams: Mapping[str, Any], max_samples: int = INFINITELY_REPEAT) -> None:
        self._arrays = {name: _rows(each) for name, each in data_streams.items()}
        if not self._arrays:
            raise ValueError("at least one stream must be specified, in the form name=data or name=(data, type)")
        lengths = {len(array) for array in self._arrays.values()}
        if len(lengths) > 1:
            raise TypeError("all data items must have the same leading dimension (number of data points)")
        [self.count] = lengths
        infos = [
            StreamInformation(name, at, "dense", array.dtype.type, array.shape[1:])
            for at, (name, array) in enumerate(self._arrays.items())
        ]
        super().__init__(infos)
        self.max_samples, self.position = max_samples, 0

    def next_minibatch(
        self,
        num_samples: int,
        number_of_workers: int = 1,
        worker_rank: int = 0,
        device: Any = None,
        input_map: Any = None,
    ) -> dict[Any, MinibatchData]:
        end = min(self.position + num_samples, self.max_samples)
        start, last = self.position % self.count, self.position % self.count + end - self.position
        last = min(last, self.count)  # a minibatch ends with the data
        if last <= start or self.position >= self.max_samples:
            return {}
        self.position += last - start
        found = {}
        for name, array in self._arrays.items():
            rows = array[start:last][worker_rank::number_of_workers]
            found[self._infos[name]] = MinibatchData(Value(rows), len(rows), len(rows), last == self.count)
        if input_map is None:
            return found
        return {getattr(key, "output", key): found[info] for key, info in input_map.items()}

    def get_checkpoint_state(self) -> dict[str, Any]:
        return {"cursor": self.position % self.count, "total_num_samples": self.position}

    def restore_from_checkpoint(self, state: Mapping[str, Any]) -> None:
        self.position = int(state["total_num_samples"])

    @property
    def is_infinite(self) -> bool:
        return False


def _rows(data: Any) -> NDArray[Any]:
    if isinstance(data, tuple):
        data = data[0]
    if hasattr(data, "toarray"):
        return np.asarray(data.toarray(), np.float32)
    if isinstance(data, np.ndarray):
        return data if data.dtype in (np.float32, np.float64) else data.astype(np.float32)
    if isinstance(data, list):
        return np.asarray(data, np.float32)
    raise TypeError("data must be a numpy.array or scipy.sparse.csr_matrix, or a list of those")
