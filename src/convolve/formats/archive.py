"""Where the bytes of an image are: in a file, in a member of a zip archive, or in a part of a tar archive.

CNTK writes the second as `photos.zip@/cats/tom.jpg`.
"""

import difflib
import os
import re
import stat
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from convolve.errors import DataError, FormatError, MissingDataError
from convolve.formats.parquet import ENDING as PARQUET
from convolve.formats.parquet import ParquetImages, open_parquet
from convolve.formats.tar_index import read_at, tar_members
from convolve.formats.zip_archive import ZIP_DAMAGE, Zip
from convolve.remote import copy

MAX_BYTES = 1 << 28  # of one image; the largest photographs that cameras write have about 200 MB
_READING = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # pipes are not waited for
_MORE_BYTES = 1 << 20
_PATHS = (
    "relative paths in a map file are relative to the working folder, or with `.../` to the map file's folder; those "
    "in a table to the table's folder; with --root DIR, all of them to DIR"
)
_MEMBER_SIGN = re.compile(r"@[/\\]")


@dataclass(frozen=True, slots=True)
class Location:
    """A file, or the `member` of the archive `file`: of a zip or, with a `size`, the bytes from `start` of a tar."""

    file: str
    member: str = ""
    start: int = 0
    size: int = 0

    def __str__(self) -> str:
        return f"{self.file}@/{self.member}" if self.member else self.file


def parse_location(text: str) -> Location:
    """A location as written in a map file. Inside an archive, both kinds of slash separate folders, as in CNTK."""
    if "@" not in text:
        return Location(text)
    file, *members = _MEMBER_SIGN.split(text, maxsplit=1)
    return Location(file, members[0].replace("\\", "/")) if file and any(members) else Location(text)


class ByteReader:
    """Reads whole files and members of zip archives, which stay open until `close`. Threads can share a reader."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._archives: dict[str, Zip] = {}
        self._tars: dict[str, dict[str, Location]] = {}
        self._parquets: dict[str, ParquetImages] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for archive in self._archives.values():
            archive.close()
        self._archives.clear()

    def read(self, location: Location) -> bytes:
        """All bytes at `location`.

        Raises `MissingDataError`, `FormatError` for a damaged archive, `DataError` for what is too large or no file.
        """
        if location.size:
            return _read_part(location)
        return self._read_member(location) if location.member else self._read_file(location.file)

    def _read_file(self, name: str) -> bytes:
        try:
            handle = os.open(name, _READING)  # a file object costs as much as reading a small image
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
            regular_size(name, _PATHS)
            raise DataError(f"{name}: cannot be read ({getattr(error, 'strerror', error)})") from error
        try:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                regular_size(name, _PATHS)
            self._require_size(name, found.st_size)
            content = os.read(handle, found.st_size + 1)
            while more := os.read(handle, _MORE_BYTES):  # it grows, or is too large for a single read
                content += more
        except OSError as error:
            raise DataError(f"{name}: cannot be read ({error.strerror})") from error
        finally:
            os.close(handle)
        return content

    def _read_member(self, location: Location) -> bytes:
        if location.file.lower().endswith(PARQUET) and os.path.isfile(location.file):  # noqa: PTH113  as below
            return self._read_row(location)
        if location.file.lower().endswith(".tar") and os.path.isfile(location.file):  # noqa: PTH113  as above
            return self._read_from_tar(location)
        try:
            archive = self._archive(location.file)
        except MissingDataError:
            if os.path.isfile(str(location)):  # noqa: PTH113  a folder may be called `photos@`
                return self._read_file(str(location))
            raise
        try:
            member = archive.getinfo(location.member)
        except KeyError:
            raise MissingDataError(_no_such_member(archive, location)) from None
        self._require_size(str(location), member.file_size)
        try:
            return archive.read(member)
        except ZIP_DAMAGE as error:
            raise FormatError(location, "", f"cannot be unpacked ({error}); pack the archive again") from error

    def _read_row(self, location: Location) -> bytes:
        with self._lock:
            if location.file not in self._parquets:
                self._parquets[location.file] = open_parquet([Path(location.file)], has_labels=False)
        found, row = self._parquets[location.file], location.member.removeprefix("row ")
        if not row.isdecimal() or not 1 <= int(row) <= len(found):
            raise MissingDataError(f"{location}: there is no such row; use `row 1` to `row {len(found)}`")
        return found.read(int(row) - 1)

    def _read_from_tar(self, location: Location) -> bytes:
        with self._lock:
            if location.file not in self._tars:
                members = tar_members(Path(location.file))
                self._tars[location.file] = {m.name: Location(location.file, m.name, m.start, m.size) for m in members}
        found = self._tars[location.file].get(location.member)
        if found is None:
            raise MissingDataError(f"{location}: the archive has no such member; `tar tf` lists what is inside")
        return _read_part(found)

    def _archive(self, name: str) -> Zip:
        with self._lock:
            if name not in self._archives:
                self._archives[name] = _open_archive(Path(name))
            return self._archives[name]

    def _require_size(self, name: str, size: int) -> None:
        if size > self._max_bytes:
            raise DataError(f"{name}: more than {self._max_bytes} bytes, too large for an image")


def _opened(file: str) -> int:
    """An open handle of a file, or of the local copy of a remote one, which may have just been removed to make room."""
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0)
    if "://" not in file:
        return os.open(file, flags)
    try:
        return os.open(copy(file), flags)
    except FileNotFoundError:
        return os.open(copy(file), flags)


def _read_part(location: Location) -> bytes:
    try:
        handle = _opened(location.file)
    except OSError as error:
        raise DataError(f"{location}: cannot be read ({error.strerror})") from None
    try:
        content = read_at(handle, location.size, location.start)
    except OSError as error:
        raise DataError(f"{location}: cannot be read ({error.strerror})") from None
    finally:
        os.close(handle)
    if len(content) != location.size:
        raise FormatError(location, "", "the shard was truncated while it was read; get it again, and start over")
    return content


def _open_archive(path: Path) -> Zip:
    regular_size(path, "the part of the path before `@` must be a zip archive")
    try:
        return Zip(path)
    except ZIP_DAMAGE as error:
        raise FormatError(path, "", f"not a zip archive, or a damaged one ({error})") from error


def regular_size(path: str | Path, hint: str) -> int:
    """The file's size in bytes. Refuses what is missing, a folder, and devices and pipes, which could block forever."""
    try:
        found = os.stat(path)  # noqa: PTH116  see `_read_file`
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or error
        raise MissingDataError(f"{path}: {reason}; {hint}") from None
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"{path}: {'a folder' if stat.S_ISDIR(found.st_mode) else 'a device or pipe'}, not a file")
    return found.st_size


def _no_such_member(archive: Zip, location: Location) -> str:
    nearest = difflib.get_close_matches(location.member, archive.namelist()[:10_000], n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else "`unzip -l` lists what is inside"
    return f"{location}: the archive has no such member; {hint}"
