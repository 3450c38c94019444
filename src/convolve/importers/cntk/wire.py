"""The protobuf bytes of CNTK v2 files -> plain Python values. Arrays are views of the file's bytes, never copies.

Schema (proto3, package CNTK.proto), as far as it is read here:

    NDShape          1 repeated uint64 (packed)
    Axis             1 int32 index    2 string name    3 bool ordered
    NDArrayView      1 enum data type    2 enum storage    3 NDShape    4 {1 packed float} | 5 {1 packed double} | ...
    Vector           1 repeated DictionaryValue
    Dictionary       1 uint64 version    2 map<string, DictionaryValue>
    DictionaryValue  1 uint64 version    2 enum value type    3..13 the value, in the field of its type

proto3 leaves default values out: a false, a 0, an empty text or an empty shape is a value that has its type only.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from convolve.errors import FormatError, UnsupportedError, brief
from convolve.formats.wire import BYTES, FIXED32, FIXED64, VARINT, Field, WireReader, signed

T = TypeVar("T")
Array = NDArray[np.floating]

# The largest models known nest 10 deep; a file beyond these limits is damaged or hostile.
MAX_DEPTH = 50
MAX_RANK = 16


@dataclass(frozen=True)
class Axis:
    index: int
    name: str


@dataclass(frozen=True)
class StoredArray:
    """Numbers in CNTK's order: `shape` has the fastest dimension first. `values` is None where a file over 2 GB
    keeps them behind the message."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    values: Array | None
    offset: int


@dataclass(frozen=True)
class Record:
    """A Dictionary of the file and the byte where it begins. `get` and `list` refuse values of other types."""

    path: object
    offset: int
    values: dict[str, Any] = field(default_factory=dict)

    def error(self, what: str) -> FormatError:
        return FormatError(self.path, f"byte {self.offset}", what)

    def get(self, key: str, kind: type[T], default: T | None = None) -> T:
        value = self.values.get(key)
        if value is None:
            value = default
        if not isinstance(value, kind):
            raise self.error(f"{brief(key)} must be of type {kind.__name__}, got {brief(value)}")
        return value

    def list(self, key: str, kind: type[T]) -> list[T]:
        values: list[Any] = self.get(key, list, [])
        for value in values:
            if not isinstance(value, kind):
                raise self.error(f"{brief(key)} must hold values of type {kind.__name__}, got {brief(value)}")
        return values


def read_message(data: bytes, path: object, start: int, end: int) -> Record:
    """The Dictionary message in `data[start:end]`."""
    return _Reader(data, path).dictionary(Field(0, BYTES, 0, start, end))


class _Reader(WireReader):
    # -- values; those that cannot nest ignore the depth -------------------------------------------------------------

    def dictionary(self, item: Field, depth: int = 0) -> Record:
        record = Record(self.path, item.start)
        for entry in self.fields(item.start, item.end):
            if entry.number == 2:
                key, value = self.entry(self.expect(entry, BYTES), depth)
                if key in record.values:
                    raise self.error(entry.start, f"the key {brief(key)} occurs twice in one dictionary")
                record.values[key] = value
        return record

    def entry(self, item: Field, depth: int) -> tuple[str, Any]:
        key, value = "", None
        for part in self.fields(item.start, item.end):
            if part.number == 1:
                key = self.string(self.expect(part, BYTES))
            elif part.number == 2:
                value = self.value(self.expect(part, BYTES), depth + 1)
        return key, value

    def vector(self, item: Field, depth: int = 0) -> list[Any]:
        parts = self.fields(item.start, item.end)
        return [self.value(self.expect(part, BYTES), depth + 1) for part in parts if part.number == 1]

    def value(self, item: Field, depth: int) -> Any:
        """A DictionaryValue. Without a payload, it is the default of its type."""
        if depth > MAX_DEPTH:
            raise self.error(item.start, f"values are nested more than {MAX_DEPTH} deep")
        kind, payload = 0, None
        for part in self.fields(item.start, item.end):
            if part.number == 2:
                kind = self.expect(part, VARINT).value
            elif part.number >= 3:
                payload = part
        if kind == 0 and payload is None:
            return None
        if kind not in _VALUE_TYPES:
            raise self.error(item.start, f"unknown value type {kind}; known are 0 to {max(_VALUE_TYPES)}")
        number, wire_type, read = _VALUE_TYPES[kind]
        payload = payload or Field(number, wire_type, 0, item.end, item.end)
        if payload.number != number:
            raise self.error(payload.start, f"a value of type {kind} in field {payload.number}, expected {number}")
        return read(self, self.expect(payload, wire_type), depth)

    def number(self, item: Field, depth: int = 0) -> float:
        """A float or a double, depending on its size."""
        size = item.end - item.start
        return float(np.frombuffer(self.data, f"<f{size}", 1, item.start)[0]) if size else 0.0

    def shape(self, item: Field, depth: int = 0) -> tuple[int, ...]:
        """Dimensions, the fastest first. CNTK's special values come out negative: -1 inferred, -2 unknown, -3 free."""
        dims: list[int] = []
        for part in self.fields(item.start, item.end):
            for dim in self.packed(self.expect(part, BYTES)):
                dims.append(dim)
                if len(dims) > MAX_RANK:
                    raise self.error(part.start, f"a shape has more than {MAX_RANK} dimensions")
        return tuple(dims)

    def axis(self, item: Field, depth: int = 0) -> Axis:
        index, name = 0, ""
        for part in self.fields(item.start, item.end):
            if part.number == 1:
                index = signed(self.expect(part, VARINT).value)
            elif part.number == 2:
                name = self.string(self.expect(part, BYTES))
        return Axis(index, name)

    # -- arrays -------------------------------------------------------------------------------------------------------

    def array(self, item: Field, depth: int = 0) -> StoredArray:
        parts = {part.number: part for part in self.fields(item.start, item.end)}
        data_type = self.expect(parts[1], VARINT).value if 1 in parts else 0
        if data_type not in _DTYPES:
            kind = _OTHER_DTYPES.get(data_type, data_type)
            raise self.unsupported(item, f"the numbers have the type {kind}; convolve reads Float, Double and Float16")
        if 2 in parts and parts[2].value != 0:
            raise self.unsupported(item, "the array is sparse; convolve reads dense ones only")
        shape = self.shape(self.expect(parts[3], BYTES)) if 3 in parts else ()
        if min(shape, default=0) < 0:
            raise self.error(item.start, f"an array cannot have the shape {shape}")
        number, dtype = _DTYPES[data_type]
        values = [part for part in parts.values() if part.number >= 4]
        if values and values[0].number != number:
            raise self.error(item.start, f"numbers in field {values[0].number}, expected field {number} for {dtype}")
        return StoredArray(shape, dtype, self.numbers(values[0], dtype) if values else None, item.start)

    def numbers(self, item: Field, dtype: np.dtype[Any]) -> Array | None:
        """The packed numbers as a view of the file; None where there are none."""
        pieces = list(self.fields(item.start, item.end))
        if not pieces:
            return None
        piece = self.expect(pieces[0], BYTES)
        size = piece.end - piece.start
        if len(pieces) > 1 or size % dtype.itemsize:
            raise self.error(piece.start, f"{len(pieces)} pieces of packed numbers, the first of {size} bytes")
        return np.frombuffer(self.data, dtype, size // dtype.itemsize, piece.start)

    def unsupported(self, item: Field, what: str) -> UnsupportedError:
        return UnsupportedError(f"{self.path}: byte {item.start}: {what}")


# Numbers of type Float16 are stored as those of type Float.
_DTYPES: dict[int, tuple[int, np.dtype[Any]]] = {
    1: (4, np.dtype("<f4")), 2: (5, np.dtype("<f8")), 4: (4, np.dtype("<f4")),
}  # fmt: skip
_OTHER_DTYPES = {0: "Unknown", 3: "UChar", 5: "Int8", 6: "Int16"}

# value type -> field of the payload, its wire type, its reader
_VALUE_TYPES: dict[int, tuple[int, int, Callable[[_Reader, Field, int], Any]]] = {
    1: (3, VARINT, lambda reader, item, depth: item.value != 0),
    2: (4, VARINT, lambda reader, item, depth: signed(item.value)),
    3: (5, VARINT, lambda reader, item, depth: item.value),
    4: (6, FIXED32, _Reader.number),
    5: (7, FIXED64, _Reader.number),
    6: (8, BYTES, lambda reader, item, depth: reader.string(item)),
    7: (9, BYTES, _Reader.shape),
    8: (10, BYTES, _Reader.axis),
    9: (11, BYTES, _Reader.vector),
    10: (12, BYTES, _Reader.dictionary),
    11: (13, BYTES, _Reader.array),
}
