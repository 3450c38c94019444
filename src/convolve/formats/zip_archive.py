"""Untrusted zip archives: memory is bounded by the archive's real size, whatever it claims.

The only module that opens them (`tests/test_house.py`).
"""

import io
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, BinaryIO

from convolve.atomic import open_ordinary

# RuntimeError: encrypted, or (NotImplementedError) compressed by a method that Python does not know; OverflowError:
# an offset of more than 63 bits
ZIP_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, OSError, ValueError, OverflowError
)  # fmt: skip
MAX_DIRECTORY_BYTES = 1 << 28  # some 100 bytes an entry, and 600 in memory: more than ImageNet has images
_BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class _SmallReads(io.FileIO):
    """For `zipfile`, which reads the whole directory of an archive at once, as large as it claims to be."""

    most_bytes = MAX_DIRECTORY_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > self.most_bytes:
            raise zipfile.BadZipFile(f"its directory has {size} bytes")
        return super().read(size) or b""


class Zip(zipfile.ZipFile):
    """An archive, open for reading, whose directory has a limited size.

    A member is unpacked piece by piece and never beyond its size in the directory, which callers can check first.
    Python cannot do so with bzip2 and LZMA, which can turn a few bytes into gigabytes: those are refused.
    """

    _own: _SmallReads | None = None

    def __init__(self, file: str | Path | BinaryIO, most_directory_bytes: int = MAX_DIRECTORY_BYTES) -> None:
        if isinstance(file, str | Path):
            with open_ordinary(file) as opened:  # devices have no end
                self._own = _SmallReads(os.dup(opened.fileno()))
            self._own.most_bytes = most_directory_bytes
        try:
            super().__init__(self._own or file)
            if not all(info.filename for info in self.filelist):  # of which Python before 3.13 asks the last letter
                raise zipfile.BadZipFile("a member has no name")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if getattr(self, "fp", None):
            super().close()
        if self._own:
            self._own.close()

    def open(self, name: Any, mode: Any = "r", pwd: bytes | None = None, *, force_zip64: bool = False) -> IO[bytes]:
        info = name if isinstance(name, zipfile.ZipInfo) else self.getinfo(name)
        if info.compress_type not in _BOUNDED:
            raise zipfile.BadZipFile("compressed by a method whose output cannot be limited; use deflate")
        return super().open(info, mode, pwd, force_zip64=force_zip64)

    def read(self, name: Any, pwd: bytes | None = None) -> bytes:
        info = name if isinstance(name, zipfile.ZipInfo) else self.getinfo(name)
        with self.open(info, pwd=pwd) as file:
            return file.read(info.file_size)


def is_zip(path: str | Path) -> bool:
    """Whether it is a zip archive, by its end or its beginning: a truncated one is reported as a damaged zip."""
    with open_ordinary(path) as file:
        return file.read(4) == b"PK\3\4" or zipfile.is_zipfile(file)
