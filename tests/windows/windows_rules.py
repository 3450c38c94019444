"""The rules of Windows or macOS on Linux, for `make windows` and `make macos` (CONVOLVE_SYSTEM=macOS).

`system_view.py`: what our own modules see. `system_files.py`: files and names. Here: processes and text. Windows:
processes are spawned and get no signals; text without a named encoding is of code page 1252, that of pipes too, whose
lines end with CR LF. macOS: processes are spawned unless the code says otherwise.

Not had: drives and back slashes (a path is one of Linux), access lists, the console, and what compiled libraries do.
Sources: Python's documentation of `os`, `signal`, `time`, `msvcrt`, `pathlib` and `multiprocessing`; Windows' of
CreateFile, MoveFileEx, DeleteFile, LockFile, "Naming Files, Paths, and Namespaces", and "Maximum Path Length
Limitation"; Apple's of APFS ("Frequently Asked Questions": names).
"""

from __future__ import annotations

import atexit
import functools
import io
import locale
import multiprocessing.context
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from system_files import IS_WINDOWS, REGISTER, change_files
from system_view import SYSTEM, see_as_there


def change_processes() -> None:
    contexts: Any = multiprocessing.context
    multiprocessing.set_start_method("spawn", force=True)
    if not IS_WINDOWS:
        return
    contexts._concrete_contexts = {"spawn": contexts._concrete_contexts["spawn"]}
    start = subprocess.Popen.__init__

    @functools.wraps(start)
    def started(self: Any, command: Any, *arguments: Any, **options: Any) -> None:
        if options.get("preexec_fn"):
            raise ValueError("preexec_fn is not supported on Windows platforms")
        assert not options.get("pass_fds"), "pass_fds not supported on Windows."
        for name in ("start_new_session", "process_group", "user", "group", "umask"):
            options.pop(name, None)  # nobody looks at them there
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
            stream.reconfigure(encoding="cp1252", errors=errors, newline=None if stream is sys.stdin else "\r\n")


def begun() -> str:
    """A new register of processes, in a temporary folder of their own: others do not see our locks of folders there."""
    folder = Path(tempfile.gettempdir(), f"{SYSTEM.name}-rules-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    register = tempfile.mkdtemp(prefix="processes-", dir=folder)
    atexit.register(shutil.rmtree, register, ignore_errors=True)
    os.environ[REGISTER] = register
    if "TMPDIR" not in os.environ:
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    return register


def apply() -> None:
    own = Path(os.environ.get(REGISTER) or begun(), str(os.getpid()))
    with suppress(OSError):
        own.touch()
        atexit.register(own.unlink, missing_ok=True)
    if IS_WINDOWS:
        change_text()
    change_files()
    change_processes()
    see_as_there()
