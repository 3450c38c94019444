"""Tar archives, plain or packed with gzip, bzip2 or xz, read in one pass."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO

from convolve.errors import FormatError

MAX_BYTES = 1 << 30  # of all wanted members together; CIFAR-10 has 184 MB
DAMAGE = (tarfile.TarError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError)
# How packed archives begin, and what unpacks them.
_PACKED: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file), b"BZh": bz2.BZ2File, b"\xfd7zXZ\0": lzma.LZMAFile,
}  # fmt: skip


def read_tar(path: str | Path, wanted: Callable[[PurePosixPath], bool]) -> dict[str, bytes]:
    """Name -> content of the files in the archive that are `wanted`, in memory.

    The archive is read to its end, so that one that was cut off or altered raises `FormatError` wherever that is.
    """
    members: dict[str, bytes] = {}
    left = MAX_BYTES
    try:
        for member, content in read_members(path):
            if content and wanted(PurePosixPath(member.name)):
                left -= member.size
                if left < 0:
                    raise FormatError(path, member.name, f"more than {MAX_BYTES} bytes of data up to here")
                members[member.name] = content.read()
    except DAMAGE as error:
        what = "a web page, not an archive" if is_page(path) else f"no tar archive, or a damaged one ({error})"
        raise FormatError(path, "", f"{what}; get it again") from None
    return members


def is_page(path: str | Path) -> bool:
    """Whether it is what a server says in place of a file: log in first, not found."""
    with Path(path).open("rb") as file:
        return file.read(1 << 10).lstrip().startswith(b"<")


def read_members(path: str | Path) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """Each member, and of a file its content, which is to be read before the next member is asked for.

    Raises one of `DAMAGE`, or `FormatError` for an archive that was cut off behind a member.
    """
    with _unpacked(Path(path)) as file, tarfile.open(fileobj=file, mode="r:") as tar:
        for member in tar:
            yield member, tar.extractfile(member) if member.isreg() else None
            tar.members = []  # type: ignore[attr-defined] # of a million files they would take a gigabyte
        _require_end(path, file, tar)


@contextmanager
def _unpacked(path: Path) -> Iterator[BinaryIO]:
    with path.open("rb") as file:
        head = file.read(6)
        file.seek(0)
        opened = next((opened for magic, opened in _PACKED.items() if head.startswith(magic)), None)
        if opened is None:
            yield file
            return
        with opened(file) as stream, io.BufferedReader(stream) as unpacked:
            yield unpacked


def _require_end(path: str | Path, file: BinaryIO, tar: tarfile.TarFile) -> None:
    """Python's tarfile takes any damaged header but the first for the end, and reads no checksum behind the end."""
    file.seek(tar.offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise FormatError(path, f"byte {tar.offset} of the unpacked archive", "damaged or cut off here; get it again")
    while file.read(1 << 20):
        pass
