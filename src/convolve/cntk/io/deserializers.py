"""What a file holds: CTF, images by map files, base64."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convolve.cntk.variables import Record
from convolve.data.cntk_order import CHUNK_BYTES, chunks_by_bytes
from convolve.errors import ConvolveError
from convolve.formats.ctf import StreamSpec, read_ctf


class StreamDef:
    """A stream: what the file calls it, and how long its vectors are."""

    def __init__(
        self, field: str | None = None, shape: Any = None, is_sparse: bool = False, transforms: Any = None,
        context: Any = None, scp: Any = None, mlf: Any = None, broadcast: Any = None, defines_mb_size: bool = False,
        max_sequence_length: int = 65535,
    ) -> None:  # fmt: skip
        self.field, self.shape, self.is_sparse, self.transforms = field, shape, is_sparse, transforms


class StreamDefs(Record):
    """Streams by the names that the program has for them."""


@dataclass(eq=False)
class Deserializer:
    """Samples by stream; `chunk_N`: the chunk of the file that each belongs to, which decides CNTK's order."""

    streams: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        raise NotImplementedError

    def read(self, numbers_N: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Stream -> its vectors of these samples."""
        raise NotImplementedError

    @property
    def chunk_N(self) -> NDArray[np.int64]:
        raise NotImplementedError


class _CtfFile(Deserializer):
    def __init__(self, filename: str, streams: dict[str, Any]) -> None:
        super().__init__({name: _size(stream.shape) for name, stream in streams.items()})
        self.filename, self.wanted = filename, streams

    @cached_property
    def _block(self) -> Any:
        specs = [
            StreamSpec(each.field or name, _size(each.shape), each.is_sparse, dtype=np.float32)
            for name, each in self.wanted.items()
        ]
        try:
            return read_ctf(self.filename, specs)
        except ConvolveError as error:
            raise RuntimeError(
                f"Reached the maximum number of allowed errors while reading the input file ({self.filename}). {error}"
            ) from None

    def __len__(self) -> int:
        return len(self._block)

    def read(self, numbers_N: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        return {name: self._block.samples[each.field or name][numbers_N] for name, each in self.wanted.items()}

    @property
    def chunk_N(self) -> NDArray[np.int64]:
        return chunks_by_bytes(self._block.byte_counts_N, CHUNK_BYTES)

    def is_sparse(self, name: str) -> bool:
        return bool(self.wanted[name].is_sparse)


def _size(shape: Any) -> int:
    return int(np.prod(shape))


def CTFDeserializer(filename: str, streams: Any) -> Deserializer:
    """CNTK's text format."""
    return _CtfFile(str(filename), dict(streams))
