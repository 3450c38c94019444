"""What a file holds: numbered sequences, each with one or several samples of every stream."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convolve.cntk.io.sequences import Sequences
from convolve.cntk.io.streams import Stream
from convolve.data.cntk_order import CHUNK_BYTES, chunks_by_bytes
from convolve.errors import ConvolveError
from convolve.formats.ctf import CtfBlock, StreamSpec, iter_ctf

# Legend: N sequences, T samples of all of them.

Moment = tuple[int, int, int]  # the seed, the sweep, and the number of the sequence in the first deserializer
_CHUNKS_KEPT = 128


@dataclass(frozen=True)
class StreamShape:
    """What a deserializer says about a stream."""

    shape: tuple[int, ...]
    is_sparse: bool = False
    defines_mb_size: bool = False


class Deserializer:
    """Numbered sequences.

    `keys_N`: the keys by which several deserializers find matching sequences, if there are any. `chunk_N`: the chunk of
    each sequence, which decides CNTK's order. `counts_N`: how many samples each sequence counts as.
    """

    shapes: dict[str, StreamShape]
    config: dict[str, Any]
    keys_N: NDArray[np.uint64] | None = None
    max_errors = 0
    is_read_ahead = True  # in a thread of the source, while the previous minibatch is used

    def __len__(self) -> int:
        return len(self.counts_N)

    @property
    def counts_N(self) -> NDArray[np.int64]:
        raise NotImplementedError

    @property
    def chunk_N(self) -> NDArray[np.int64]:
        raise NotImplementedError

    def read(self, numbers_N: NDArray[np.int64], moments: Sequence[Moment]) -> dict[str, Sequences]:
        """Stream -> these sequences of it."""
        raise NotImplementedError

    def check(self) -> None:
        """Raises `RuntimeError` if the file does not exist."""


class _CtfFile(Deserializer):
    def __init__(self, filename: str, streams: dict[str, Any]) -> None:
        for name, stream in streams.items():
            if not stream.stream_alias:
                raise ValueError(f"CTFDeserializer: stream name for key {name} must be specified")
        self.shapes = {
            name: StreamShape((stream.dim,), bool(stream.is_sparse), stream.defines_mb_size)
            for name, stream in streams.items()
        }
        self.filename, self._streams = filename, streams
        inputs = {
            name: {"alias": each.stream_alias, "dim": each.dim, "format": "sparse" if each.is_sparse else "dense"}
            for name, each in streams.items()
        }
        self.config = {"type": "CNTKTextFormatDeserializer", "file": filename, "input": inputs}

    def check(self) -> None:
        if not Path(self.filename).is_file():
            raise RuntimeError(f"Input file '{self.filename}' is not open. It should be a file in CNTK's text format.")

    @cached_property
    def _data(self) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[np.int64]], CtfBlock]:
        """For each stream, its vectors and the lengths of its sequences; and the sequences' own properties."""
        specs = [
            StreamSpec(name, each.dim, bool(each.is_sparse), each.stream_alias, each.defines_mb_size)
            for name, each in self._streams.items()
        ]
        try:
            blocks = list(iter_ctf(self.filename, specs, max_errors=self.max_errors))
        except ConvolveError as error:
            raise RuntimeError(
                f"Reached the maximum number of allowed errors while reading the input file ({self.filename}). {error}"
            ) from None
        names = [spec.name for spec in specs]
        lengths = {name: np.concatenate([block.lengths[name] for block in blocks]) for name in names}
        rows = {name: np.concatenate([block.samples.pop(name) for block in blocks]) for name in names}
        ids = [block.ids_N for block in blocks if block.ids_N is not None]
        counts_N, bytes_N, lines_N = (
            np.concatenate([getattr(block, name) for block in blocks])
            for name in ("sample_counts_N", "byte_counts_N", "lines_N")
        )
        ids_N = np.concatenate(ids) if ids else None
        whole = CtfBlock({}, lengths, counts_N, bytes_N, lines_N=lines_N, ids_N=ids_N)
        starts = {name: np.cumsum(lengths_N) - lengths_N for name, lengths_N in lengths.items()}
        return rows, starts, whole

    def read(self, numbers_N: NDArray[np.int64], moments: Sequence[Moment]) -> dict[str, Sequences]:
        rows, starts, whole = self._data
        found = {}
        for name, rows_T in rows.items():
            lengths_N, starts_N = whole.lengths[name][numbers_N], starts[name][numbers_N]
            chosen_T = starts_N
            if (lengths_N != 1).any():
                chosen_T = np.concatenate([np.arange(at, at + n) for at, n in zip(starts_N, lengths_N, strict=True)])
            found[name] = Sequences(rows_T[chosen_T], lengths_N, self.shapes[name].is_sparse)
        return found

    @property
    def counts_N(self) -> NDArray[np.int64]:
        return self._data[2].sample_counts_N

    @property
    def keys_N(self) -> NDArray[np.uint64] | None:  # type: ignore[override]  # read with the file
        return self._data[2].ids_N

    @property
    def chunk_N(self) -> NDArray[np.int64]:
        return chunks_by_bytes(self._data[2].byte_counts_N, CHUNK_BYTES)


def CTFDeserializer(filename: str, streams: Any) -> Deserializer:
    """CNTK's text format."""
    if isinstance(streams, list | tuple):  # as CNTK's older programs pass them
        streams = {stream["name"]: stream for stream in streams}
    return _CtfFile(str(filename), dict(streams))


class UserDeserializer(Deserializer):
    """A program's own deserializer, which defines `stream_infos`, `num_chunks` and `get_chunk`.

    When randomized, its order is that of files with as many chunks.
    """

    is_read_ahead = False  # the program's code runs in the thread that calls it

    def __init__(self) -> None:
        self._chunks: OrderedDict[int, dict[str, Sequences]] = OrderedDict()

    def stream_infos(self) -> list[Any]:
        raise NotImplementedError("the program must define UserDeserializer.stream_infos()")

    def num_chunks(self) -> int:
        raise NotImplementedError("the program must define UserDeserializer.num_chunks()")

    def get_chunk(self, chunk_id: int) -> Any:
        raise NotImplementedError("the program must define UserDeserializer.get_chunk()")

    @property
    def config(self) -> dict[str, Any]:  # type: ignore[override]
        return {"type": type(self).__name__, "input": {info.m_name: {} for info in self.stream_infos()}}

    @cached_property
    def shapes(self) -> dict[str, StreamShape]:  # type: ignore[override]
        return {
            info.m_name: StreamShape(info.m_sample_layout, bool(info.m_storage_format), info.m_defines_mb_size)
            for info in self.stream_infos()
        }

    @cached_property
    def _counts(self) -> list[NDArray[np.int64]]:
        """For each chunk, how many samples each of its sequences counts as."""
        main = [name for name, stream in self.shapes.items() if stream.defines_mb_size]
        chunks = map(self._chunk, range(self.num_chunks()))
        return [np.max([chunk[name].lengths_N for name in main or self.shapes], axis=0) for chunk in chunks]

    @cached_property
    def counts_N(self) -> NDArray[np.int64]:
        return np.concatenate(self._counts)

    @cached_property
    def chunk_N(self) -> NDArray[np.int64]:
        return np.repeat(np.arange(len(self._counts)), [len(counts_N) for counts_N in self._counts])

    def _chunk(self, number: int) -> dict[str, Sequences]:
        if number not in self._chunks:
            given = self.get_chunk(number)
            infos = {info.m_name: info for info in self.stream_infos()}
            self._chunks[number] = {name: _sequences(infos[name], given[name]) for name in infos}
            if len(self._chunks) > _CHUNKS_KEPT:
                self._chunks.popitem(last=False)
        return self._chunks[number]

    def read(self, numbers_N: NDArray[np.int64], moments: Sequence[Moment]) -> dict[str, Sequences]:
        starts_C = np.cumsum([0, *map(len, self._counts)])
        rows: dict[str, list[Any]] = {name: [] for name in self.shapes}
        for number in numbers_N:
            chunk = int(np.searchsorted(starts_C, number, side="right")) - 1
            for name, sequences in self._chunk(chunk).items():
                at, ends_N = number - starts_C[chunk], np.cumsum(sequences.lengths_N)
                rows[name].append(sequences.rows_T[ends_N[at] - sequences.lengths_N[at] : ends_N[at]])
        return {
            name: Sequences(np.concatenate(parts), np.array(list(map(len, parts))), self.shapes[name].is_sparse)
            for name, parts in rows.items()
        }


def _sequences(info: Stream, given: Any) -> Sequences:
    """A chunk of a stream: an array or matrix with one-sample sequences as rows, or a list of sequences."""
    shape = info.m_sample_layout
    dtype = np.float64 if info.m_element_type == 2 else np.float32
    if not isinstance(given, list | tuple):
        array = given.toarray() if hasattr(given, "toarray") else np.asarray(given)
        rows_T = np.array(array, dtype).reshape(-1, *shape)
        return Sequences(rows_T, np.ones(len(rows_T), np.int64), bool(info.m_storage_format))
    dense = (each.toarray() if hasattr(each, "toarray") else np.asarray(each) for each in given)
    parts = [np.array(each, dtype).reshape(-1, *shape) for each in dense]
    return Sequences(np.concatenate(parts), np.array(list(map(len, parts))), bool(info.m_storage_format))
