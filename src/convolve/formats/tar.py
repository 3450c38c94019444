"""Tar archives, plain or packed with gzip, bzip2 or xz, read in one pass.

The only module that opens them (`tests/test_house.py`): memory and time are bounded by the archive's real size,
whatever its headers claim.
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

MAX_BYTES = 1 << 28  # bytes of all wanted members together; CIFAR-10 has 184 MB
# ValueError, OverflowError: numbers in extended headers; RecursionError: hundreds of these before one member
DAMAGE = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, ValueError, OverflowError, RecursionError)
# Images hardly compress. Data smaller than this, or up to this many times its packed size, may be unpacked; anything
# larger is an archive made to fill memory or disk.
ALWAYS_BYTES, MOST_TIMES = 1 << 30, 200
_LONGEST_HEADER = 1 << 20  # and reads; systems have names of some thousand bytes
_XZ_MEMORY = 1 << 28  # bytes of the dictionary; `xz -9` takes 65 MB
_PADDING_BYTES = 1 << 20  # behind what is packed
_PIECE = 1 << 16


class _Xz(io.RawIOBase):
    """As `lzma.LZMAFile`, which would give the dictionary as much memory as the file asks for."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._unpacker, self._at = file, lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY), 0
        self._rest = b""  # after the end of a stream

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
                if not (packed := packed.lstrip(b"\0")):  # padding between two streams, or after the last
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
        """Forward only; what was just read is in the caller's buffer."""
        while self._at < offset and self.read(min(_PIECE, offset - self._at)):
            pass
        return self._at


class _Member(tarfile.TarInfo):
    """Refuses sparse files, whose zeros take no space in the archive but much when read."""

    def _refuse(self, *_: object) -> NoReturn:
        raise tarfile.ReadError(f"a sparse file, {self.name[:200]}; pack it without --sparse")

    _proc_sparse = _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse


# How packed archives begin, and the functions that unpack them.
_PACKED: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file), b"BZh": bz2.BZ2File, b"\xfd7zXZ\0": _Xz,
}  # fmt: skip


class _Unpacked(io.BufferedReader):
    """The archive's unpacked content: no single read as large as a header that lies about a name's length asks for, and
    in total no more than an honest archive holds."""

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
    """Name -> content of the `wanted` files in the archive, in memory; if `content` is given, the file is not opened.

    The archive is read to its end, so that `FormatError` is raised wherever it was truncated or altered.
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
            else f"not a tar archive, or a damaged one ({error})"
        )
        raise FormatError(path, "", f"{what}; get it again") from None
    return members


def is_page(path: str | Path) -> bool:
    """Whether it is a web page that a server sent instead of a file: log in first, not found."""
    with open_ordinary(path) as file:
        return file.read(1 << 10).lstrip().startswith(b"<")


def read_members(path: str | Path, content: bytes | None = None) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """Each member and, for a file, its content, which must be read before the next member is requested.

    Raises one of `DAMAGE`, or `FormatError` for an archive truncated after a member.
    """
    with _opened(Path(path), content) as (file, tar):
        for member in tar:
            if tar.offset < member.offset_data:  # Python before 3.11.14 would go round in circles
                raise tarfile.ReadError(f"{member.name[:200]} has a size below zero")
            yield member, tar.extractfile(member) if member.isreg() else None
            tar.members = []  # type: ignore[attr-defined] # of a million files they would take a gigabyte
        _require_end(path, file, tar)


def is_tar(path: Path) -> bool:
    """Whether it is a tar archive, by its first header."""
    try:
        with _opened(path):
            return True
    except (*DAMAGE, OSError):
        return False


def first_names_in_tar(path: Path, count: int) -> list[str]:
    """The names of the first members."""
    with _opened(path) as (_, tar):
        return [member.name for member in islice(tar, count)]


@contextmanager
def _opened(path: Path, content: bytes | None = None) -> Iterator[tuple[_Unpacked, tarfile.TarFile]]:
    packed: Any
    with open_ordinary(path) if content is None else BytesIO(content) as packed:
        head = packed.read(6)
        unpack = next((unpack for magic, unpack in _PACKED.items() if head.startswith(magic)), None)
        size = packed.seek(0, 2)
        packed.seek(max(size - _PADDING_BYTES, 0))
        if unpack and size > _PADDING_BYTES and not packed.read().strip(b"\0"):  # gzip would skip them one by one
            raise tarfile.ReadError("it ends in a megabyte of zeros")
        packed.seek(0)
        with _Unpacked(unpack(packed) if unpack else packed, 1 << 17) as file:
            file.most_bytes = max(ALWAYS_BYTES, size * (MOST_TIMES if unpack else 1))
            with tarfile.open(fileobj=file, mode="r:", tarinfo=_Member) as tar:
                yield file, tar


def _require_end(path: str | Path, file: _Unpacked, tar: tarfile.TarFile) -> None:
    """Python's tarfile takes any damaged header except the first for the end, and does not verify what follows."""
    file.seek(tar.offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise FormatError(path, f"byte {tar.offset} of the unpacked archive", "damaged or cut off here; get it again")
    while file.read(_PIECE):
        pass
