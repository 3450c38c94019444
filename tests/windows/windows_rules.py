"""Windows' rules on Linux, for `make windows`: what Python lacks, refuses and does otherwise there.

Our own modules and tests see another `os`, `sys` and `signal`, and no `fcntl`: a name that Windows lacks is missing.
For all code: files that are open or mapped, in any process under these rules, can be neither replaced nor removed;
names that differ in case alone are one; reserved names and letters are refused; folders cannot be opened; sync wants a
handle that can write; text without a named encoding is of code page 1252; processes are spawned; links need a
privilege. Lines of our own files end with CR LF unless the code says otherwise. Where a test itself does what Windows
cannot, it is skipped.

Not had: drives and back slashes (a path is one of Linux), access lists, the console, and what compiled libraries do.
Sources: Python's documentation of `os`, `signal`, `msvcrt` and `multiprocessing`; Windows' of CreateFile, MoveFileEx,
DeleteFile, LockFile, and "Naming Files, Paths, and Namespaces".
"""

from __future__ import annotations

import atexit
import builtins
import errno
import functools
import io
import locale
import multiprocessing.context
import os
import re
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

REGISTER = "CONVOLVE_WINDOWS_RULES"  # names a folder with a file for each process that lives by these rules
ROOT = Path(__file__).parents[2]
OURS = tuple(f"{ROOT / name}{os.sep}" for name in ("src", "tests", "examples", "benchmarks", "docs"))
STANDARD = (f"{Path(os.__file__).parent}{os.sep}", "<frozen")  # and there is no site-packages behind it
MOST_NAMES = 2_000  # of a folder in which one is looked for that differs in case

_ABSENT_OF_OS = """
fork forkpty getuid geteuid getgid getegid getgroups getresuid setuid setgid setsid setpgid getpgid getsid killpg kill
nice getpriority setpriority sched_getaffinity sched_setaffinity sched_yield pread pwrite preadv pwritev posix_fallocate
posix_fadvise posix_spawn mkfifo mknod statvfs fstatvfs sysconf uname getloadavg chown lchown fchown fchmod fchdir
chroot sync fdatasync openpty sendfile memfd_create lockf wait3 wait4 ttyname O_NONBLOCK O_NOFOLLOW O_DIRECTORY
O_CLOEXEC O_SYNC O_NOCTTY WNOHANG WIFSIGNALED getxattr setxattr pidfd_open
"""
_ABSENT_OF_SIGNAL = """
SIGKILL SIGUSR1 SIGUSR2 SIGHUP SIGQUIT SIGALRM SIGCHLD SIGPIPE SIGSTOP SIGCONT SIGTSTP SIGWINCH SIGIO alarm setitimer
getitimer pause sigwait pthread_kill pthread_sigmask siginterrupt
"""
ABSENT = {
    "os": _ABSENT_OF_OS.split(),
    "signal": _ABSENT_OF_SIGNAL.split(),
    "socket": ["AF_UNIX", "SO_REUSEPORT"],
    "sys": ["abiflags"],
}
OTHER: dict[str, dict[str, Any]] = {
    "os": {"name": "nt", "linesep": "\r\n", "O_BINARY": 0},
    "sys": {"platform": "win32"},
    "signal": {},
    "socket": {},
}
MISSING_MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty"}
BROKEN_LETTERS = re.compile(r'[\x01-\x1f:*?"<>|]')
DEVICE = re.compile(r"(con|prn|aux|nul|(com|lpt)[1-9]) *(\.|$)", re.IGNORECASE)
NOT_OF_WINDOWS = ("/proc/", "/sys/", "/dev/shm")

Function = Callable[..., Any]
_real: dict[str, Function] = {}


# -- who asks -------------------------------------------------------------------------------------------------------


def caller() -> str:
    """The file of the nearest function that is neither of this file nor of the standard library."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        is_standard = name.startswith(STANDARD) and "site-packages" not in name
        if name != __file__ and not is_standard:
            return str(name)
        frame = frame.f_back
    return ""


def is_ours(file: str) -> bool:
    return file.startswith(OURS)


def is_test(file: str) -> bool:
    return file.startswith(OURS[1]) and "pytest" in sys.modules


def skip(reason: str) -> NoReturn:
    import pytest

    raise pytest.skip.Exception(f"Windows: {reason}", allow_module_level=True)


def refused(error: OSError, winerror: int, reason: str) -> OSError:
    """`error`, as Windows numbers it; a test that did it itself is skipped instead."""
    if reason and is_test(caller()):
        skip(reason)
    error.winerror = winerror  # type: ignore[attr-defined]  # as on Windows
    return error


# -- what our modules see -------------------------------------------------------------------------------------------


class View(ModuleType):
    """A module as Windows has it."""

    def __init__(self, module: ModuleType) -> None:
        super().__init__(module.__name__, module.__doc__)
        given: dict[str, Any] = {**OTHER[module.__name__]}
        before = {name: getattr(module, name, None) for name in given}
        self.__dict__.update(_module=module, _absent=set(ABSENT[module.__name__]), _given=given, _before=before)

    def __getattr__(self, name: str) -> Any:
        if name in self._given:
            now = getattr(self._module, name, None)
            return now if name in self._before and now != self._before[name] else self._given[name]  # a test set it
        if name in self._absent:
            if is_test(file := caller()) and not file.endswith("conftest.py"):
                skip(f"there is no {self.__name__}.{name}")
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r} (Windows)")
        return getattr(self._module, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._given or name in self._absent:
            self._given[name] = value
        else:
            setattr(self._module, name, value)

    def __delattr__(self, name: str) -> None:
        if name in self._given:
            del self._given[name]
        else:
            delattr(self._module, name)

    def __dir__(self) -> list[str]:
        return sorted(set(dir(self._module)) - self._absent | set(self._given))


def msvcrt() -> ModuleType:
    """Locks of parts of a file that belong to the handle, by Linux' locks of open file descriptions."""
    import fcntl

    def locking(handle: int, mode: int, size: int) -> None:
        kind = fcntl.F_UNLCK if mode == found.LK_UNLCK else fcntl.F_WRLCK
        start = os.lseek(handle, 0, os.SEEK_CUR)
        try:
            fcntl.fcntl(handle, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, start, size, 0))
        except OSError:
            raise PermissionError(errno.EACCES, "Permission denied") from None

    found: Any = ModuleType("msvcrt")
    found.LK_UNLCK, found.LK_LOCK, found.LK_NBLCK, found.locking = 0, 1, 2, locking
    return found  # type: ignore[no-any-return]


def see_as_windows() -> None:
    real, lock = builtins.__import__, msvcrt()
    views = {module.__name__: View(module) for module in (os, sys, signal, __import__("socket"))}

    @functools.wraps(real)
    def imported(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        first, _, rest = name.partition(".")
        if level == 0 and first in {*views, *MISSING_MODULES, "msvcrt"}:
            file = (globals or {}).get("__file__") or ""
            if is_ours(file) and file != __file__:
                if first == "msvcrt":
                    return lock
                if first in MISSING_MODULES:
                    if is_test(file):
                        skip(f"there is no module {first}")
                    raise ModuleNotFoundError(f"No module named {first!r} (Windows)", name=first)
                if not (rest and fromlist):
                    return views[first]
        return real(name, globals, locals, fromlist, level)

    builtins.__import__ = imported


# -- files ----------------------------------------------------------------------------------------------------------


def text_of(path: Any) -> str:
    return "" if isinstance(path, int) else os.fsdecode(path)


def require_possible(path: Any, makes: bool = False) -> None:
    """Raise OSError for letters that no name has; if it is to be made, also for a device, a dot or space at its end."""
    text = text_of(path)
    if text.startswith(NOT_OF_WINDOWS) and is_ours(caller()):
        raise refused(FileNotFoundError(errno.ENOENT, "No such file or directory", text), 3, "")
    name = text.rstrip("/").rpartition("/")[2]
    broken = BROKEN_LETTERS.search(text)
    if broken or (makes and name not in ("", ".", "..") and (DEVICE.match(name) or name[-1] in ". ")):
        said = "The filename, directory name, or volume label syntax is incorrect"
        raise refused(OSError(errno.EINVAL, said, text), 123, f"no file can be called {name!r}" if makes else "")


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
                if text_of(other).casefold() == name.casefold():
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
    """The files that are open or mapped in a process under these rules."""
    register = os.environ.get(REGISTER, "")
    with suppress(OSError):
        for number in _real["listdir"](register):
            with suppress(OSError):
                for handle in _real["listdir"](f"/proc/{number}/fd"):
                    with suppress(OSError):
                        yield _real["readlink"](f"/proc/{number}/fd/{handle}")
                with _real["open"](f"/proc/{number}/maps", encoding="utf-8", errors="surrogateescape") as maps:
                    for line in maps:
                        parts = line.rstrip("\n").split(maxsplit=5)
                        if len(parts) == 6 and parts[5].startswith("/"):
                            yield parts[5]


def require_unused(path: Any, winerror: int) -> None:
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
            if name == "rename" or _is_folder(other):
                raise refused(FileExistsError(errno.EEXIST, "it is there already", text_of(target)), 183, "")
            require_unused(other, 5)
            target = other
        return real(source, target, **options)

    return raising_denied(functools.wraps(real)(call))


def makes(name: str) -> Function:
    real = _real[name]

    def call(path: Any, *arguments: Any, **options: Any) -> Any:
        require_possible(path, makes=True)
        return real(in_other_case(path), *arguments, **options)

    return functools.wraps(real)(call)


def os_open(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
    if options.get("dir_fd") is not None or flags & os.O_TMPFILE == os.O_TMPFILE:  # a file without a name
        return int(_real["os.open"](path, flags, *arguments, **options))
    require_possible(path, makes=bool(flags & os.O_CREAT))
    path = in_other_case(path)
    if _is_folder(path):
        raise refused(PermissionError(errno.EACCES, "Permission denied", text_of(path)), 5, "")
    return int(_real["os.open"](path, flags, *arguments, **options))


def opened(file: Any, mode: str = "r", buffering: int = -1, encoding: Any = None, *rest: Any, **options: Any) -> Any:
    """The built-in `open`."""
    is_text, is_made = "b" not in mode, bool(set("wxa") & set(mode))
    if is_text and io.text_encoding(encoding, 2) == "locale":
        encoding = "cp1252"
    if is_text and is_made and len(rest) < 2 and options.get("newline") is None and caller().startswith(OURS[0]):
        options["newline"] = "\r\n"
    if isinstance(file, int) or options.get("opener"):
        return _real["open"](file, mode, buffering, encoding, *rest, **options)
    require_possible(file, makes=is_made)
    file = in_other_case(file)
    if _is_folder(file):
        raise refused(PermissionError(errno.EACCES, "Permission denied", text_of(file)), 5, "")
    return _real["open"](file, mode, buffering, encoding, *rest, **options)


def synced(handle: Any) -> None:
    import fcntl

    number = handle if isinstance(handle, int) else handle.fileno()
    if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, "Bad file descriptor")
    _real["fsync"](number)


def linked(source: Any, target: Any, *arguments: Any, **options: Any) -> NoReturn:
    error = OSError(errno.EINVAL, "A required privilege is not held by the client", text_of(source))
    raise refused(error, 1314, "links need a privilege")


def change_files() -> None:
    asking = ("stat", "lstat", "listdir", "scandir", "access", "chmod", "utime", "readlink")
    removing, moving = ("unlink", "remove", "rmdir"), ("rename", "replace")
    _real.update({name: getattr(os, name) for name in (*asking, *removing, *moving, "mkdir", "fsync", "symlink")})
    _real.update({"open": builtins.open, "os.open": os.open})
    shutil._use_fd_functions = False  # type: ignore[attr-defined]  # as on Windows
    changed = {
        **{name: looks_up(name) for name in asking},
        **{name: removes(name) for name in removing},
        **{name: moves(name) for name in moving},
        "mkdir": makes("mkdir"), "open": os_open, "fsync": synced, "symlink": linked,
    }  # fmt: skip
    for name, function in changed.items():
        setattr(os, name, function)
    builtins.open = io.open = opened


# -- processes ------------------------------------------------------------------------------------------------------


def change_processes() -> None:
    contexts: Any = multiprocessing.context
    contexts._concrete_contexts = {"spawn": contexts._concrete_contexts["spawn"]}
    multiprocessing.set_start_method("spawn", force=True)
    start = subprocess.Popen.__init__

    @functools.wraps(start)
    def started(self: Any, command: Any, *arguments: Any, **options: Any) -> None:
        for name in ("preexec_fn", "pass_fds", "start_new_session", "process_group", "user"):
            if options.get(name) not in (None, (), False, -1):
                if is_test(caller()):
                    skip(f"subprocess takes no {name}")
                raise ValueError(f"{name} is not supported on Windows platforms")
        if (options.get("text") or options.get("universal_newlines")) and not options.get("encoding"):
            options["encoding"] = "cp1252"
        start(self, command, *arguments, **options)

    popen: Any = subprocess.Popen
    signaled = popen.send_signal

    def end(self: Any) -> None:
        signaled(self, signal.SIGKILL)

    def send(self: Any, number: int) -> None:
        if number == signal.SIGTERM:
            end(self)
        elif is_test(caller()):
            skip("processes get no signals")
        else:
            raise ValueError(f"Unsupported signal: {number}")

    popen.__init__, popen.send_signal, popen.terminate, popen.kill = started, send, end, end


def change_text() -> None:
    """Of this process, unless it runs the tests, the standard streams: pipes have the code page, too."""
    locale.getpreferredencoding = lambda do_setlocale=True: "cp1252"
    if hasattr(locale, "getencoding"):
        locale.getencoding = lambda: "cp1252"
    if "pytest" in " ".join(sys.orig_argv) or "PYTHONIOENCODING" in os.environ:
        return
    for stream, errors in ((sys.stdin, "strict"), (sys.stdout, "strict"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="cp1252", errors=errors)


def apply() -> None:
    if _real:
        return
    register = os.environ.setdefault(REGISTER, "") or tempfile.mkdtemp(prefix="windows-rules-")
    os.environ[REGISTER] = register
    with suppress(OSError):
        Path(register).mkdir(exist_ok=True)
        own = Path(register, str(os.getpid()))
        own.touch()
        atexit.register(own.unlink, missing_ok=True)
    change_text()
    change_files()
    change_processes()
    see_as_windows()
