"""Tests that do themselves what this system lacks are skipped, with the reason: nobody has to keep a list of them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from traceback import walk_tb
from types import ModuleType

TESTS = str(Path(__file__).parent)
RULES = str(Path(__file__).parent / "windows" / "system_"), str(Path(__file__).parent / "windows" / "windows_rules")
STANDARD = (str(Path(os.__file__).parent), "<frozen")
MODULES = {"fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"}  # Unix' own
VIEWED = {"os", "signal", "socket", "sys", "time"}
WINDOWS_SAYS = {123: "there can be no such name", 1314: "links need a privilege"}
SAID = {"preexec_fn", "pass_fds", "cannot find context for", "Unsupported signal"}  # by subprocess, multiprocessing
PLACES = ("/proc", "/sys", "/dev/")


def lacking(error: BaseException) -> str:
    """What this system lacks, if that is why a test itself met `error`; "" for all else, and all that our code met."""
    if sys.platform == "linux" or not _is_met_by_a_test(error):
        return ""
    if isinstance(error, AttributeError) and isinstance(error.obj, ModuleType) and error.obj.__name__ in VIEWED:
        return f"there is no {error.obj.__name__}.{error.name}"
    if isinstance(error, ModuleNotFoundError) and error.name in MODULES:
        return f"there is no module {error.name}"
    if isinstance(error, OSError) and (said := WINDOWS_SAYS.get(getattr(error, "winerror", None) or 0)):
        return f"{said}: {error.filename}"
    if isinstance(error, FileNotFoundError) and str(error.filename).startswith(PLACES):
        return f"there is no {error.filename}"
    if isinstance(error, ValueError | AssertionError) and any(said in str(error) for said in SAID):
        return str(error)
    return ""


def _is_met_by_a_test(error: BaseException) -> bool:
    """Whether the innermost function is a test's, or its helper's, but for Python's own and the rules'."""
    files = [frame.f_code.co_filename for frame, _ in walk_tb(error.__traceback__)]
    own = [file for file in files if "site-packages" in file or not file.startswith((*STANDARD, *RULES))]
    return bool(own) and own[-1].startswith(TESTS)
