"""Plain tar archives: the positions of their members, from the headers alone, and new headers.

Source: POSIX.1-1988 (ustar), its `x` records of 2001 and GNU's long names. Python's tarfile takes 3.5 times as long,
which matters with two million members.
"""

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from convolve.atomic import open_ordinary
from convolve.errors import DataError, FormatError

BLOCK = 512

_AHEAD = 1 << 13  # bytes read with a header: that of a small member, and the next header
_SMALL = _AHEAD // 2  # bytes of a member that is handed on with its header
_MOST_TEXT = 1 << 16  # bytes of a long name
_FILES, _LONG_NAME, _RECORDS = b"0\0007", b"L", b"x"
_END = bytes(BLOCK)
_ADLER = 65521  # RFC 1950: the low half of Adler-32 is 1 and the sum of all bytes, modulo this
_CUT = "cut off or damaged here; get the shard again"


class Member(NamedTuple):
    """A file in the archive: its content is `size` bytes from `start`; `head` is its beginning, read with
    the header."""

    name: str
    start: int
    size: int
    head: bytes


def tar_members(path: Path) -> Iterator[Member]:
    """The files in `path`, in order. Raises `FormatError` if the archive is truncated or damaged."""
    try:
        file = open_ordinary(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    with file:
        yield from _members(path, file.fileno(), os.fstat(file.fileno()).st_size)


def _members(path: Path, handle: int, end: int) -> Iterator[Member]:
    at, window, window_at, long_name = 0, b"", 0, ""
    while True:
        offset = at - window_at
        if offset < 0 or offset + BLOCK > len(window):
            window, window_at, offset = read_at(handle, _AHEAD, at), at, 0
        header = window[offset : offset + BLOCK]
        if header == _END:
            return
        size = _checked_size(path, header, at)
        start, kind = at + BLOCK, header[156:157]
        at = start + (size + BLOCK - 1) // BLOCK * BLOCK
        if at + BLOCK > end:  # no room for the block of zeros that ends an archive
            raise FormatError(path, f"{_name(header)}, byte {start}", _CUT)
        if kind in (_LONG_NAME, _RECORDS) and size <= _MOST_TEXT:
            text = read_at(handle, size, start)
            long_name = _text(text) if kind == _LONG_NAME else _path_in(text) or long_name
            continue
        if kind in _FILES or not kind:
            name = long_name or _name(header)
            yield Member(name, start, size, window[offset + BLOCK : offset + BLOCK + size] if size <= _SMALL else b"")
        long_name = ""


def tar_header(name: str, size: int) -> bytes:
    """The header of a regular file, independent of user and time: owner 0, of 1970. The name has at most 100 bytes."""
    header = bytearray(BLOCK)
    encoded = name.encode("utf-8", "surrogateescape")
    header[: len(encoded)] = encoded
    header[100:156] = b"0000644\0%b%b%011o\0%011o\0        " % (b"0000000\0", b"0000000\0", size, 0)
    header[156:157], header[257:265] = b"0", b"ustar\00000"
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def read_at(handle: int, size: int, start: int) -> bytes:
    """The bytes from `start`, fewer at the end of the file. Threads may share the handle, except on Windows."""
    if hasattr(os, "pread"):
        return os.pread(handle, size, start)
    os.lseek(handle, start, os.SEEK_SET)
    return os.read(handle, size)


def _checked_size(path: Path, header: bytes, at: int) -> int:
    """The size of a member, by its header, whose checksum must be right."""
    try:
        found = int(header[148:156].strip(b" \0") or b"0", 8)
        size = int.from_bytes(header[125:136]) if header[124] & 0x80 else int(header[124:136].strip(b" \0") or b"0", 8)
    except (ValueError, IndexError):
        found = size = -1
    # The sum counts itself as eight blanks. Python's own `sum` takes most of the time of a large index.
    expected = (found + sum(header[148:156]) - 8 * 32 + 1) % _ADLER
    if len(header) < BLOCK or size < 0 or zlib.adler32(header) & 0xFFFF != expected:
        what = _CUT if at else "this is not a plain tar archive; unpack it with gunzip or the like, or pack it again"
        raise FormatError(path, f"byte {at}", what)
    return size


def _name(header: bytes) -> str:
    name = _text(header[:100])
    return f"{_text(header[345:500])}/{name}" if header[345] and header[257:263] == b"ustar\0" else name


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _path_in(records: bytes) -> str:
    """The path among `LENGTH KEY=VALUE` records, if there is one."""
    while records:
        length, _, rest = records.partition(b" ")
        if not (length.isdigit() and len(length) <= len(str(_MOST_TEXT))):
            return ""
        key, _, value = rest[: int(length) - len(length) - 2].partition(b"=")
        if key == b"path":
            return value.decode("utf-8", "surrogateescape")
        records = records[max(int(length), 1) :]
    return ""
