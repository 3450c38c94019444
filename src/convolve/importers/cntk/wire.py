"""The protobuf bytes of CNTK v2 files -> plain Python values. Arrays are views of the file's bytes, never copies.

Schema (proto3, package CNTK.proto), as far as it is read here:

    NDShape          1 repeated uint64 (packed)
    Axis             1 int32 index    2 string name    3 bool ordered
    NDArrayView      1 enum data type    2 enum storage    3 NDShape    4 {1 packed float} | 5 {1 packed double} | ...
    Vector           1 repeated DictionaryValue
    Dictionary       1 uint64 version    2 map<string, DictionaryValue>
    DictionaryValue  1 uint64 version    2 enum value type    3..13 the value, in the field of its type

proto3 leaves default values out: a false, a 0, an empty text or an empty shape is a value that has its type only.

A reader of our own rather than the protobuf package, because a damaged file wants the byte in its error, and limits on
nesting and counts; it is no slower either: a 248 MB model takes 0.25 s of processor time to numpy arrays, where
protobuf 7.36 (upb) takes 0.97 s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from convolve.errors import FormatError, UnsupportedError
from convolve.importers.source import brief

T = TypeVar("T")
Array = NDArray[np.floating]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

# The largest models known nest 10 deep and have some 50,000 fields; a file beyond these limits is damaged or hostile.
MAX_DEPTH = 50
MAX_FIELDS = 500_000
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
    """A Dictionary of the file and the byte where it begins. `get` and its kin refuse what has another type."""

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


class Field(NamedTuple):
    """One field of a message: its number, wire type, and either its integer or the range of its bytes."""

    number: int
    kind: int
    value: int
    start: int
    end: int


def read_message(data: bytes, path: object, start: int, end: int) -> Record:
    """The Dictionary message in `data[start:end]`."""
    return _Reader(data, path).dictionary(Field(0, BYTES, 0, start, end))


class _Reader:
    def __init__(self, data: bytes, path: object) -> None:
        self.data, self.path = data, path
        self.fields_left = MAX_FIELDS

    def error(self, offset: int, what: str) -> FormatError:
        return FormatError(self.path, f"byte {offset}", what)

    # -- the wire: varints and fields ---------------------------------------------------------------------------------

    def varint(self, start: int, end: int) -> tuple[int, int]:
        """The unsigned integer at `start` and the offset behind it."""
        result = 0
        for count in range(10):
            if start + count >= end:
                raise self.error(start, "the message ends inside a number")
            byte = self.data[start + count]
            result |= (byte & 0x7F) << (7 * count)
            if byte < 0x80:
                return result & 0xFFFFFFFFFFFFFFFF, start + count + 1
        raise self.error(start, "a number of more than 10 bytes")

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """The fields of the message in [start, end), in file order."""
        while start < end:
            self.fields_left -= 1
            if self.fields_left < 0:
                raise self.error(start, f"more than {MAX_FIELDS} fields")
            tag_at = start
            tag, body = self.varint(start, end)
            number, kind = tag >> 3, tag & 7
            value = 0
            if kind == VARINT:
                value, start = self.varint(body, end)
            elif kind in (FIXED64, FIXED32):
                start = body + (8 if kind == FIXED64 else 4)
            elif kind == BYTES:
                length, body = self.varint(body, end)
                start = body + length
            else:
                raise self.error(tag_at, f"wire type {kind}, which CNTK does not write")
            if start > end:
                raise self.error(tag_at, f"field {number} needs {start - body} bytes, but its message has {end - body}")
            yield Field(number, kind, value, body, start)

    def expect(self, item: Field, kind: int) -> Field:
        if item.kind != kind:
            raise self.error(item.start, f"field {item.number} has wire type {item.kind}, expected {kind}")
        return item

    # -- values; those that cannot nest have no use for the depth -----------------------------------------------------

    def dictionary(self, item: Field, depth: int = 0) -> Record:
        record = Record(self.path, item.start)
        for entry in self.fields(item.start, item.end):
            if entry.number == 2:
                key, value = self.entry(self.expect(entry, BYTES), depth)
                if key in record.values:
                    raise self.error(entry.start, f"the key {brief(key)} stands twice in one dictionary")
                record.values[key] = value
        return record

    def entry(self, item: Field, depth: int) -> tuple[str, Any]:
        key, value = "", None
        for part in self.fields(item.start, item.end):
            if part.number == 1:
                key = self.text(self.expect(part, BYTES))
            elif part.number == 2:
                value = self.value(self.expect(part, BYTES), depth + 1)
        return key, value

    def vector(self, item: Field, depth: int = 0) -> list[Any]:
        parts = self.fields(item.start, item.end)
        return [self.value(self.expect(part, BYTES), depth + 1) for part in parts if part.number == 1]

    def value(self, item: Field, depth: int) -> Any:
        """A DictionaryValue. Where there is no payload, an empty one stands for the default of the type."""
        if depth > MAX_DEPTH:
            raise self.error(item.start, f"values nested more than {MAX_DEPTH} deep")
        kind, payload = 0, None
        for part in self.fields(item.start, item.end):
            if part.number == 2:
                kind = self.expect(part, VARINT).value
            elif part.number >= 3:
                payload = part
        if kind == 0 and payload is None:
            return None
        if kind not in _VALUE_TYPES:
            raise self.error(item.start, f"value type {kind}; known are 0 to {max(_VALUE_TYPES)}")
        number, wire_type, read = _VALUE_TYPES[kind]
        payload = payload or Field(number, wire_type, 0, item.end, item.end)
        if payload.number != number:
            raise self.error(payload.start, f"a value of type {kind} in field {payload.number}, expected {number}")
        return read(self, self.expect(payload, wire_type), depth)

    def flag(self, item: Field, depth: int = 0) -> bool:
        return item.value != 0

    def signed(self, item: Field, depth: int = 0) -> int:
        """An int32: negative numbers are written as 64-bit two's complement."""
        return item.value - (1 << 64) if item.value >> 63 else item.value

    def unsigned(self, item: Field, depth: int = 0) -> int:
        return item.value

    def number(self, item: Field, depth: int = 0) -> float:
        """A float or a double, as its size says."""
        size = item.end - item.start
        return float(np.frombuffer(self.data, f"<f{size}", 1, item.start)[0]) if size else 0.0

    def text(self, item: Field, depth: int = 0) -> str:
        try:
            return self.data[item.start : item.end].decode("utf-8")
        except UnicodeDecodeError:
            raise self.error(item.start, "a text that is not UTF-8") from None

    def shape(self, item: Field, depth: int = 0) -> tuple[int, ...]:
        """Dimensions, the fastest first. CNTK's special values come out negative: -1 inferred, -2 unknown, -3 free."""
        dims: list[int] = []
        for part in self.fields(item.start, item.end):
            at = self.expect(part, BYTES).start
            while at < part.end:
                value, at = self.varint(at, part.end)
                dims.append(value - (1 << 64) if value >> 63 else value)
                if len(dims) > MAX_RANK:
                    raise self.error(part.start, f"a shape of more than {MAX_RANK} dimensions")
        return tuple(dims)

    def axis(self, item: Field, depth: int = 0) -> Axis:
        index, name = 0, ""
        for part in self.fields(item.start, item.end):
            if part.number == 1:
                index = self.signed(self.expect(part, VARINT))
            elif part.number == 2:
                name = self.text(self.expect(part, BYTES))
        return Axis(index, name)

    # -- arrays -------------------------------------------------------------------------------------------------------

    def array(self, item: Field, depth: int = 0) -> StoredArray:
        parts = {part.number: part for part in self.fields(item.start, item.end)}
        data_type = self.expect(parts[1], VARINT).value if 1 in parts else 0
        if data_type not in _DTYPES:
            raise self.unsupported(
                item, f"numbers of type {_OTHER_DTYPES.get(data_type, data_type)}, not Float or Double"
            )
        if 2 in parts and parts[2].value != 0:
            raise self.unsupported(item, "a sparse array")
        shape = self.shape(self.expect(parts[3], BYTES)) if 3 in parts else ()
        if min(shape, default=0) < 0:
            raise self.error(item.start, f"an array of shape {shape}")
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


_DTYPES: dict[int, tuple[int, np.dtype[Any]]] = {1: (4, np.dtype("<f4")), 2: (5, np.dtype("<f8"))}
_OTHER_DTYPES = {0: "Unknown", 3: "UChar", 4: "Float16", 5: "Int8", 6: "Int16"}

# value type -> field of the payload, its wire type, its reader
_VALUE_TYPES: dict[int, tuple[int, int, Callable[[_Reader, Field, int], Any]]] = {
    1: (3, VARINT, _Reader.flag),
    2: (4, VARINT, _Reader.signed),
    3: (5, VARINT, _Reader.unsigned),
    4: (6, FIXED32, _Reader.number),
    5: (7, FIXED64, _Reader.number),
    6: (8, BYTES, _Reader.text),
    7: (9, BYTES, _Reader.shape),
    8: (10, BYTES, _Reader.axis),
    9: (11, BYTES, _Reader.vector),
    10: (12, BYTES, _Reader.dictionary),
    11: (13, BYTES, _Reader.array),
}
