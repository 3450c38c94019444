"""Files downloaded from their mirrors: checked, resumable, complete or absent."""

import hashlib
import http.client
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from convolve.atomic import locked, put, refuse_link
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
    """Download `files` into `folder`; existing ones are left alone. A file gets its final name only after its size and
    checksum were verified. An interrupted download (`<name>.part`) is resumed, from whichever mirror answers. If none
    delivers, `MissingDataError` gives each one's reason; a full or read-only disk raises `ConvolveError`.
    """
    for file in files:
        final = folder / file.name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder, wait=True):  # another process may be bringing it
                if not final.exists():
                    part = folder / f"{file.name}.part"
                    refuse_link(part)
                    _from_any_mirror(file, part, progress)
                    put(part, final)
        except OSError as error:  # network errors have become _MirrorError further down, so this is the disk
            reason = error.strerror or str(error)
            raise ConvolveError(
                f"cannot write {final}: {reason}; free space there, or name a folder that has the files with --data"
            ) from error


def obtain(
    files: Sequence[RemoteFile], folder: Path, own: Path, missing: str, instead: str, *, progress: Progress | None
) -> None:
    """Download what is `missing`, if `folder` is our `own`; if that fails, raise an error that says what to do
    `instead`."""
    if folder != own:
        raise MissingDataError(f"{missing}; {instead}")
    try:
        download(files, folder, progress)
    except MissingDataError as error:
        raise MissingDataError(f"{error}; {instead}") from error


def _from_any_mirror(file: RemoteFile, part: Path, progress: Progress | None) -> None:
    reasons = {}
    chances = 2 if part.exists() else 1  # what an earlier transfer left may be damaged, which the first chance removes
    for mirror in file.mirrors * chances:
        try:
            return _fetch(file, mirror + file.name, part, progress)
        except _MirrorError as error:
            reasons[mirror] = f"{urllib.parse.urlsplit(mirror).netloc}: {error}"
            if part.exists() and not part.stat().st_size:
                part.unlink()
    raise MissingDataError(f"cannot download {file.name} ({'; '.join(reasons.values())})")


def _fetch(file: RemoteFile, url: str, part: Path, progress: Progress | None) -> None:
    """Append to `part` what it lacks. Wrong bytes are removed; a valid beginning is kept."""
    done = part.stat().st_size if part.exists() else 0
    if done > file.size_bytes:
        done = 0
    with part.open("r+b" if part.exists() else "wb") as out:
        for start, block in _blocks(url, done, file.size_bytes):
            out.seek(start)
            out.write(block)
            done = start + len(block)
            if progress is not None:
                progress(file.name, done, file.size_bytes)
        out.truncate(done)
        out.flush()
        os.fsync(out.fileno())
    if done < file.size_bytes:
        raise _MirrorError(f"the connection ended after {done} of {file.size_bytes} bytes")
    with part.open("rb") as written:
        kind = "md5" if len(file.checksum) == 32 else "sha256"
        digest = hashlib.file_digest(written, lambda: hashlib.new(kind, usedforsecurity=False))
    if digest.hexdigest() != file.checksum:
        part.unlink()
        raise _MirrorError("the checksum is wrong")


def _blocks(url: str, start: int, size_bytes: int) -> Iterator[tuple[int, bytes]]:
    """The content of `url` from byte `start`, or from 0 if the server does not resume: (the first byte, bytes). It
    stops at `size_bytes` even if the server sends more. Every network failure is a `_MirrorError`.
    """
    if start == size_bytes:
        return
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            start = _first_byte(response, start, size_bytes)
            while start < size_bytes and (block := response.read(min(BLOCK_BYTES, size_bytes - start))):
                yield start, block
                start += len(block)
    except urllib.error.HTTPError as error:
        error.close()
        raise _MirrorError(f"{error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)  # urllib wraps what the system said
        reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
        raise _MirrorError(f"{reason} after {start} of {size_bytes} bytes") from error


def _first_byte(response: http.client.HTTPResponse, asked: int, size_bytes: int) -> int:
    """The byte at which the body begins: `asked`, or 0 where the server ignores Range (and answers 200, not 206)."""
    start = 0
    if response.status == http.client.PARTIAL_CONTENT:
        place = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        if place is None or int(place[1]) != asked:
            raise _MirrorError(f"it was asked for the bytes from {asked} on, but sent others")
        start = asked
    if response.headers.get_content_type() == "text/html":
        raise _MirrorError("it answers with a web page instead of the file")
    offered = response.headers.get("Content-Length")
    if offered is not None and offered != str(size_bytes - start):  # another file
        raise _MirrorError(f"it offers {offered} bytes, but {size_bytes - start} were expected")
    return start
