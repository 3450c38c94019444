"""Protobuf's wire format: the fields of a message, in the order of the file, with the byte in every error.

A reader of our own rather than the protobuf package, because a damaged file wants the byte in its error, and limits on
nesting and counts; it is no slower either: a 248 MB CNTK model takes 0.25 s of processor time to numpy arrays, where
protobuf 7.36 (upb) takes 0.97 s.
"""

from collections.abc import Iterator
from mmap import mmap
from typing import NamedTuple

from convolve.errors import FormatError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

# The largest models known have some 50,000 fields; a file beyond this limit is damaged or hostile.
MAX_FIELDS = 500_000


class Field(NamedTuple):
    """One field of a message: its number, wire type, and either its integer or the range of its bytes."""

    number: int
    kind: int
    value: int
    start: int
    end: int


class WireReader:
    """The bytes of one file; `path` is for messages. More than `most_fields` are refused."""

    def __init__(self, data: bytes | mmap, path: object, most_fields: int | None = None) -> None:
        self.data, self.path = data, path
        self.most_fields = self.fields_left = MAX_FIELDS if most_fields is None else most_fields

    def error(self, offset: int, what: str) -> FormatError:
        return FormatError(self.path, f"byte {offset}", f"{what}; copy or download the file again")

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

    def field(self, start: int, end: int) -> Field:
        """The field at `start` of a message that ends at `end`."""
        self.fields_left -= 1
        if self.fields_left < 0:
            raise self.error(start, f"more than {self.most_fields} fields")
        tag, body = self.varint(start, end)
        number, kind = tag >> 3, tag & 7
        value = 0
        if kind == VARINT:
            value, stop = self.varint(body, end)
        elif kind in (FIXED64, FIXED32):
            stop = body + (8 if kind == FIXED64 else 4)
        elif kind == BYTES:
            length, body = self.varint(body, end)
            stop = body + length
        else:
            raise self.error(start, f"wire type {kind}, which model files do not have")
        if stop > end:
            raise self.error(start, f"field {number} needs {stop - body} bytes, but its message has {end - body}")
        return Field(number, kind, value, body, stop)

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """The fields of the message in [start, end)."""
        while start < end:
            item = self.field(start, end)
            start = item.end
            yield item

    def expect(self, item: Field, kind: int) -> Field:
        if item.kind != kind:
            raise self.error(item.start, f"field {item.number} has wire type {item.kind}, expected {kind}")
        return item

    def string(self, item: Field) -> str:
        try:
            return self.data[item.start : item.end].decode("utf-8")
        except UnicodeDecodeError:
            raise self.error(item.start, "a text that is not UTF-8") from None

    def packed(self, item: Field) -> Iterator[int]:
        """The integers of a repeated field, signed: side by side in one run of bytes, or one by itself."""
        at = item.start
        while at < item.end:
            value, at = self.varint(at, item.end)
            yield signed(value)


def signed(value: int) -> int:
    """An int64 or int32 from its varint: negative numbers are written as 64-bit two's complement."""
    return value - (1 << 64) if value >> 63 else value
