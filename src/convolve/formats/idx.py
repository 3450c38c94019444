"""IDX, the format of the MNIST files: a big-endian array after a small header. Plain or gzip, distinguished by content.

    bytes 0, 1   zero
    byte 2       type of the values, see `_DTYPES`
    byte 3       number of dimensions, D
    4 D bytes    the dimensions, unsigned 32-bit big-endian
    the rest     the values, big-endian, last dimension fastest

Source: "The IDX file format" on the MNIST page of Y. LeCun, C. Cortes and C. Burges.
"""

import gzip
import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from convolve.atomic import open_ordinary
from convolve.errors import FormatError

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_PIECE_BYTES = 1 << 20
_MOST_DIMENSIONS = 64  # the maximum of a numpy array
# Numbers of images compress about ten times; larger ones come from a file that is made to fill the memory.
_ALWAYS_BYTES, _MOST_TIMES = 1 << 28, 200
_PADDING_BYTES = 1 << 20  # behind a gzip file
_AGAIN = "download or copy the file again"


def read_idx(path: str | Path) -> np.ndarray:
    """The array of an IDX file, in native byte order.

    Raises `FormatError` with the byte offset (in the unpacked data) if the header is wrong, or promises more or fewer
    values than the file holds; memory never exceeds about the size of the data.
    """
    with open_ordinary(path) as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        file_bytes = raw.seek(0, 2)
        most_bytes = max(_ALWAYS_BYTES, (_MOST_TIMES if packed else 1) * file_bytes)
        raw.seek(0)
        file: io.BufferedIOBase = gzip.GzipFile(fileobj=raw) if packed else raw
        try:
            return _read(path, file, most_bytes, file_bytes if packed else 0)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            place = f"byte {raw.tell()} of the gzip file"
            raise FormatError(path, place, f"the compressed data is damaged ({error}); {_AGAIN}") from error


def _read(path: str | Path, file: io.BufferedIOBase, most_bytes: int, packed_bytes: int) -> np.ndarray:
    shape, dtype = _read_header(path, file)
    start = 4 + 4 * len(shape)
    expected = math.prod(shape) * dtype.itemsize
    if packed_bytes > expected + expected // 1000 + _PADDING_BYTES:  # gzip would look through them one by one
        raise FormatError(path, f"byte {packed_bytes}", f"the file is larger than its values unpacked; {_AGAIN}")
    values = _read_at_most(file, min(expected, most_bytes) + 1)
    if len(values) > most_bytes:
        what = f"more than {most_bytes:,} bytes from so few; if you trust the file, unpack it yourself"
        raise FormatError(path, f"byte {start}", what)
    if len(values) != expected:
        promise = f"expected {' x '.join(map(str, shape))} values of {dtype.itemsize} bytes from byte {start} on"
        what = "but the file ends here" if len(values) < expected else "but the file has more"
        raise FormatError(path, f"byte {start + min(len(values), expected)}", f"{promise}, {what}; {_AGAIN}")
    return np.frombuffer(values, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _read_header(path: str | Path, file: io.BufferedIOBase) -> tuple[tuple[int, ...], np.dtype]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        what = f"expected an IDX header (00 00, type, number of dimensions), got {magic.hex(' ') or 'nothing'}"
        raise FormatError(path, "byte 0", f"{what}; is this an IDX file?")
    if magic[2] not in _DTYPES:
        known = bytes(_DTYPES).hex(" ")
        raise FormatError(path, "byte 2", f"expected a type of IDX ({known}), got {magic[2]:02x}; {_AGAIN}")
    if not 1 <= magic[3] <= _MOST_DIMENSIONS:
        raise FormatError(path, "byte 3", f"expected 1 to {_MOST_DIMENSIONS} dimensions, got {magic[3]}; {_AGAIN}")
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        what = f"expected {magic[3]} dimensions of 4 bytes, but the file ends"
        raise FormatError(path, f"byte {4 + len(sizes)}", f"{what}; {_AGAIN}")
    return struct.unpack(f">{magic[3]}I", sizes), np.dtype(_DTYPES[magic[2]])


def _read_at_most(file: io.BufferedIOBase, limit: int) -> bytearray:
    """Grows with the data that is there, because the header may claim any size."""
    content = bytearray()
    while piece := file.read(min(_PIECE_BYTES, limit - len(content))):
        content += piece
    return content
