"""Locks of folders and files: the one place that knows how a system has them.

They end with the process that holds them, however that ends. Windows locks no folders: there a file in the user's
temporary folder stands for one, which goes with the lock, and nobody is kept out who has another temporary folder. Some
disks have no locks: there nobody is kept out at all.
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

_ALL = 2**31 - 2  # bytes; Windows locks parts of a file: who shares it takes one of them, who wants it alone all
_PAUSE_SECONDS = 0.05


class Lock:
    """Held until `close`."""

    def __init__(self, handle: int, file: Path | None = None) -> None:
        self._handle, self._file = handle, file

    def stands_for(self, path: Path) -> bool:
        """Whether what is locked is what is called `path` now: another may have removed it, and made it anew."""
        if self._file:
            return path.exists()
        try:
            return os.path.samestat(os.fstat(self._handle), path.stat())
        except FileNotFoundError:
            return False

    def close(self) -> None:
        os.close(self._handle)
        if self._file:
            with suppress(OSError):  # another waits for it
                self._file.unlink()


def hold(path: Path, *, shared: bool = False, wait: bool = False) -> Lock:
    """Lock `path`, which exists. Raises BlockingIOError if others hold it and we do not `wait`; those who hold it
    `shared` let each other in."""
    lock, is_held = _try(path, shared, wait)
    if is_held is False:
        lock.close()
        raise BlockingIOError
    return lock


def is_locked(path: Path) -> bool | None:
    """Whether somebody holds `path` for himself alone; None where the disk has no locks."""
    lock, is_held = _try(path, shared=True, wait=False)
    lock.close()
    return None if is_held is None else not is_held


if sys.platform == "win32":

    def _try(path: Path, shared: bool, wait: bool) -> tuple[Lock, bool | None]:
        """A lock, and whether it is held; None: this disk has none."""
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
