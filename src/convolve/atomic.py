"""Files appear under their final name whole or not at all, and folders have one process at work."""

from __future__ import annotations

import atexit
import errno
import glob
import json
import math
import os
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any, TextIO

from convolve.errors import ConvolveError, UsageError
from convolve.locks import Lock, hold

_PAUSES_SECONDS = 0.01, 0.05, 0.2, 0.5  # between tries to rename
_TEMPORARY = re.compile(r"\..+\.[0-9]+\.tmp")  # what `replacing` makes


def temporary_beside(final: Path) -> Path:
    """A name that nobody can know before: in a folder that others write to, a link could lie there."""
    return final.with_name(f".{final.name}.{secrets.randbelow(10**12)}.tmp")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes `path`'s place, on failure it is removed.

    A full or read-only disk raises `ConvolveError` that names `path`; what stood there before stays.
    """
    final = Path(path)
    temporary = temporary_beside(final)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
        yield temporary
        _sync(temporary)
        put(temporary, final)
    except OSError as error:
        raise cannot_write(final, error) from error
    finally:
        _remove(temporary)


@contextmanager
def staged(path: str | Path) -> Iterator[Path]:
    """Yield a path of the same name, for a file or a folder, in a folder of its own. On success all that lies there
    comes to where `path` is, `path` last: what belongs beside it is there before it. On failure nothing does.

    What a killed process left is removed. Links are replaced, not followed. Errors name `path`.
    """
    final = Path(path)
    final = final.resolve() if final.is_dir() else final
    staging = temporary_beside(final)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        for left in final.parent.glob(f".{glob.escape(final.name)}.*.tmp"):
            _remove_folder(left)
        staging.mkdir()
        with locked(staging, wait=False):
            yield staging / final.name
            for file in filter(Path.is_file, staging.rglob("*")):
                _sync(file)
            if final.is_dir():  # an empty one; Windows gives nothing the name of a folder
                final.rmdir()
            for made in sorted(staging.iterdir(), key=lambda made: made.name == final.name):
                put(made, final.parent / made.name)
    except ConvolveError as error:
        within = rf"{re.escape(str(staging))}[/\\](tmp\w+[/\\])?"  # of a TemporaryDirectory
        error.args = (re.sub(within + re.escape(final.name), lambda _: str(path), str(error)),)
        raise
    except OSError as error:
        raise cannot_write(Path(path), error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """As `replacing`, an empty folder, which takes the name of none, or of an empty one."""
    with staged(path) as folder:
        folder.mkdir()
        yield folder


def _sync(path: Path) -> None:
    with path.open("r+b") as file:  # Windows syncs by a handle that can write
        os.fsync(file.fileno())


def put(made: Path, final: Path) -> None:
    """Give `made` the name `final`. On Windows scanners of viruses and indexers open what was just written: for a
    moment nobody can rename it then."""
    for pause in _PAUSES_SECONDS if sys.platform == "win32" else ():
        with suppress(PermissionError):
            made.replace(final)
            return
        time.sleep(pause)
    made.replace(final)


def _remove_folder(path: Path) -> None:
    """Remove what `staged` made, unless its process is still at work."""
    if _TEMPORARY.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
        with suppress(OSError, UsageError), locked(path, wait=False):
            shutil.rmtree(path)


@contextmanager
def locked(folder: Path, wait: bool) -> Iterator[None]:
    """Keep others who ask for `folder`, which exists, out of it; `UsageError` if one is inside and we do not `wait`.

    The system's lock (`locks.py`): it ends with the process, however that ends.
    """
    lock = _lock(folder, wait)
    try:
        yield
    finally:
        lock.close()


_in_use: dict[Path, Lock] = {}


def keep_in_use(folder: Path) -> None:
    """Until this process ends nobody gets the lock of `folder`; others may keep it in use, too."""
    if folder not in _in_use:
        with suppress(BlockingIOError):  # one who has it locked now
            _in_use[folder] = lock = hold(folder, shared=True)
            atexit.register(lock.close)  # on Windows a file stands for it


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """As `locked`, without waiting; makes `folder` if there is none, and removes it again if it stayed empty.

    Between the making and the locking others may come and go: the lock counts once it is on what the name stands for.
    """
    lock, is_made = _make_and_lock(folder)
    while not lock.stands_for(folder):
        lock.close()
        lock, is_made = _make_and_lock(folder)
    try:
        yield
    finally:
        if is_made:
            with suppress(OSError):  # not empty
                folder.rmdir()
        lock.close()


def _make_and_lock(folder: Path) -> tuple[Lock, bool]:
    """(what holds the lock, whether the folder was made here)."""
    while True:
        is_made = _make(folder)
        with suppress(FileNotFoundError):  # removed by the one who made it
            return _lock(folder, wait=False), is_made


def _make(folder: Path) -> bool:
    """Whether `folder` was not there and is made now."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    except FileExistsError:
        if folder.is_dir() or not os.path.lexists(folder):
            return False
        raise UsageError(f"{folder} is a file; --out names a folder") from None
    except OSError as error:
        raise cannot_write(folder, error) from error
    return True


def _lock(path: Path, wait: bool) -> Lock:
    try:
        return hold(path, wait=wait)
    except BlockingIOError:
        raise UsageError(f"another process is at work in {path}; wait for it, or choose another folder") from None


def open_ordinary(path: str | Path) -> BufferedReader:
    """A file, for reading. Raises OSError for what is none, too: pipes and devices, which never end, are not waited
    for."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    return os.fdopen(_ordinary(handle, path), "rb")


def is_there(path: str | Path, is_file: bool = False) -> bool:
    """Whether something, or a file, lies where a text says, whatever that is: too long for a name, or with a zero."""
    return (os.path.isfile if is_file else os.path.exists)(path)


def append_to(path: Path) -> TextIO:
    """A text file that is gone on with, or made. Raises OSError for what is no file, a link too."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = _ordinary(os.open(path, flags, 0o666), path)
    return os.fdopen(handle, "a", encoding="utf-8", errors="backslashreplace", newline="\n")


def _ordinary(handle: int, path: str | Path) -> int:
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return handle
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    raise OSError(errno.EINVAL, "it is no ordinary file", os.fspath(path))


def read_ordinary(path: str | Path, most_bytes: float = math.inf) -> bytes:
    """The bytes of a file. Raises OSError, also for what is no file, and for one of more bytes."""
    with open_ordinary(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > most_bytes:
            raise OSError(errno.EFBIG, f"{size:,} bytes, at most {most_bytes:,} are expected", os.fspath(path))
        return file.read()


@contextmanager
def opened(path: Path, error: type[ConvolveError]) -> Iterator[BufferedReader]:
    """As `open_ordinary`. Raises FileNotFoundError, and `error` for all else."""
    try:
        with open_ordinary(path) as file:
            yield file
    except FileNotFoundError:
        raise
    except OSError as failure:
        raise error(f"cannot read {path}: {failure.strerror}; copy it again") from None


def read_whole(path: Path, error: type[ConvolveError], most_bytes: float = math.inf) -> bytes:
    """As `read_ordinary`. Raises FileNotFoundError, and `error` for all else."""
    try:
        return read_ordinary(path, most_bytes)
    except FileNotFoundError:
        raise
    except OSError as failure:
        raise error(f"cannot read {path}: {failure.strerror}; copy it again") from None


def sweep(folder: Path, name: str = "*") -> None:
    """Remove what a killed process left in `folder`: temporary files that never took their final `name`."""
    for path in folder.glob(f".{name}.*.tmp"):
        if _TEMPORARY.fullmatch(path.name):
            _remove(path)


def cannot_write(path: Path, error: OSError) -> ConvolveError:
    reason = error.strerror or str(error)
    return ConvolveError(f"cannot write {path}: {reason}; free space there or choose another place")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def parse_json(text: str) -> Any:
    """`json.loads`, but every text that is no JSON raises ValueError."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(always_utf8(text), encoding="utf-8", newline="\n")


def always_utf8(text: str) -> str:
    """Python has bytes that are not UTF-8 of names of files as lone surrogates: these as JSON and Python write them.

    The byte E9 becomes \\udce9, from which a reader of JSON has the name again.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _remove(path: Path) -> None:
    with suppress(OSError):  # the folder is not writable: nothing was left there either
        path.unlink(missing_ok=True)
