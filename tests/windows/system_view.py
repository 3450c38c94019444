"""What our own modules and tests see of `os`, `sys` and the like under the rules of another system: a name that it
lacks is missing. A test that uses one itself is skipped (`tests/lacking.py`)."""

from __future__ import annotations

import builtins
import errno
import functools
import math
import os
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
OURS = tuple(f"{ROOT / name}{os.sep}" for name in ("src", "tests", "examples", "benchmarks", "docs"))
RULES = tuple(str(HERE / f"{name}.py") for name in ("system_view", "system_files", "windows_rules", "sitecustomize"))
STANDARD = (f"{Path(os.__file__).parent}{os.sep}", "<frozen")  # and there is no site-packages behind it
TICKS = 64  # a second; so often Windows' clock moves, and time.monotonic by it before Python 3.13

Function = Callable[..., Any]


@dataclass(frozen=True)
class System:
    name: str
    absent: dict[str, str]  # module -> names
    given: dict[str, dict[str, Any]]  # module -> name -> what it is there
    missing: frozenset[str]  # modules
    nowhere: tuple[str, ...]  # how paths begin that only Linux has
    brings: dict[str, ModuleType] = field(default_factory=dict)


def _msvcrt() -> ModuleType:
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


def _coarse(clock: Callable[[], float]) -> Callable[[], float]:
    return lambda: math.floor(clock() * TICKS) / TICKS


WINDOWS = System(
    "Windows",
    absent={
        "os": """
fork forkpty getuid geteuid getgid getegid getgroups getresuid setuid setgid setsid setpgid getpgid getsid killpg kill
nice getpriority setpriority sched_getaffinity sched_setaffinity sched_yield pread pwrite preadv pwritev posix_fallocate
posix_fadvise posix_spawn mkfifo mknod statvfs fstatvfs sysconf uname getloadavg chown lchown fchown fchmod fchdir
chroot sync fdatasync openpty sendfile memfd_create lockf wait3 wait4 ttyname O_NONBLOCK O_NOFOLLOW O_DIRECTORY
O_CLOEXEC O_SYNC O_NOCTTY WNOHANG WIFSIGNALED getxattr setxattr pidfd_open
""",
        "signal": """
SIGKILL SIGUSR1 SIGUSR2 SIGHUP SIGQUIT SIGALRM SIGCHLD SIGPIPE SIGSTOP SIGCONT SIGTSTP SIGWINCH SIGIO alarm setitimer
getitimer pause sigwait pthread_kill pthread_sigmask siginterrupt
""",
        "socket": "AF_UNIX SO_REUSEPORT",
        "sys": "abiflags",
        "time": "clock_gettime tzset",
    },
    given={
        "os": {"name": "nt", "linesep": "\r\n", "O_BINARY": 0},
        "sys": {"platform": "win32"},
        "time": {name: _coarse(getattr(time, name)) for name in ("time", "monotonic", "process_time", "thread_time")},
    },
    missing=frozenset({"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty"}),
    nowhere=("/proc", "/sys/", "/dev/"),
    brings={"msvcrt": _msvcrt()},
)
MACOS = System(
    "macOS",
    absent={
        "os": """
sched_getaffinity sched_setaffinity posix_fallocate posix_fadvise fdatasync memfd_create getxattr setxattr listxattr
removexattr pidfd_open getresuid getresgid setresuid setresgid splice eventfd copy_file_range getrandom O_TMPFILE
O_PATH O_NOATIME O_DIRECT O_LARGEFILE O_RSYNC unshare setns posix_openpt
""",
        "signal": "SIGPWR SIGSTKFLT SIGPOLL SIGRTMIN SIGRTMAX sigtimedwait sigwaitinfo",
        "socket": "AF_PACKET AF_NETLINK AF_VSOCK SO_BINDTODEVICE SO_PEERCRED SO_DOMAIN MSG_NOSIGNAL TCP_CORK",
        "sys": "",
        "time": "",
    },
    given={"sys": {"platform": "darwin"}},
    missing=frozenset({"spwd", "ossaudiodev"}),
    nowhere=("/proc", "/sys/", "/dev/shm", "/dev/full"),
)
SYSTEM = MACOS if os.environ.get("CONVOLVE_SYSTEM") == "macOS" else WINDOWS


# -- who asks -------------------------------------------------------------------------------------------------------


def caller() -> str:
    """The file of the nearest function that is neither of these rules nor of the standard library."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        is_standard = name.startswith(STANDARD) and "site-packages" not in name
        if name not in RULES and not is_standard:
            return str(name)
        frame = frame.f_back
    return ""


def is_ours(file: str) -> bool:
    return file.startswith(OURS)


def numbered(error: OSError, winerror: int) -> OSError:
    """`error`, as Windows numbers it."""
    error.winerror = winerror  # type: ignore[attr-defined]  # as on Windows
    return error


# -- what they see --------------------------------------------------------------------------------------------------


class View(ModuleType):
    """A module as the system has it."""

    def __init__(self, module: ModuleType) -> None:
        super().__init__(module.__name__, module.__doc__)
        given: dict[str, Any] = {**SYSTEM.given.get(module.__name__, {})}
        before = {name: getattr(module, name, None) for name in given}
        absent = set(SYSTEM.absent[module.__name__].split())
        self.__dict__.update(_module=module, _absent=absent, _given=given, _before=before, _set={})

    def __getattr__(self, name: str) -> Any:
        if name in self._given:
            now = getattr(self._module, name, None)
            return now if name in self._before and now != self._before[name] else self._given[name]  # a test set it
        if name in self._absent:
            said = f"module {self.__name__!r} has no attribute {name!r} ({SYSTEM.name})"
            raise AttributeError(said, name=name, obj=self)
        return getattr(self._module, name)

    def __setattr__(self, name: str, value: Any) -> None:
        own = name in self._given or name in self._absent
        self._set.setdefault(name, []).append(self._given.get(name) if own else getattr(self._module, name, None))
        if own:
            self._given[name] = value
        else:
            setattr(self._module, name, value)

    def __delattr__(self, name: str) -> None:
        """pytest's `monkeypatch` so undoes each setting, as it finds nothing in the dictionary of this object."""
        own, before = name in self._given, self._set[name].pop() if self._set.get(name) else None
        if before is None:
            self._given.pop(name) if own else delattr(self._module, name)
        elif own:
            self._given[name] = before
        else:
            setattr(self._module, name, before)

    def __dir__(self) -> list[str]:
        return sorted(set(dir(self._module)) - self._absent | set(self._given))


def see_as_there() -> None:
    real = builtins.__import__
    views = {name: View(__import__(name)) for name in SYSTEM.absent}

    @functools.wraps(real)
    def imported(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        first, _, rest = name.partition(".")
        if level == 0 and first in {*views, *SYSTEM.missing, *SYSTEM.brings}:
            file = (globals or {}).get("__file__") or ""
            if is_ours(file) and file not in RULES:
                if first in SYSTEM.brings:
                    return SYSTEM.brings[first]
                if first in SYSTEM.missing:
                    raise ModuleNotFoundError(f"No module named {first!r} ({SYSTEM.name})", name=first)
                if not (rest and fromlist):
                    return views[first]
        return real(name, globals, locals, fromlist, level)

    builtins.__import__ = imported
