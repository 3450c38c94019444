"""Streams: their names in a file, and what a source says about them."""

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from convolve.cntk.variables import Record, as_shape
from convolve.cntk.wire_writer import DATA_TYPES

_FORMATS = {"dense": 0, "sparse": 1}


def StreamDef(
    field: str | None = None, shape: Any = None, is_sparse: bool = False, transforms: Any = None, context: Any = None,
    scp: Any = None, mlf: Any = None, broadcast: Any = None, defines_mb_size: bool = False,
    max_sequence_length: int = 65535,
) -> Record:  # fmt: skip
    """A stream: its name in the file, and the length of its vectors."""
    if scp is not None or mlf is not None or context is not None or broadcast is not None:
        raise NotImplementedError(
            "StreamDef: scp, mlf, context and broadcast are for speech, which convolve does not read"
        )
    found: dict[str, Any] = {"stream_alias": field, "is_sparse": is_sparse}
    if shape is not None:
        found["dim"] = prod(as_shape(shape))
    if transforms is not None:
        found["transforms"] = transforms
    return Record(**found, defines_mb_size=defines_mb_size, max_sequence_length=max_sequence_length)


class StreamDefs(Record):
    """Streams by the names that the program gives them."""


def StreamConfiguration(
    name: str, dim: int, is_sparse: bool = False, stream_alias: str = "", defines_mb_size: bool = False,
    max_sequence_length: int = 65535,
) -> Record:  # fmt: skip
    """A stream, as CNTK's older programs describe it."""
    stream = StreamDef(stream_alias or name, dim, is_sparse, defines_mb_size=defines_mb_size)
    return stream.updated_with(name=name)


class Stream:
    """A stream of a source; `m_id` is its number in the source."""

    def __init__(
        self, name: str, stream_id: int, storage_format: str, dtype: Any, shape: Any, defines_mb_size: bool = False
    ) -> None:
        if np.dtype(dtype) not in DATA_TYPES:
            raise ValueError(f'data type "{dtype}" is not supported')
        self.m_name, self.m_id, self.m_storage_format = name, stream_id, _FORMATS[storage_format]
        self.m_element_type, self.m_sample_layout = DATA_TYPES[np.dtype(dtype)], as_shape(shape)
        self.m_defines_mb_size = defines_mb_size

    def as_string(self) -> str:
        return f"{self.m_name}([{' x '.join(map(str, self.m_sample_layout))}])"

    __repr__ = __str__ = as_string

    def __hash__(self) -> int:
        return hash((self.m_name, self.m_id))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and (self.m_name, self.m_id) == (other.m_name, other.m_id)


class StreamInformation(Stream):
    """A stream that the program itself describes."""

    name = property(lambda self: self.m_name)
    storage_format = property(lambda self: "sparse" if self.m_storage_format else "dense")
    sample_shape = property(lambda self: self.m_sample_layout)


class Streams:
    """What all sources have: streams by name."""

    def __init__(self, infos: Any) -> None:
        self._infos: dict[str, Stream] = {info.m_name: info for info in infos}

    @property
    def streams(self) -> Record:
        return Record(**self._infos)

    def stream_info(self, name: str) -> Stream:
        if name not in self._infos:
            raise RuntimeError(f"No stream found matching given name '{name}'.")
        return self._infos[name]

    def stream_infos(self) -> list[Any]:
        return list(self._infos.values())

    def __getitem__(self, name: str) -> Stream:
        return self.stream_info(name)


def mapped(data: Mapping[Any, Any], input_map: Mapping[Any, Any] | None) -> dict[Any, Any]:
    """Values by stream -> values by the program's variables.

    The streams may be those of another source with the same names: a session tests with the streams of its training.
    """
    if not input_map or not data:
        return dict(data)
    by_name = {stream.m_name: each for stream, each in data.items()}
    return {getattr(key, "output", key): by_name[getattr(each, "m_name", each)] for key, each in input_map.items()}
