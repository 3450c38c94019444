"""Files appear under their final name whole or not at all, and folders have one process at work."""

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
_LONGEST_PATH = 259  # letters; MAX_PATH without the zero at its end
_LONG_PATH = _LONGEST_PATH - 2 * len(".123456789012.tmp")  # one that may have become too long in the making
_SCRATCH = "convolve-"  # how the name of what `scratch` makes begins
_TEMPORARY = re.compile(r"\..+\.[0-9]+\.tmp")  # what `replacing` makes


def temporary_beside(final: Path) -> Path:
    """A name that nobody can know before: in a folder that others write to, a link could lie there."""
    return final.with_name(f".{final.name}.{secrets.randbelow(10**12)}.tmp")


@contextmanager
def replacing(path: str | Path, by: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes `path`'s place, on failure it is removed.

    What a killed process left that was to write `path` is removed first. A full or read-only disk raises
    `ConvolveError` that names `path`; what stood there before stays. One of many files, 70,000 perhaps, comes there
    `by` way of a name that its writer sweeps once: nothing is looked for then, and the disk is not waited for.
    """
    final = Path(path)
    temporary, held = by or temporary_beside(final), None
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
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


def _made(make: Callable[[Path], None], path: Path) -> Lock:
    """Make a file or folder that others can tell from what a killed process left: its lock is returned."""
    while True:
        make(path)
        with suppress(FileNotFoundError):  # removed, as it was not locked yet
            lock = _lock(path, wait=True)
            if lock.stands_for(path):
                return lock
            lock.close()


def _touch(path: Path) -> None:
    path.touch(exist_ok=False)


@contextmanager
def staged(path: str | Path) -> Iterator[Path]:
    """Yield a path of the same name, for a file or a folder, in a folder of its own. On success all that lies there
    comes to where `path` is, `path` last and with nothing left to do: what belongs beside it is there before it. On
    failure nothing does.

    What a killed process left is removed. Links are replaced, not followed. Errors name `path`.
    """
    final = Path(path)
    final = final.resolve() if final.is_dir() else final
    staging, ready, held = temporary_beside(final), temporary_beside(final), None
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        sweep(final.parent, final.name)
        held, made = _made(Path.mkdir, staging), staging / final.name
        yield made
        for file in filter(Path.is_file, staging.rglob("*")):
            _sync(file)
        for beside in filter(made.__ne__, sorted(staging.iterdir())):
            put(beside, final.parent / beside.name)
        put(made, ready)
        staging.rmdir()
        if final.is_dir():  # an empty one; Windows gives nothing the name of a folder
            final.rmdir()
        put(ready, final)
    except ConvolveError as error:
        within = rf"{re.escape(str(staging))}[/\\](tmp\w+[/\\])?"  # of a TemporaryDirectory
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


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """`folder`, whose files are then replaced one by one; where there is none, one that gets its name when all is
    there."""
    with nullcontext(folder) if folder.exists() else replacing_folder(folder) as place:
        yield place


@contextmanager
def scratch(prefix: str = _SCRATCH) -> Iterator[Path]:
    """Yield a folder for what nobody needs afterwards, which no other user can enter. It is removed in the end, as are
    those first that killed processes of this user left."""
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


def sweep(folder: Path, name: str = "") -> None:
    """Remove what killed processes left in `folder`: temporary files and folders that never took their final `name`, or
    any, and that no process has locked. One that cannot be removed stays."""
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
    """Raise UsageError for a link in a place that is written into: it may lead to what is somebody else's."""
    if path.is_symlink():
        raise UsageError(f"{path} is a link, and nothing is written through links; remove it, or choose another place")


def cannot_write(path: Path, error: OSError) -> ConvolveError:
    reason = error.strerror or str(error)
    if sys.platform == "win32" and isinstance(error, FileNotFoundError) and len(f"{path.absolute()}") > _LONG_PATH:
        reason = f"Windows takes paths of {_LONGEST_PATH} letters, unless long paths are enabled in its registry"
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


def is_private(path: Path) -> bool:
    """Whether it is this user's, and closed to all others. A temporary folder of Windows belongs to one user."""
    status = path.lstat()
    return not hasattr(os, "geteuid") or (status.st_uid == os.geteuid() and not status.st_mode & 0o077)


def _remove(path: Path) -> None:
    """Of what cannot be removed, as its folder is not writable, nothing was left there either."""
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
