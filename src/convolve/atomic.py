"""Files appear under their final name whole or not at all, and folders have one process at work."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from convolve.errors import ConvolveError, UsageError

if sys.platform != "win32":
    import fcntl

_TEMPORARY = re.compile(r"\..+\.[0-9]+\.tmp")  # what `replacing` makes


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes `path`'s place, on failure it is removed.

    A full or read-only disk raises `ConvolveError` that names `path`; what stood there before stays.
    """
    final = Path(path)
    temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(final)
    except OSError as error:
        raise cannot_write(final, error) from error
    finally:
        _remove(temporary)


@contextmanager
def locked(folder: Path, wait: bool) -> Iterator[None]:
    """Keep others who ask for `folder`, which exists, out of it; `UsageError` if one is inside and we do not `wait`.

    The system's lock: it ends with the process, however that ends. Windows locks no folders, and some network disks do
    not: there nobody is kept out.
    """
    if sys.platform == "win32":
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another process is at work in {folder}; wait for it, or choose another folder") from None
        except OSError:
            pass  # a disk without locks
        yield
    finally:
        os.close(handle)


def half_written(folder: Path) -> list[Path]:
    """What a killed process left in `folder`: temporary files that never took their final names."""
    return [path for path in folder.glob(".*.tmp") if _TEMPORARY.fullmatch(path.name)]


def sweep(folder: Path) -> None:
    """Remove what a killed process left in `folder`."""
    for path in half_written(folder):
        _remove(path)


def cannot_write(path: Path, error: OSError) -> ConvolveError:
    reason = error.strerror or str(error)
    return ConvolveError(f"cannot write {path}: {reason}; free space there or choose another place")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _remove(path: Path) -> None:
    with suppress(OSError):  # the folder is not writable: nothing was left there either
        path.unlink(missing_ok=True)
