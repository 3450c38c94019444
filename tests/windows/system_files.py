"""Files by the rules of another system.

Windows: files that are open or mapped, in any process under these rules, can be neither replaced nor removed, nor the
folder that a process works in; names that differ in case alone are one, and paths are compared and sorted so; reserved
names and letters, and long paths, are refused; folders cannot be opened; sync wants a handle that can write; text
without a named encoding is of code page 1252; links need a privilege. Lines of our own files end with CR LF unless the
code says otherwise, and what `os.open` opens is read as text unless it says O_BINARY. macOS: names that differ in case
or in the form of their letters (é as one or as two) are one.
"""

from __future__ import annotations

import builtins
import errno
import fnmatch
import functools
import io
import os
import pathlib
import re
import shutil
import stat
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from system_view import OURS, SYSTEM, WINDOWS, Function, caller, is_ours, numbered

REGISTER = "CONVOLVE_WINDOWS_RULES"  # names a folder with a file for each process that lives by these rules
MOST_NAMES = 2_000  # of a folder in which one is looked for that differs in case
LONGEST_PATH, LONGEST_FOLDER = 259, 247  # letters: MAX_PATH, and without room in a folder for a name of DOS (8.3)
BINARY = 1 << 29  # a flag that Linux does not have
BROKEN_LETTERS = re.compile(r'[\x01-\x1f:*?"<>|]')
DEVICE = re.compile(r"(con|prn|aux|nul|(com|lpt)[1-9]) *(\.|$)", re.IGNORECASE)
IS_WINDOWS = SYSTEM is WINDOWS

_real: dict[str, Function] = {}
_HOME = str(Path.home())
_as_text: set[int] = set()  # handles of `os.open` that translate what is read


def text_of(path: Any) -> str:
    return "" if isinstance(path, int) else os.fsdecode(path)


def _length(path: str) -> int:
    return len(os.path.abspath(path))  # noqa: PTH100  as it is


def require_possible(path: Any, makes: bool = False) -> None:
    """Raise OSError for letters that no name has; if it is to be made, also for a device, a dot or space at its end."""
    text = text_of(path)
    is_absent = text.startswith(SYSTEM.nowhere) and text != os.devnull and is_ours(caller())
    if is_absent or (IS_WINDOWS and len(text) > 100 and _length(text) > LONGEST_PATH):
        raise numbered(FileNotFoundError(errno.ENOENT, "No such file or directory", text), 3)
    if not IS_WINDOWS:
        return
    name = text.rstrip("/").rpartition("/")[2]
    broken = BROKEN_LETTERS.search(text)
    is_unfit = name not in ("", ".", "..") and (DEVICE.match(name) or name[-1] in ". " or "\\" in text)
    if broken or (makes and is_unfit):
        said = "The filename, directory name, or volume label syntax is incorrect"
        raise numbered(OSError(errno.EINVAL, said, text), 123)


def folded(name: str) -> str:
    return name.lower() if IS_WINDOWS else unicodedata.normalize("NFC", name).casefold()


def in_other_case(path: Any) -> Any:
    """What `path` means where names that differ in case are one; itself where it is there, or nothing is."""
    text = text_of(path)
    if not text or _exists(text):
        return path
    folder, _, name = text.rstrip("/").rpartition("/")
    if folder and not _exists(folder):
        other = in_other_case(folder)
        if other == folder:
            return path
        folder = text_of(other)
    with suppress(OSError):
        names = _real["listdir"](folder or ("/" if text.startswith("/") else "."))
        if len(names) <= MOST_NAMES:
            for other in names:
                if folded(text_of(other)) == folded(name):
                    found = f"{folder}/{text_of(other)}" if folder or text.startswith("/") else text_of(other)
                    return os.fsencode(found) if isinstance(path, bytes) else found
    return path


def _exists(path: str) -> bool:
    try:
        _real["lstat"](path)
    except (OSError, ValueError):
        return False
    return True


def _is_folder(path: Any) -> bool:
    with suppress(OSError, ValueError):
        return stat.S_ISDIR(_real["stat"](path).st_mode)
    return False


def _open_files() -> Iterator[str]:
    """The files that are open or mapped in a process under these rules, and the folder that it works in."""
    register = os.environ.get(REGISTER, "")
    with suppress(OSError):
        for number in _real["listdir"](register):
            with suppress(OSError):
                yield _real["readlink"](f"/proc/{number}/cwd")
                for handle in _real["listdir"](f"/proc/{number}/fd"):
                    with suppress(OSError):
                        yield _real["readlink"](f"/proc/{number}/fd/{handle}")
                with _real["open"](f"/proc/{number}/maps", encoding="utf-8", errors="surrogateescape") as maps:
                    for line in maps:
                        parts = line.rstrip("\n").split(maxsplit=5)
                        if len(parts) == 6 and parts[5].startswith("/"):
                            yield parts[5]


def require_unused(path: Any, winerror: int) -> None:
    if not IS_WINDOWS:
        return
    text = text_of(path)
    with suppress(OSError, ValueError):
        found = _real["lstat"](text)
        if stat.S_ISLNK(found.st_mode):
            return
        folder, _, last = text.rstrip("/").rpartition("/")
        own = f"{os.path.realpath(folder or ('/' if text.startswith('/') else '.'))}/{last}"
        is_folder = stat.S_ISDIR(found.st_mode)
        if not is_folder and not found.st_mode & stat.S_IWUSR and winerror:
            raise _denied(text, 5)
        for name in _open_files():
            if name == own or (is_folder and name.startswith(f"{own}/")):
                raise _denied(text, winerror)


class _DeniedError(Exception):
    pass


def _denied(path: str, winerror: int) -> _DeniedError:
    said = {32: "The process cannot access the file because it is being used by another process", 5: "Access is denied"}
    error = PermissionError(errno.EACCES, said[winerror], path)
    error.winerror = winerror  # type: ignore[attr-defined]
    return _DeniedError(error)


def raising_denied(function: Function) -> Function:
    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except _DeniedError as denied:
            raise denied.args[0] from None

    return call


def looks_up(name: str) -> Function:
    """Of a function of `os` that asks what is there."""
    real = _real[name]

    def call(path: Any = ".", *arguments: Any, **options: Any) -> Any:
        if isinstance(path, int) or options.get("dir_fd") is not None:
            return real(path, *arguments, **options)
        require_possible(path)
        try:
            return real(path, *arguments, **options)
        except FileNotFoundError:
            if (other := in_other_case(path)) == path:
                raise
            return real(other, *arguments, **options)

    return functools.wraps(real)(call)


def removes(name: str) -> Function:
    real = _real[name]

    def call(path: Any, **options: Any) -> Any:
        if options.get("dir_fd") is not None:
            return real(path, **options)
        require_possible(path)
        path = in_other_case(path)
        require_unused(path, 32)
        return real(path, **options)

    return raising_denied(functools.wraps(real)(call))


def moves(name: str) -> Function:
    real = _real[name]

    def call(source: Any, target: Any, **options: Any) -> Any:
        require_possible(source)
        require_possible(target, makes=True)
        source = in_other_case(source)
        other = in_other_case(target)
        is_itself = _exists(text_of(other)) and os.path.samestat(
            *map(_real["lstat"], (source, other))
        )  # whose name gets another case
        require_unused(source, 32)
        if not is_itself and _exists(text_of(other)):
            if IS_WINDOWS and (name == "rename" or _is_folder(other)):
                raise numbered(FileExistsError(errno.EEXIST, "it is there already", text_of(target)), 183)
            require_unused(other, 5)
            target = other
        return real(source, target, **options)

    return raising_denied(functools.wraps(real)(call))


def makes(name: str) -> Function:
    real = _real[name]

    def call(path: Any, *arguments: Any, **options: Any) -> Any:
        require_possible(path, makes=True)
        if IS_WINDOWS and _length(text_of(path)) > LONGEST_FOLDER:
            raise numbered(FileNotFoundError(errno.ENOENT, "The filename or extension is too long", path), 206)
        return real(in_other_case(path), *arguments, **options)

    return functools.wraps(real)(call)


def os_open(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
    by = sys._getframe(1).f_code.co_filename  # the standard library knows when to say O_BINARY, and closes by itself
    is_text, flags = not flags & BINARY and by.startswith(OURS[0]), flags & ~BINARY
    if options.get("dir_fd") is not None or flags & os.O_TMPFILE == os.O_TMPFILE:  # a file without a name
        return int(_real["os.open"](path, flags, *arguments, **options))
    require_possible(path, makes=bool(flags & os.O_CREAT))
    path = in_other_case(path)
    if IS_WINDOWS and _is_folder(path):
        raise numbered(PermissionError(errno.EACCES, "Permission denied", text_of(path)), 5)
    handle = int(_real["os.open"](path, flags, *arguments, **options))
    (_as_text.add if is_text else _as_text.discard)(handle)
    return handle


def read_as_opened(handle: int, size: int) -> bytes:
    content = os.read(handle, size)
    return content.partition(b"\x1a")[0].replace(b"\r\n", b"\n") if handle in _as_text else content


def close(handle: int) -> None:
    _as_text.discard(handle)
    os.close(handle)


def opened(file: Any, mode: str = "r", buffering: int = -1, encoding: Any = None, *rest: Any, **options: Any) -> Any:
    """The built-in `open`."""
    is_text, is_made = "b" not in mode and IS_WINDOWS, bool(set("wxa") & set(mode))
    if is_text and io.text_encoding(encoding, 2) == "locale":
        encoding = "cp1252"
    if is_text and is_made and len(rest) < 2 and options.get("newline") is None and caller().startswith(OURS[0]):
        options["newline"] = "\r\n"
    if isinstance(file, int):
        _as_text.discard(file)  # a file object sets it to binary
    if isinstance(file, int) or options.get("opener"):
        return _real["open"](file, mode, buffering, encoding, *rest, **options)
    require_possible(file, makes=is_made)
    file = in_other_case(file)
    if IS_WINDOWS and _is_folder(file):
        raise numbered(PermissionError(errno.EACCES, "Permission denied", text_of(file)), 5)
    return _real["open"](file, mode, buffering, encoding, *rest, **options)


def synced(handle: Any) -> None:
    import fcntl

    number = handle if isinstance(handle, int) else handle.fileno()
    if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, "Bad file descriptor")
    _real["fsync"](number)


def linked(source: Any, target: Any, *arguments: Any, **options: Any) -> NoReturn:
    error = OSError(errno.EINVAL, "A required privilege is not held by the client", text_of(source))
    raise numbered(error, 1314)


def expanduser(path: Any) -> Any:
    """HOME says nothing on Windows."""
    before = os.environ.get("HOME")
    os.environ["HOME"] = os.environ.get("USERPROFILE") or _HOME
    try:
        return _real["expanduser"](path)
    finally:
        os.environ.pop("HOME") if before is None else os.environ.update(HOME=before)


def fold_paths() -> None:
    """Paths are compared, sorted and matched whatever their case. Only as Python 3.11 has them."""
    if hasattr(pathlib, "_PosixFlavour"):

        class Folded(pathlib._PosixFlavour):  # type: ignore[name-defined,misc]
            def casefold(self, text: str) -> str:
                return text.lower()

            def casefold_parts(self, parts: list[str]) -> list[str]:
                return [part.lower() for part in parts]

            def compile_pattern(self, pattern: str) -> Any:
                return re.compile(fnmatch.translate(pattern), re.IGNORECASE).fullmatch

        pathlib.PosixPath._flavour = Folded()  # type: ignore[attr-defined]


def change_files() -> None:
    asking = ("stat", "lstat", "listdir", "scandir", "access", "chmod", "utime", "readlink")
    removing, moving = ("unlink", "remove", "rmdir"), ("rename", "replace")
    _real.update({name: getattr(os, name) for name in (*asking, *removing, *moving, "mkdir", "fsync", "symlink")})
    _real.update({"open": builtins.open, "os.open": os.open, "expanduser": os.path.expanduser})
    changed: dict[str, Function] = {
        **{name: looks_up(name) for name in asking},
        **{name: removes(name) for name in removing},
        **{name: moves(name) for name in moving},
        "mkdir": makes("mkdir"), "open": os_open,
    }  # fmt: skip
    if IS_WINDOWS:
        shutil._use_fd_functions = False  # type: ignore[attr-defined]  # as on Windows
        changed |= {"fsync": synced, "symlink": linked}
        SYSTEM.given["os"] |= {"O_BINARY": BINARY, "read": read_as_opened, "close": close}
        fold_paths()
        os.path.expanduser = expanduser
    for name, function in changed.items():
        setattr(os, name, function)
    builtins.open = io.open = opened
