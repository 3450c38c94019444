"""The primitive encoding of CNTK v1 ("BCN") files: little endian, no alignment, no lengths, text in UTF-16."""

import struct
from functools import partialmethod
from math import prod
from typing import Any

import numpy as np

from convolve.errors import FormatError, UnsupportedError
from convolve.graph.graph import Array
from convolve.graph.shapes import Shape

# The largest models known have some 10,000 texts; a file beyond these limits is damaged or hostile.
MAX_TEXTS = 300_000
MAX_LETTERS = 1000
MAX_RANK = 16


class Cursor:
    """Reads from `offset` on. Every read checks how many bytes are left before it takes or allocates anything."""

    def __init__(self, data: bytes, path: object) -> None:
        self.data, self.path, self.offset = data, path, 0
        self.texts_left = MAX_TEXTS

    def error(self, what: str, offset: int | None = None) -> FormatError:
        return FormatError(
            self.path, f"byte {self.offset if offset is None else offset}", f"{what}; copy or download the file again"
        )

    def _take(self, size: int, what: str) -> int:
        """The offset of the next `size` bytes, which are skipped."""
        start, left = self.offset, len(self.data) - self.offset
        if size > left:
            raise self.error(f"{what} of {size} bytes, but the file has {left} left")
        self.offset += size
        return start

    def _integer(self, code: str) -> int:
        (value,) = struct.unpack_from(f"<{code}", self.data, self._take(struct.calcsize(code), "a number"))
        return int(value)

    def _real(self, code: str) -> float:
        (value,) = struct.unpack_from(f"<{code}", self.data, self._take(struct.calcsize(code), "a number"))
        return float(value)

    u32, i32 = partialmethod(_integer, "I"), partialmethod(_integer, "i")
    u64, i64 = partialmethod(_integer, "Q"), partialmethod(_integer, "q")
    f32, f64 = partialmethod(_real, "f"), partialmethod(_real, "d")

    def flag(self) -> bool:
        value = self.data[self._take(1, "a flag")]
        if value > 1:
            raise self.error(f"a flag has the value {value}", self.offset - 1)
        return value == 1

    def text(self) -> str:
        start = self.offset
        self.texts_left -= 1
        if self.texts_left < 0:
            raise self.error(f"the file has more than {MAX_TEXTS} texts")
        end = self.data.find(b"\0\0", start, start + 2 * MAX_LETTERS)
        while end >= 0 and (end - start) % 2:  # the second byte of one letter and the first of the next
            end = self.data.find(b"\0\0", end + 1, start + 2 * MAX_LETTERS)
        if end < 0:
            raise self.error(f"a text does not end within {MAX_LETTERS} letters")
        self.offset = end + 2
        try:
            return self.data[start:end].decode("utf-16-le")
        except UnicodeDecodeError:
            raise self.error("a text is not UTF-16", start) from None

    def next_is(self, marker: str) -> bool:
        return self.data.startswith(encoded(marker), self.offset)

    def marker(self, *names: str) -> None:
        """The next marker, which must be one of `names`."""
        for name in names:
            if self.next_is(name):
                self.offset += len(encoded(name))
                return
        raise self.error(f"expected the marker {' or '.join(names)}")

    def count(self, what: str, least_size: int) -> int:
        """A u64 number of things that take at least `least_size` bytes each."""
        count, left = self.u64(), len(self.data) - self.offset
        if count * least_size > left:
            raise self.error(f"{count} {what}, but the file has {left} bytes left", self.offset - 8)
        return count

    def axes(self, count: int) -> range:
        """The numbers of `count` axes; more axes than any value has are refused."""
        if not 0 <= count <= MAX_RANK:
            raise self.error(f"{count} axes")
        return range(count)

    def flags(self) -> list[bool]:
        return [self.flag() for _ in self.axes(self.u64())]

    def shape(self, legacy: bool = False) -> Shape:
        """Dimensions, the fastest first. Where `legacy` ones are possible, three u64 (W, H, C) stand for C x W x H."""
        start = self.offset
        rank, following = self.u32(), self.data[self.offset : self.offset + 4]
        if legacy and rank and following == b"\0\0\0\0":
            self.offset = start
            width, height, channels = self.u64(), self.u64(), self.u64()
            return (channels, width, height)
        return tuple(self.u32() for _ in self.axes(rank))

    def matrix(self) -> Array:
        """The numbers of a dense matrix in the file's order, as a view of the file."""
        start = self.offset
        kind = self.data[self._take(1, "a matrix") : self.offset]
        if kind == b"s":
            raise UnsupportedError(f"{self.path}: byte {start}: the matrix is sparse; convolve reads dense ones only")
        if kind != b"d":
            raise self.error(f"a matrix has the kind {kind!r}, expected 'd'", start)
        self.marker("BMAT")
        size = self.u64()
        if size not in _DTYPES:
            raise UnsupportedError(
                f"{self.path}: byte {start}: the numbers have {size} bytes; convolve reads numbers of 4 and 8"
            )
        self.text()
        self.i32()
        rows_and_columns = self.u64(), self.u64()
        count = prod(rows_and_columns)
        values = np.frombuffer(
            self.data, _DTYPES[size], count, self._take(size * count, f"a matrix {rows_and_columns}")
        )
        self.marker("EMAT")
        return values


_DTYPES: dict[int, np.dtype[Any]] = {4: np.dtype("<f4"), 8: np.dtype("<f8")}


def encoded(text: str) -> bytes:
    return text.encode("utf-16-le") + b"\0\0"
