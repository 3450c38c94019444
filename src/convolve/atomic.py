"""Files appear under their final name complete or not at all, and only one process at a time works in a folder."""

import atexit
import errno
import json
import math
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any, TextIO

from convolve.errors import ConvolveError, UsageError
from convolve.locks import Lock, hold

_PAUSES_SECONDS = 0.01, 0.05, 0.2, 0.5  # between tries to rename
_TRIES = 100  # to make a folder that another process removes, which is unlikely to happen twice
_LONGEST_PATH = 259  # letters; MAX_PATH without the zero at its end
_LONG_PATH = _LONGEST_PATH - 2 * len(".123456789012.tmp")  # one that may have become too long in the making
_SCRATCH = "convolve-"  # how the name of what `scratch` makes begins
_TEMPORARY = re.compile(r"\..+\.[0-9]+\.tmp")  # what `replacing` makes


def temporary_beside(final: Path) -> Path:
    """A temporary name that cannot be guessed: in a folder that others can write to, a link could already lie there."""
    return final.with_name(f".{final.name}.{secrets.randbelow(10**12)}.tmp")


@contextmanager
def replacing(path: str | Path, by: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes `path`'s place, on failure it is removed.

    Leftovers of killed processes that wrote `path` are removed first. A full or read-only disk raises `ConvolveError`
    that names `path`; an earlier file there stays. For one of many files, 70,000 perhaps, pass the temporary name `by`:
    then nothing is searched for leftovers (the caller sweeps once), and the data is not synced to disk.
    """
    final = Path(path)
    temporary, held = by or temporary_beside(final), None
    with _folders_above(final):
        try:
            if by:
                _touch(temporary)
            else:
                sweep(final.parent, final.name)
                held = _made(_touch, temporary)
            yield temporary
            if not by:
                _sync(temporary)
            put(temporary, final)
        except OSError as error:
            raise cannot_write(final, error) from error
        finally:
            if temporary.exists():
                _remove(temporary)
            if held:
                held.close()


@contextmanager
def _folders_above(path: Path) -> Iterator[None]:
    """Make the missing folders above `path`. Those that are empty at the end, as after a refusal, are removed again."""
    try:
        missing = [] if path.parent.is_dir() else [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise UsageError(f"{error.filename} is not a folder; choose another place than {path}") from None
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        yield
    finally:
        with suppress(OSError):  # not empty
            for folder in missing:
                folder.rmdir()


def _made(make: Callable[[Path], None], path: Path) -> Lock:
    """Make a file or folder and lock it, which tells it from leftovers of killed processes. Returns the lock."""
    while True:
        make(path)
        with suppress(FileNotFoundError):  # another process removed it before it was locked
            lock = _lock(path, wait=True)
            if lock.stands_for(path):
                return lock
            lock.close()


def _touch(path: Path) -> None:
    path.touch(exist_ok=False)


@contextmanager
def staged(path: str | Path) -> Iterator[Path]:
    """Yield a path of the same name, for a file or a folder, in a temporary folder of its own.

    On success everything in that folder moves to the folder of `path`, `path` itself last, so that its companions are
    there before it. On failure nothing moves. Leftovers of killed processes are removed. Links are replaced, not
    followed. Errors name `path`.
    """
    final = Path(path)
    final = final.resolve() if final.is_dir() else final
    staging, ready, held = temporary_beside(final), temporary_beside(final), None
    with _folders_above(Path(path)):
        try:
            sweep(final.parent, final.name)
            held, made = _made(Path.mkdir, staging), staging / final.name
            yield made
            for file in filter(Path.is_file, staging.rglob("*")):
                _sync(file)
            for beside in filter(made.__ne__, sorted(staging.iterdir())):
                put(beside, final.parent / beside.name)
            put(made, ready)
            staging.rmdir()
            if final.is_dir():  # an empty one; on Windows nothing can be renamed to an existing folder
                final.rmdir()
            put(ready, final)
        except ConvolveError as error:
            within = rf"{re.escape(str(staging))}[/\\](tmp\w+[/\\])?"  # from TemporaryDirectory
            error.args = (re.sub(within + re.escape(final.name), lambda _: str(path), str(error)),)
            raise
        except OSError as error:
            raise cannot_write(Path(path), error) from error
        finally:
            for left in filter(Path.exists, (staging, ready)):
                _remove(left)
            if held:
                held.close()


@contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """As `replacing`, for a folder: yields an empty one that takes the place of `path`, which must be
    missing or empty."""
    with staged(path) as folder:
        folder.mkdir()
        yield folder


def _sync(path: Path) -> None:
    with path.open("r+b") as file:  # Windows syncs only through a writable handle
        os.fsync(file.fileno())


def put(made: Path, final: Path) -> None:
    """Give `made` the name `final`. On Windows, virus scanners and indexers briefly open new files, which cannot be
    renamed meanwhile: it is tried again."""
    for pause in _PAUSES_SECONDS if sys.platform == "win32" else ():
        with suppress(PermissionError):
            made.replace(final)
            return
        time.sleep(pause)
    made.replace(final)


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """Yield `folder`, whose files are then replaced one by one; if it does not exist, a new folder that is renamed to
    it when complete."""
    with nullcontext(folder) if folder.exists() else replacing_folder(folder) as place:
        yield place


@contextmanager
def scratch(prefix: str = _SCRATCH) -> Iterator[Path]:
    """Yield a temporary folder that no other user can enter. It is removed at the end; those left by this user's killed
    processes are removed first."""
    above = Path(tempfile.gettempdir())
    folder = above / f"{prefix}{secrets.randbelow(10**12)}"
    try:
        for left in above.glob(f"{_SCRATCH}*"):
            with suppress(FileNotFoundError):  # its process has ended
                if stat.S_ISDIR(left.lstat().st_mode) and is_private(left):
                    _remove_left(left)
        held = _made(lambda path: path.mkdir(mode=0o700), folder)
    except OSError as error:
        raise cannot_write(above, error) from error
    try:
        yield folder
    finally:
        _remove(folder)
        held.close()


@contextmanager
def locked(folder: Path, wait: bool) -> Iterator[None]:
    """Lock the existing `folder` for this process; raises `UsageError` if another holds it and `wait` is false.

    The operating system's lock (`locks.py`): it ends with the process, however that ends.
    """
    lock = _lock(folder, wait)
    try:
        yield
    finally:
        lock.close()


_in_use: dict[Path, Lock] = {}


def keep_in_use(folder: Path) -> None:
    """Hold a shared lock of `folder` until this process ends: nobody can lock it exclusively meanwhile."""
    if folder not in _in_use:
        with suppress(BlockingIOError):  # somebody holds it exclusively now
            _in_use[folder] = lock = hold(folder, shared=True)
            atexit.register(lock.close)  # on Windows a file stands for the folder


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """As `locked`, without waiting; makes `folder` if it is missing, and removes what it made if that stays empty.

    Others may remove and make it between our making and locking: the lock is valid once it is on the folder that has
    the name.
    """
    with _folders_above(folder):
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
    """(the lock, whether the folder was made here)."""
    for _ in range(_TRIES):
        with suppress(FileNotFoundError):  # removed by the process that made it
            is_made = _make(folder)
            return _lock(folder, wait=False), is_made
    raise cannot_write(folder, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))


def _make(folder: Path) -> bool:
    """Whether `folder` was missing and has now been made."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    except FileExistsError:
        if folder.is_dir() or not os.path.lexists(folder):
            return False
        raise UsageError(f"{folder} is a file; --out names a folder") from None
    except FileNotFoundError:
        raise
    except OSError as error:
        raise cannot_write(folder, error) from error
    return True


def _lock(path: Path, wait: bool) -> Lock:
    try:
        return hold(path, wait=wait)
    except BlockingIOError:
        raise UsageError(f"another process is at work in {path}; wait for it, or choose another folder") from None


def open_ordinary(path: str | Path) -> BufferedReader:
    """Open a file for reading. Raises OSError for anything else too: reading a pipe or device could wait forever."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    return os.fdopen(_ordinary(handle, path), "rb")


def is_there(path: str | Path, is_file: bool = False) -> bool:
    """Whether a file (or anything) exists at a path that may be any text: too long for a name, or with a null byte."""
    return (os.path.isfile if is_file else os.path.exists)(path)


def append_to(path: Path) -> TextIO:
    """Open a text file for appending, or make it. Raises OSError for anything but a regular file, links included."""
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
    raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))


def read_ordinary(path: str | Path, most_bytes: float = math.inf) -> bytes:
    """The bytes of a file. Raises OSError, also for anything but a regular file, and for more than `most_bytes`."""
    with open_ordinary(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > most_bytes:
            raise OSError(errno.EFBIG, f"{size:,} bytes, but at most {most_bytes:,} are expected", os.fspath(path))
        return file.read()


@contextmanager
def opened(path: Path, error: type[ConvolveError]) -> Iterator[BufferedReader]:
    """As `open_ordinary`. Raises FileNotFoundError, and `error` for every other failure."""
    try:
        with open_ordinary(path) as file:
            yield file
    except FileNotFoundError:
        raise
    except OSError as failure:
        raise error(f"cannot read {path}: {failure.strerror}; copy it again") from None


def read_whole(path: Path, error: type[ConvolveError], most_bytes: float = math.inf) -> bytes:
    """As `read_ordinary`. Raises FileNotFoundError, and `error` for every other failure."""
    try:
        return read_ordinary(path, most_bytes)
    except FileNotFoundError:
        raise
    except OSError as failure:
        raise error(f"cannot read {path}: {failure.strerror}; copy it again") from None


def sweep(folder: Path, name: str = "") -> None:
    """Remove leftovers of killed processes in `folder`: temporary files and folders for the final `name`, or for any,
    that no process has locked. Those that cannot be removed stay."""
    form = re.compile(rf"\.{re.escape(name)}\.[0-9]+\.tmp") if name else _TEMPORARY
    with suppress(OSError), os.scandir(folder) as entries:
        left = [Path(entry.path) for entry in entries if form.fullmatch(entry.name) and not entry.is_symlink()]
        for path in left:
            _remove_left(path)


def _remove_left(path: Path) -> None:
    with suppress(OSError, UsageError):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            with locked(path, wait=False):
                _remove(path)


def refuse_link(path: Path) -> None:
    """Raise UsageError for a link where something is to be written: it may lead to somebody else's files."""
    if path.is_symlink():
        raise UsageError(
            f"{path} is a link, and convolve does not write through links; remove it, or choose another place"
        )


def cannot_write(path: Path, error: OSError) -> ConvolveError:
    reason = error.strerror or str(error)
    if sys.platform == "win32" and isinstance(error, FileNotFoundError) and len(f"{path.absolute()}") > _LONG_PATH:
        reason = f"Windows takes paths of {_LONGEST_PATH} letters, unless long paths are enabled in its registry"
    return ConvolveError(f"cannot write {path}: {reason}; free space there or choose another place")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def parse_json(text: str) -> Any:
    """`json.loads`, but every invalid text raises ValueError."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(always_utf8(text), encoding="utf-8", newline="\n")


def always_utf8(text: str) -> str:
    """Python represents bytes of file names that are not UTF-8 as lone surrogates: these are escaped, as in JSON.

    The byte E9 becomes \\udce9, from which a JSON reader recovers the name.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def is_private(path: Path) -> bool:
    """Whether it belongs to this user and is closed to all others. On Windows, temporary folders belong to one user."""
    status = path.lstat()
    return not hasattr(os, "geteuid") or (status.st_uid == os.geteuid() and not status.st_mode & 0o077)


def _remove(path: Path) -> None:
    """Tried twice, as a disk may fail once. If a folder is not writable, we did not leave anything in it."""
    for _ in range(2):
        with suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            return
