"""Tar archives, plain or packed with gzip, bzip2 or xz, read in one pass.

The one place that opens one (`tests/test_house.py`): what it takes of memory and time is bounded by what it is,
whatever it says.
"""

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Any, NoReturn

from convolve.atomic import open_ordinary
from convolve.errors import FormatError

MAX_BYTES = 1 << 28  # of all wanted members together; CIFAR-10 has 184 MB
# ValueError, OverflowError: numbers in extended headers; RecursionError: hundreds of these before one member
DAMAGE = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, ValueError, OverflowError, RecursionError)
# Images hardly get smaller by packing. Whatever is smaller than this, or no larger than so many times what it is
# packed, may be unpacked; more is an archive that is made to fill memory or disk.
ALWAYS_BYTES, MOST_TIMES = 1 << 30, 200
_LONGEST_HEADER = 1 << 20  # and reads; systems have names of some thousand bytes
_XZ_MEMORY = 1 << 28  # bytes of the dictionary; `xz -9` takes 65 MB
_PIECE = 1 << 16


class _Xz(io.RawIOBase):
    """As `lzma.LZMAFile`, which gives a dictionary as much memory as the file says that it needs."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._unpacker, self._at = file, lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY), 0
        self._rest = b""  # behind the end of a stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = b""
        while not found:
            packed = b""
            if self._unpacker.eof or self._unpacker.needs_input:
                packed, self._rest = self._rest or self._file.read(_PIECE), b""
                if not packed and self._unpacker.eof:
                    return 0
                if not packed:
                    raise EOFError("the data ends before its end was marked")
            if self._unpacker.eof:
                if not (packed := packed.lstrip(b"\0")):  # they may stand between two streams, and behind the last
                    continue
                self._unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY)
            found = self._unpacker.decompress(packed, len(buffer))
            self._rest = self._unpacker.unused_data
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """Forward; what was just read is in the buffer of the caller."""
        while self._at < offset and self.read(min(_PIECE, offset - self._at)):
            pass
        return self._at


class _Member(tarfile.TarInfo):
    """No sparse file, which takes no room for zeros in the archive, and all the more where it is read."""

    def _refuse(self, *_: object) -> NoReturn:
        raise tarfile.ReadError(f"a sparse file, {self.name[:200]}; pack it without --sparse")

    _proc_sparse = _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse


# How packed archives begin, and what unpacks them.
_PACKED: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file), b"BZh": bz2.BZ2File, b"\xfd7zXZ\0": _Xz,
}  # fmt: skip


class _Unpacked(io.BufferedReader):
    """What is in the archive: never so much at once as a header that lies about the length of a name asks for, nor more
    in all than an honest archive holds."""

    most_bytes = ALWAYS_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of more than {_LONGEST_HEADER:,} bytes")
        self._require(self.tell() + size)
        with _naming_damage():
            return super().read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._require(offset)
        with _naming_damage():
            return super().seek(offset, whence)

    def _require(self, end: int) -> None:
        if end > self.most_bytes + _LONGEST_HEADER:
            raise tarfile.ReadError(
                f"it unpacks to more than {self.most_bytes:,} bytes; if you trust it, unpack it yourself"
            )


@contextmanager
def _naming_damage() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            raise
        raise tarfile.ReadError(str(error)) from None  # so do gzip and bz2 say that data are damaged


def read_tar(
    path: str | Path, wanted: Callable[[PurePosixPath], bool], content: bytes | None = None
) -> dict[str, bytes]:
    """Name -> content of the files in the archive that are `wanted`, in memory. With its `content` it is not opened.

    The archive is read to its end, so that one that was cut off or altered raises `FormatError` wherever that is.
    """
    members: dict[str, bytes] = {}
    left = MAX_BYTES
    try:
        for member, file in read_members(path, content):
            if file and wanted(PurePosixPath(member.name)):
                left -= member.size
                if left < 0:
                    raise FormatError(path, member.name, f"more than {MAX_BYTES} bytes of data up to here")
                members[member.name] = b"".join(iter(partial(file.read, _PIECE), b""))
    except DAMAGE as error:
        what = (
            "a web page, not an archive"
            if content is None and is_page(path)
            else f"no tar archive, or a damaged one ({error})"
        )
        raise FormatError(path, "", f"{what}; get it again") from None
    return members


def is_page(path: str | Path) -> bool:
    """Whether it is what a server says in place of a file: log in first, not found."""
    with open_ordinary(path) as file:
        return file.read(1 << 10).lstrip().startswith(b"<")


def read_members(path: str | Path, content: bytes | None = None) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """Each member, and of a file its content, which is to be read before the next member is asked for.

    Raises one of `DAMAGE`, or `FormatError` for an archive that was cut off behind a member.
    """
    with _opened(Path(path), content) as (file, tar):
        for member in tar:
            if tar.offset < member.offset_data:  # Python before 3.11.14 would go round in circles
                raise tarfile.ReadError(f"{member.name[:200]} has a size below zero")
            yield member, tar.extractfile(member) if member.isreg() else None
            tar.members = []  # type: ignore[attr-defined] # of a million files they would take a gigabyte
        _require_end(path, file, tar)


def is_tar(path: Path) -> bool:
    """By its first header."""
    try:
        with _opened(path):
            return True
    except (*DAMAGE, OSError):
        return False


def first_names_in_tar(path: Path, count: int) -> list[str]:
    """What the first members are called."""
    with _opened(path) as (_, tar):
        return [member.name for member in islice(tar, count)]


@contextmanager
def _opened(path: Path, content: bytes | None = None) -> Iterator[tuple[_Unpacked, tarfile.TarFile]]:
    packed: Any
    with open_ordinary(path) if content is None else BytesIO(content) as packed:
        head = packed.read(6)
        unpack = next((unpack for magic, unpack in _PACKED.items() if head.startswith(magic)), None)
        size = packed.seek(0, 2)
        packed.seek(0)
        with _Unpacked(unpack(packed) if unpack else packed, 1 << 17) as file:
            file.most_bytes = max(ALWAYS_BYTES, size * (MOST_TIMES if unpack else 1))
            with tarfile.open(fileobj=file, mode="r:", tarinfo=_Member) as tar:
                yield file, tar


def _require_end(path: str | Path, file: _Unpacked, tar: tarfile.TarFile) -> None:
    """Python's tarfile takes any damaged header but the first for the end, and reads no checksum behind the end."""
    file.seek(tar.offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise FormatError(path, f"byte {tar.offset} of the unpacked archive", "damaged or cut off here; get it again")
    while file.read(_PIECE):
        pass
