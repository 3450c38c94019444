"""The cache on disk: features, archives, indices, engines, downloads. Everything in it can be made again.

An entry is a file or a folder in the folder of its kind, named by a hash of its inputs, and complete or absent. If the
kinds in `BOUNDED` take more than `limit_bytes`, the least recently used entries are removed, except those in use;
downloads, which users may have placed there, are removed only when the cache is cleared.
"""

import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from convolve.atomic import cannot_write, keep_in_use, locked, read_whole, replacing, replacing_folder
from convolve.errors import ConvolveError, MissingDataError, UsageError

BOUNDED = ("engines", "features", "indices", "parts", "remote", "unpacked")
LIMIT_GIB = 10.0  # or $CONVOLVE_CACHE_GIB
_CHECK_BYTES = hashlib.sha256().digest_size  # the end of an entry that is a file: the hash of what comes before


def cache_folder(kind: str) -> Path:
    """The user's cache folder: $CONVOLVE_CACHE, or the operating system's default, in which $XDG_CACHE_HOME comes
    first.
    """
    if os.environ.get("CONVOLVE_CACHE"):
        return Path(os.environ["CONVOLVE_CACHE"]) / kind
    if os.environ.get("XDG_CACHE_HOME"):
        base = Path(os.environ["XDG_CACHE_HOME"])
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or _home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = _home() / "Library" / "Caches"
    else:
        base = _home() / ".cache"
    with suppress(OSError):  # it is there, or cannot be made, which is said where it is needed
        (base / "convolve").mkdir(mode=0o700, parents=True)  # of images that nobody else may read, too
    return base / "convolve" / kind


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # no HOME and no entry in the password file, as in a container that runs as an arbitrary user
        raise MissingDataError(
            "this user has no home folder for downloads; set CONVOLVE_CACHE to a folder, or name the data with --data"
        ) from None


def limit_bytes() -> float:
    given = os.environ.get("CONVOLVE_CACHE_GIB") or LIMIT_GIB
    with suppress(ValueError):
        if (limit := float(given)) >= 0:
            return limit * 2**30
    raise UsageError(f"CONVOLVE_CACHE_GIB={given}: it must be the cache's size in GiB, for example {LIMIT_GIB:g}")


def read(kind: str, key: str) -> bytes | None:
    """The entry that `update` wrote; None if it is missing or damaged."""
    try:
        path = cache_folder(kind) / key
        whole = memoryview(read_whole(path, ConvolveError))  # not copied before it is known to be sound
    except (OSError, ConvolveError):
        return None
    content = whole[:-_CHECK_BYTES]
    if hashlib.sha256(content).digest() != whole[-_CHECK_BYTES:]:
        return None
    mark_used(path)
    return bytes(content)


def update(kind: str, key: str, change: Callable[[bytes | None], bytes]) -> None:
    """Replace the entry by `change(entry)`. If the disk cannot be written, nothing is cached.

    An entry that alone takes more than a quarter of the cache is not cached either.
    """
    with suppress(OSError, ConvolveError):
        folder, limit = cache_folder(kind), limit_bytes()
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, wait=True):
            content = change(read(kind, key))
            if len(content) > limit / 4:
                return
            with replacing(folder / key) as temporary:
                temporary.write_bytes(content + hashlib.sha256(content).digest())
        trim()


def made_folder(kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """The folder that `make` fills, in only one process; it is not removed while this process lives."""
    folder = cache_folder(kind) / key
    try:
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with locked(folder.parent, wait=True):
                if not folder.exists():  # another process may have made it meanwhile
                    with replacing_folder(folder) as temporary:
                        make(temporary)
        keep_in_use(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
    mark_used(folder)
    trim()
    return folder


def mark_used(path: Path) -> None:
    """Mark it as most recently used."""
    with suppress(OSError):
        os.utime(path)


def trim(room: int = 0) -> None:
    """Remove the least recently used entries until the rest and `room` more bytes fit; entries in use stay."""
    entries = [entry for kind in BOUNDED for entry in _entries(kind)]
    sizes = {entry: _bytes(entry) for entry in entries}
    too_much = sum(sizes.values()) + room - limit_bytes()
    for entry in sorted(entries, key=_last_used):
        if too_much > 0 and _remove(entry):
            too_much -= sizes[entry]


def sizes(kinds: Iterable[str]) -> dict[str, int]:
    """The bytes that each of the `kinds` takes."""
    return {kind: sum(map(_bytes, _entries(kind))) for kind in kinds}


def clear(kinds: Iterable[str]) -> int:
    """Remove all entries of the `kinds` that no process is using. Returns the number of bytes freed."""
    kinds = list(kinds)
    before = sum(sizes(kinds).values())
    for kind in kinds:
        for entry in _entries(kind):
            _remove(entry)
    return before - sum(sizes(kinds).values())


def _entries(kind: str) -> list[Path]:
    with suppress(OSError, MissingDataError):
        return sorted(cache_folder(kind).iterdir())
    return []


def _files(entry: Path) -> Iterator[Path]:
    if entry.is_symlink() or not entry.is_dir():
        yield entry
        return
    for folder, _, names in os.walk(entry):
        yield from (Path(folder, name) for name in names)


def _bytes(entry: Path) -> int:
    found = 0
    for file in _files(entry):
        with suppress(OSError):
            found += file.lstat().st_size
    return found


def _last_used(entry: Path) -> float:
    with suppress(OSError):
        return entry.lstat().st_mtime
    return 0.0


def _remove(entry: Path) -> bool:
    """Whether it is gone now; a folder in use is locked and stays."""
    if entry.is_symlink() or not entry.is_dir():
        with suppress(OSError):
            entry.unlink(missing_ok=True)
        return not os.path.lexists(entry)
    try:
        with locked(entry, wait=False):
            shutil.rmtree(entry, ignore_errors=True)
    except (OSError, UsageError):
        return False
    return not entry.exists()
