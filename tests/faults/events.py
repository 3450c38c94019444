"""One command in a process of its own, in which an event of the file system ends the process, or fails.

An audit hook counts the events; Python tells of no `fsync`, so that is wrapped. The process is forked from one that
has imported everything.
"""

from __future__ import annotations

import atexit
import errno
import gc
import importlib
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

KILLED = 113
PATIENCE_SECONDS = 600
CHANGES = frozenset(
    ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.chmod", "os.utime")
)
READS = frozenset(("os.listdir", "os.scandir"))
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_ELSEWHERE = ("/dev/", "/proc/", "/sys/")
_TEXT = {"encoding": "utf-8", "errors": "surrogateescape"}  # names of files may be any bytes


@dataclass(frozen=True)
class Fault:
    """What comes before event `at`, counted from 1: an end like that of kill -9, or the error `number`.

    `lasting`: every later event that takes room fails, too, as on a full disk.
    """

    at: int
    number: int = 0
    lasting: bool = False

    def __str__(self) -> str:
        name = errno.errorcode[self.number] if self.number else "kill"
        return f"{name}{' from' if self.lasting else ''} {self.at}"


class Trial(NamedTuple):
    """What a command left: its exit code, what it printed, and the events, as lines "kind path"."""

    code: int
    out: str
    err: str
    events: list[str]


class Watch:
    """Counts what happens below `folder`; reads count, too, where they are to fail."""

    def __init__(self, folder: Path, fault: Fault | None, reads: bool) -> None:
        self.folder, self.fault, self.reads = str(folder.resolve()), fault, reads
        self.events: list[str] = []
        self.is_on = True

    def install(self) -> None:
        sync = os.fsync

        def fsync(file: Any) -> None:
            number = file if isinstance(file, int) else file.fileno()
            self._meet("sync", str(Path(f"/proc/self/fd/{number}").readlink()), changes=True)
            sync(file)

        os.fsync = fsync  # type: ignore[assignment]
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.is_on:
            return
        if event == "open":
            path, _, flags = arguments
            changes = bool(flags & WRITING)
        elif event in CHANGES or event in READS:
            path, changes = arguments[0], event in CHANGES
        else:
            return
        if isinstance(path, str | bytes | os.PathLike) and (changes or self.reads):
            self._meet(event, os.fsdecode(path), changes=changes, within=_within(event, arguments))

    def _meet(self, event: str, path: str, changes: bool, within: str = "") -> None:
        whole = os.path.normpath(os.path.join(within or os.getcwd(), path))  # noqa: PTH109,PTH118  quick, and no events
        if not whole.startswith(self.folder):
            if changes and not whole.startswith(_ELSEWHERE):
                self.events.append(f"OUTSIDE {event} {whole}")
            return
        self.events.append(f"{event.removeprefix('os.')}{'' if changes else ' to read'} {whole}")
        at, fault = len(self.events), self.fault
        if fault is None or at < fault.at or (at > fault.at and not fault.lasting):
            return
        if not fault.number:
            os._exit(KILLED)
        if at == fault.at or event in ("open", "os.mkdir", "os.link", "os.symlink", "sync"):
            raise OSError(fault.number, os.strerror(fault.number), path)


def _within(event: str, arguments: tuple[Any, ...]) -> str:
    """The folder by whose number the event names its file: `shutil.rmtree` does."""
    if event == "open" or isinstance(arguments[-1], str | bytes) or not isinstance(arguments[-1], int):
        return ""
    number = arguments[-1]
    if event in ("os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.chmod", "os.utime") and number >= 0:
        try:
            return str(Path(f"/proc/self/fd/{number}").readlink())
        except OSError:
            return ""
    return ""


def run(
    command: Sequence[str] | Callable[[], int],
    folder: Path,
    logs: Path,
    fault: Fault | None = None,
    *,
    reads: bool = False,
    most_file_bytes: int | None = None,
) -> Trial:
    """The words of `command` after `convolve`, or a function, in `folder`, which also holds its temporary files and
    its cache; what it says is kept in `logs`."""
    number = start(command, folder, logs, fault, reads=reads, most_file_bytes=most_file_bytes)
    return finished(number, logs)


def start(
    command: Sequence[str] | Callable[[], int],
    folder: Path,
    logs: Path,
    fault: Fault | None = None,
    *,
    reads: bool = False,
    most_file_bytes: int | None = None,
    delay: Callable[[], None] = lambda: None,
) -> int:
    """As `run`, without waiting for the end: the number of the process."""
    for name in ("out", "err", "events"):
        (logs / name).write_bytes(b"")
    number = os.fork()
    if number:
        return number
    try:
        _be_a_process(command, folder, logs, Watch(folder, fault, reads), most_file_bytes, delay=delay)
    finally:
        os._exit(99)


def _be_a_process(
    command: Sequence[str] | Callable[[], int],
    folder: Path,
    logs: Path,
    watch: Watch,
    most_file_bytes: int | None,
    *,
    delay: Callable[[], None],
) -> None:
    signal.alarm(PATIENCE_SECONDS)
    atexit._clear()
    for place in ("tmp", "cache"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    os.environ |= {"TMPDIR": str(folder / "tmp"), "CONVOLVE_CACHE": str(folder / "cache"), "HOME": str(folder)}
    tempfile.tempdir = str(folder / "tmp")  # Python tries one that it chooses by a file of some name
    sys.stdout, sys.stderr = ((logs / name).open("w", encoding="utf-8", buffering=1) for name in ("out", "err"))
    if most_file_bytes is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (most_file_bytes, most_file_bytes))
    delay()
    watch.install()
    code = command() if callable(command) else _main(list(command))
    gc.collect()  # what is only removed then
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    watch.is_on = False
    if most_file_bytes is None:
        (logs / "events").write_text("".join(f"{event}\n" for event in watch.events), **_TEXT)
        (logs / "modules").write_text("\n".join(sys.modules), encoding="utf-8")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _main(words: list[str]) -> int:
    from convolve.cli import main

    return main(words)


def import_as_before(logs: Path) -> None:
    """What the last command has imported: its next process is forked from this one, and has it then."""
    for name in (logs / "modules").read_text().split("\n"):
        if name not in sys.modules and name != "__main__":
            with suppress(Exception):  # one that is there only while another is imported
                importlib.import_module(name)
    gc.freeze()


def finished(number: int, logs: Path) -> Trial:
    code = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
    out, err, events = ((logs / name).read_text(**_TEXT) for name in ("out", "err", "events"))
    return Trial(code, out, err, events.splitlines())
