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

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np

from convolve.errors import FormatError, UnsupportedError
from convolve.importers.source import brief

T = TypeVar("T")

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

# A ResNet-152 nests 10 deep and holds some 20,000 values; a file beyond these limits is damaged or hostile.
MAX_DEPTH = 50
MAX_VALUES = 500_000
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
    values: np.ndarray | None
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
    return _Reader(data, path).dictionary(start, end, 0)


class _Reader:
    def __init__(self, data: bytes, path: object) -> None:
        self.data, self.path = data, path
        self.values_left = MAX_VALUES

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
            tag_at = start
            tag, start = self.varint(start, end)
            number, kind = tag >> 3, tag & 7
            value = 0
            if kind == VARINT:
                body = start
                value, start = self.varint(start, end)
            elif kind in (FIXED64, FIXED32):
                body, start = start, start + (8 if kind == FIXED64 else 4)
            elif kind == BYTES:
                length, body = self.varint(start, end)
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

    def text(self, item: Field) -> str:
        self.expect(item, BYTES)
        try:
            return self.data[item.start : item.end].decode("utf-8")
        except UnicodeDecodeError:
            raise self.error(item.start, "a text that is not UTF-8") from None

    def signed(self, item: Field) -> int:
        """An int32 or int64: negative numbers are written as 64-bit two's complement."""
        value = self.expect(item, VARINT).value
        return value - (1 << 64) if value >> 63 else value

    # -- messages -----------------------------------------------------------------------------------------------------

    def dictionary(self, start: int, end: int, depth: int) -> Record:
        record = Record(self.path, start)
        for item in self.fields(start, end):
            if item.number == 2:
                key, value = self.entry(self.expect(item, BYTES), depth)
                if key in record.values:
                    raise self.error(item.start, f"the key {brief(key)} stands twice in one dictionary")
                record.values[key] = value
        return record

    def entry(self, item: Field, depth: int) -> tuple[str, Any]:
        key, value = "", None
        for part in self.fields(item.start, item.end):
            if part.number == 1:
                key = self.text(part)
            elif part.number == 2:
                value = self.value(self.expect(part, BYTES), depth + 1)
        return key, value

    def value(self, item: Field, depth: int) -> Any:
        """A DictionaryValue. An absent payload means the default of the stated type."""
        self.values_left -= 1
        if depth > MAX_DEPTH:
            raise self.error(item.start, f"values nested more than {MAX_DEPTH} deep")
        if self.values_left < 0:
            raise self.error(item.start, f"more than {MAX_VALUES} values")
        kind, payload = 0, None
        for part in self.fields(item.start, item.end):
            if part.number == 2:
                kind = self.expect(part, VARINT).value
            elif part.number >= 3:
                payload = part
        if kind == 0 and payload is None:
            return None
        if kind not in _VALUE_TYPES:
            raise self.error(item.start, f"value type {kind}; known are 0 to 11")
        number, wire_type, default, read = _VALUE_TYPES[kind]
        if payload is None:
            return default(self, item.start)
        if payload.number != number:
            raise self.error(
                payload.start, f"a value of type {kind} in field {payload.number}, expected field {number}"
            )
        return read(self, self.expect(payload, wire_type), depth)

    def float32(self, item: Field) -> float:
        return float(struct.unpack_from("<f", self.data, item.start)[0])

    def float64(self, item: Field) -> float:
        return float(struct.unpack_from("<d", self.data, item.start)[0])

    def vector(self, item: Field, depth: int) -> list[Any]:
        parts = self.fields(item.start, item.end)
        return [self.value(self.expect(part, BYTES), depth + 1) for part in parts if part.number == 1]

    def shape(self, item: Field) -> tuple[int, ...]:
        """Dimensions, the fastest first. CNTK's special values come out negative: -1 inferred, -2 unknown, -3 free."""
        dims: list[int] = []
        for part in self.fields(item.start, item.end):
            if part.number != 1:
                continue
            at = part.start
            while at < part.end:
                value, at = self.varint(at, part.end)
                dims.append(value - (1 << 64) if value >> 63 else value)
                if len(dims) > MAX_RANK:
                    raise self.error(part.start, f"a shape of more than {MAX_RANK} dimensions")
        return tuple(dims)

    def axis(self, item: Field) -> Axis:
        index, name = 0, ""
        for part in self.fields(item.start, item.end):
            if part.number == 1:
                index = self.signed(part)
            elif part.number == 2:
                name = self.text(part)
        return Axis(index, name)

    def array(self, item: Field) -> StoredArray:
        data_type = 0
        shape: tuple[int, ...] = ()
        values: Field | None = None
        for part in self.fields(item.start, item.end):
            if part.number == 1:
                data_type = self.expect(part, VARINT).value
            elif part.number == 2 and self.expect(part, VARINT).value != 0:
                raise UnsupportedError(f"{self.path}: byte {part.start}: a sparse array; only dense ones are read")
            elif part.number == 3:
                shape = self.shape(self.expect(part, BYTES))
            elif part.number >= 4:
                values = part
        if data_type not in _DTYPES:
            name = _OTHER_DTYPES.get(data_type, str(data_type))
            raise UnsupportedError(
                f"{self.path}: byte {item.start}: numbers of type {name}; only Float and Double are read"
            )
        number, dtype = _DTYPES[data_type]
        if any(d < 0 for d in shape):
            raise self.error(item.start, f"an array of shape {shape}")
        return StoredArray(shape, dtype, values and self.numbers(values, number, dtype), item.start)

    def numbers(self, item: Field, number: int, dtype: np.dtype[Any]) -> np.ndarray | None:
        """The packed numbers as a view of the file; None where there are none."""
        if item.number != number:
            raise self.error(item.start, f"numbers in field {item.number}, expected field {number} for {dtype}")
        pieces = [part for part in self.fields(item.start, item.end) if part.number == 1]
        if not pieces:
            return None
        piece = self.expect(pieces[0], BYTES)
        size = piece.end - piece.start
        if len(pieces) > 1 or size % dtype.itemsize:
            raise self.error(piece.start, f"{len(pieces)} pieces of packed numbers, the first of {size} bytes")
        return np.frombuffer(self.data, dtype, size // dtype.itemsize, piece.start)


_DTYPES: dict[int, tuple[int, np.dtype[Any]]] = {1: (4, np.dtype("<f4")), 2: (5, np.dtype("<f8"))}
_OTHER_DTYPES = {0: "Unknown", 3: "UChar", 4: "Float16", 5: "Int8", 6: "Int16"}

# value type -> field of the payload, its wire type, its default, its reader
_VALUE_TYPES: dict[int, tuple[int, int, Callable[[_Reader, int], Any], Callable[[_Reader, Field, int], Any]]] = {
    1: (3, VARINT, lambda reader, at: False, lambda reader, item, depth: item.value != 0),
    2: (4, VARINT, lambda reader, at: 0, lambda reader, item, depth: reader.signed(item)),
    3: (5, VARINT, lambda reader, at: 0, lambda reader, item, depth: item.value),
    4: (6, FIXED32, lambda reader, at: 0.0, lambda reader, item, depth: reader.float32(item)),
    5: (7, FIXED64, lambda reader, at: 0.0, lambda reader, item, depth: reader.float64(item)),
    6: (8, BYTES, lambda reader, at: "", lambda reader, item, depth: reader.text(item)),
    7: (9, BYTES, lambda reader, at: (), lambda reader, item, depth: reader.shape(item)),
    8: (10, BYTES, lambda reader, at: Axis(0, ""), lambda reader, item, depth: reader.axis(item)),
    9: (11, BYTES, lambda reader, at: [], lambda reader, item, depth: reader.vector(item, depth)),
    10: (
        12,
        BYTES,
        lambda reader, at: Record(reader.path, at),
        lambda reader, item, depth: reader.dictionary(item.start, item.end, depth),
    ),
    11: (13, BYTES, lambda reader, at: None, lambda reader, item, depth: reader.array(item)),
}
