"""Files fetched from their mirrors: checked, resumable, whole or not at all."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from convolve.atomic import locked
from convolve.errors import ConvolveError, MissingDataError

Progress = Callable[[str, int, int], None]  # file name, bytes there so far, bytes in all

TIMEOUT_SECONDS = 30.0  # for a connection, and for a silence within it; a slow transfer may take as long as it needs
BLOCK_BYTES = 1 << 18


@dataclass(frozen=True)
class RemoteFile:
    """A file that every mirror (a URL ending in "/") serves under `name`; `checksum` is hexadecimal, MD5 or SHA-256."""

    name: str
    mirrors: tuple[str, ...]
    size_bytes: int
    checksum: str


class _MirrorError(Exception):
    """This mirror did not deliver; the next one may."""


def download(files: Sequence[RemoteFile], folder: Path, progress: Progress | None = None) -> None:
    """Bring `files` into `folder`; those that are there already are left alone.

    A file takes its final name only after its size and checksum were found right. What an interrupted transfer left
    (`<name>.part`) is continued, by whichever mirror answers. Where none delivers, `MissingDataError` tells each one's
    reason; a disk that is full or read-only raises `ConvolveError`.
    """
    for file in files:
        final, part = folder / file.name, folder / f"{file.name}.part"
        if final.exists():
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder, wait=True):
                if not final.exists():  # another process may have brought it meanwhile
                    _from_any_mirror(file, part, progress or _silent)
                    part.replace(final)
        except OSError as error:  # network errors have become _MirrorError further down, so this is the disk
            reason = error.strerror or str(error)
            raise ConvolveError(
                f"cannot write {final}: {reason}; free space there, or name a folder that has the files with --data"
            ) from error


def _silent(name: str, done_bytes: int, size_bytes: int) -> None:
    pass


def _from_any_mirror(file: RemoteFile, part: Path, progress: Progress) -> None:
    reasons = []
    for mirror in file.mirrors:
        try:
            _fetch_checked(file, mirror + file.name, part, progress)
            return
        except _MirrorError as error:
            reasons.append(f"{urllib.parse.urlsplit(mirror).netloc}: {error}")
    raise MissingDataError(f"cannot download {file.name} ({'; '.join(reasons)})")


def _fetch_checked(file: RemoteFile, url: str, part: Path, progress: Progress) -> None:
    """Leave the right bytes in `part`, or raise `_MirrorError`. Wrong bytes are removed, a good beginning stays."""
    resumed = part.exists()
    _fetch(file, url, part, progress)
    if _has_checksum(part, file.checksum):
        return
    part.unlink()
    if not resumed:
        raise _MirrorError("the checksum is wrong")
    _fetch_checked(file, url, part, progress)  # what lay there was damaged, not necessarily this mirror's answer


def _fetch(file: RemoteFile, url: str, part: Path, progress: Progress) -> None:
    """Append to `part` what it lacks of its `size_bytes`, or write it anew where the server does not resume."""
    start = part.stat().st_size if part.exists() else 0
    if start > file.size_bytes:
        start = 0
    if start < file.size_bytes:
        request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
        with _answer(request) as response:
            start = _body_start(response, start, file.size_bytes)
            with part.open("ab" if start else "wb") as out:
                _copy(response, out, file, start, progress)
                os.fsync(out.fileno())
    came = part.stat().st_size
    if came < file.size_bytes:
        raise _MirrorError(f"the connection ended after {came} of {file.size_bytes} bytes")


def _answer(request: urllib.request.Request) -> http.client.HTTPResponse:
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
        return response
    except urllib.error.HTTPError as error:
        error.close()
        raise _MirrorError(f"{error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _MirrorError(_reason(error)) from error


def _body_start(response: http.client.HTTPResponse, asked: int, size_bytes: int) -> int:
    """The byte at which the body begins: `asked`, or 0 where the server ignores Range (and answers 200, not 206)."""
    start = 0
    if response.status == http.client.PARTIAL_CONTENT:
        place = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        if place is None or int(place[1]) != asked:
            raise _MirrorError(f"it was asked for the bytes from {asked} on and sent others")
        start = asked
    offered = response.headers.get("Content-Length")
    if offered is not None and offered != str(size_bytes - start):  # another file, or a page that says "log in first"
        raise _MirrorError(f"it offers {offered} bytes where {size_bytes - start} were expected")
    return start


def _copy(response: http.client.HTTPResponse, out: BinaryIO, file: RemoteFile, done: int, progress: Progress) -> None:
    """Stop at `size_bytes` even if the server would go on for ever; the checksum judges what came."""
    while done < file.size_bytes:
        try:
            block = response.read(min(BLOCK_BYTES, file.size_bytes - done))
        except (OSError, http.client.HTTPException) as error:
            raise _MirrorError(f"{_reason(error)} after {done} of {file.size_bytes} bytes") from error
        if not block:
            return
        out.write(block)
        done += len(block)
        progress(file.name, done, file.size_bytes)


def _has_checksum(path: Path, checksum: str) -> bool:
    kind = "md5" if len(checksum) == 32 else "sha256"
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest() == checksum


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception):
        error = error.reason
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
