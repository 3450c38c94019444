"""Tar archives, plain or packed with gzip, read in one pass; what is wanted comes into memory, nothing onto disk."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from convolve.errors import FormatError

MAX_BYTES = 1 << 30  # of all wanted members together; CIFAR-10 has 184 MB
_GZIP_MAGIC = b"\x1f\x8b"


def read_tar(path: str | Path, wanted: Callable[[PurePosixPath], bool]) -> dict[str, bytes]:
    """Name -> content of the files in the archive that are `wanted`.

    The archive is read to its end, so that one that was cut off or altered raises `FormatError` wherever that is.
    """
    members: dict[str, bytes] = {}
    left = MAX_BYTES
    try:
        with _unpacked(Path(path)) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if not member.isreg() or not wanted(PurePosixPath(member.name)):
                    continue
                left -= member.size
                if left < 0:
                    raise FormatError(path, member.name, f"more than {MAX_BYTES} bytes of data up to here")
                content = tar.extractfile(member)
                assert content is not None  # it is a regular file
                members[member.name] = content.read()
            _require_end(path, file, tar)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise FormatError(path, "", f"no tar archive, or a damaged one ({error}); get it again") from None
    return members


@contextmanager
def _unpacked(path: Path) -> Iterator[BinaryIO]:
    with path.open("rb") as file:
        packed = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        file.seek(0)
        if not packed:
            yield file
            return
        with gzip.GzipFile(fileobj=file) as stream, io.BufferedReader(stream) as unpacked:
            yield unpacked


def _require_end(path: str | Path, file: BinaryIO, tar: tarfile.TarFile) -> None:
    """Python's tarfile takes any damaged header but the first for the end, and reads no checksum behind the end."""
    file.seek(tar.offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise FormatError(path, f"byte {tar.offset} of the unpacked archive", "damaged or cut off here; get it again")
    while file.read(1 << 20):
        pass
