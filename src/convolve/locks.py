"""Locks of folders and files: the only module that knows how each operating system locks.

A lock ends with its process, however that ends. Windows cannot lock folders: there a file in the user's temporary
folder stands for the folder and is removed with the lock, so a process with another temporary folder is not kept out.
Some file systems have no locks: there nobody is kept out.
"""

import hashlib
import os
import secrets
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_ALL = 2**31 - 2  # bytes; Windows locks ranges of a file: a shared lock takes one byte, an exclusive lock all of them
_PAUSE_SECONDS = 0.05


class Lock:
    """A lock, held until `close`."""

    def __init__(self, handle: int, file: Path | None = None) -> None:
        self._handle, self._file = handle, file

    def stands_for(self, path: Path) -> bool:
        """Whether the locked file still has the name `path`: another process may have removed and recreated it."""
        if self._file:
            return path.exists()
        try:
            return os.path.samestat(os.fstat(self._handle), path.stat())
        except FileNotFoundError:
            return False

    def close(self) -> None:
        os.close(self._handle)
        if self._file:
            with suppress(OSError):  # another process waits for it
                self._file.unlink()


def hold(path: Path, *, shared: bool = False, wait: bool = False) -> Lock:
    """Lock the existing `path`. Raises BlockingIOError if others hold it and `wait` is false; `shared` locks do not
    exclude each other."""
    lock, is_held = _try(path, shared, wait)
    if is_held is False:
        lock.close()
        raise BlockingIOError
    return lock


def is_locked(path: Path) -> bool | None:
    """Whether somebody holds `path` exclusively; None if the file system has no locks."""
    lock, is_held = _try(path, shared=True, wait=False)
    lock.close()
    return None if is_held is None else not is_held


if sys.platform == "win32":

    def _try(path: Path, shared: bool, wait: bool) -> tuple[Lock, bool | None]:
        """A lock, and whether it is held; None: this file system has no locks."""
        name = hashlib.sha256(os.path.normcase(path.resolve()).encode("utf-8", "surrogatepass")).hexdigest()[:32]
        file = Path(tempfile.gettempdir(), f"convolve-{name}.lock")
        handle = os.open(file, os.O_RDWR | os.O_CREAT)
        lock = Lock(handle, file)
        while True:
            os.lseek(handle, secrets.randbelow(_ALL) if shared else 0, os.SEEK_SET)
            try:
                msvcrt.locking(handle, msvcrt.LK_NBLCK, 1 if shared else _ALL)
                return lock, True
            except PermissionError:
                if not wait:
                    return lock, False
            except OSError:
                return lock, None
            time.sleep(_PAUSE_SECONDS)

else:

    def _try(path: Path, shared: bool, wait: bool) -> tuple[Lock, bool | None]:
        handle = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return Lock(handle), False
        except OSError:
            return Lock(handle), None
        return Lock(handle), True
