"""Every error a user can meet, and the exit code of each.

    ConvolveError                 1   something failed; the message says what and the way out
    ├── UsageError                2   an unknown name, field or option; a value out of range
    ├── DataError                 3   data that is missing, damaged or inconsistent
    │   ├── FormatError           3   bytes that break a format; names file and place
    │   └── MissingDataError      3   nothing there; says which files belong where
    ├── ModelError                3   a model folder or checkpoint that is incomplete or altered
    ├── UnsupportedError          4   a feature of a model or configuration that convolve does not have
    ├── TrainingError             1   training cannot go on (a loss that is not finite, for one)
    │   └── ResumeRefusedError    1   the unfinished run was started with another recipe or other data
    ├── StoppedTraining          75   a scheduler takes the machine away; the run can be resumed
    └── InterruptedTraining     130   Ctrl-C; the run can be resumed

An error is one line: where, what was expected and what came, and what to do next.
"""

import difflib
import json
import re
import reprlib
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")
_MOST_LETTERS = 1600  # 20 lines of 80 characters
_LINE_ENDS = re.compile(r"\s*[\r\n]\s*")
# Terminal commands (line feeds and tabs excepted), characters that change the order of text, bytes that are no text.
_OBEYED = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


class ConvolveError(Exception):
    """The root of the tree. `str(error)` is what a user sees: one plain line, no longer than a screen, whatever text of
    a file or of another package it contains."""

    exit_code = 1

    def __str__(self) -> str:
        return plain(_cut(_LINE_ENDS.sub(" ", super().__str__()), _MOST_LETTERS))


class UsageError(ConvolveError):
    exit_code = 2


class DataError(ConvolveError):
    exit_code = 3


class FormatError(DataError):
    """Bytes that break a format.

    `place` says where in the file: a byte offset, or line and column, counted from 1.
    """

    def __init__(self, path: object, place: str, what: str) -> None:
        self.path, self.place, self.what = path, place, what
        super().__init__(f"{path}: {place}: {what}" if place else f"{path}: {what}")


class MissingDataError(DataError):
    pass


class ModelError(ConvolveError):
    exit_code = 3


class UnsupportedError(ConvolveError):
    exit_code = 4


class TrainingError(ConvolveError):
    pass


class ResumeRefusedError(TrainingError):
    pass


class InterruptedTraining(ConvolveError):  # noqa: N818  an interruption is not an error
    exit_code = 130

    def __init__(self, folder: Path, restart: bool) -> None:
        again = "the same command again" + (", but without --restart" if restart else "")
        super().__init__(f"interrupted; to resume {folder}, give {again}")


class StoppedTraining(ConvolveError):  # noqa: N818  no error either
    exit_code = 75

    def __init__(self, signal: str, where: str = "") -> None:
        super().__init__(f"stopped by {signal}{where}; the same command without --restart resumes it")


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """The sentence for every unknown name: what was given, and the nearest known name or all of them."""
    known = sorted(known)
    nearest = difflib.get_close_matches(name[:80], known, n=1, cutoff=0.5)
    if nearest:
        return f"unknown {kind} {brief(name)}; did you mean {nearest[0]!r}?"
    return f"unknown {kind} {brief(name)}; known: {', '.join(known)}"


def look_up(table: Mapping[str, T], name: str, kind: str, field: str = "") -> T:
    """The row called `name`. Raises UsageError if there is none; `field` says where the name was given."""
    if name not in table:
        raise UsageError((f"{field}: " if field else "") + unknown_name(kind, name, table))
    return table[name]


def plain(text: str) -> str:
    """`text` with every character that a terminal would obey escaped as in JSON and Python: \\u001b."""
    return _OBEYED.sub(lambda letter: escaped(letter[0]), text)


def escaped(text: str) -> str:
    units = text.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))


def legible(name: str) -> str:
    """A name from a file, safe for one line of a message."""
    return " ".join(plain(_cut(name, 80)).split())


def _cut(text: str, most: int) -> str:
    """Long text shortened to its beginning and its end."""
    if len(text) <= most:
        return text
    return f"{text[: most * 2 // 3]} ... ({len(text):,} characters) ... {text[len(text) - most // 4 :]}"


class _Brief(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, 80, 80

    def repr_int(self, value: int, level: int) -> str:
        return repr(value) if abs(value) < 10**40 else f"a number of {int(value.bit_length() * 0.30103):,} digits"


def brief(value: Any) -> str:
    """A value from a file, short enough for a message, however large or deeply nested it is."""
    return legible(_Brief().repr(value))


def install_hint(extra: str) -> str:
    """The command that adds `extra` to this installation, from where convolve itself was installed.

    No package index has convolve yet, so `pip install convolve[...]` could install somebody else's package.
    """
    clone = Path(__file__).parents[2]
    if (clone / "pyproject.toml").exists():
        return f"pip install -e {quoted(f'{clone}[{extra}]')}"
    from importlib import metadata  # importing these two takes a third of the time of `convolve --help`
    from urllib.request import url2pathname

    try:
        origin = json.loads(metadata.distribution("convolve").read_text("direct_url.json") or "{}")  # PEP 610
    except metadata.PackageNotFoundError:
        origin = {}
    address, git = origin.get("url", ""), origin.get("vcs_info")
    folder = Path(url2pathname(urlsplit(address).path))
    if "dir_info" in origin and (folder / "pyproject.toml").exists():
        return f"pip install {quoted(f'{folder}[{extra}]')}"
    if git:
        address = f"{git['vcs']}+{address}@{git['commit_id']}"
    if git or "archive_info" in origin:
        return f"pip install {quoted(f'convolve[{extra}] @ {address}')}"
    return f"pip install {quoted(f'.[{extra}]')} in a clone of convolve"


def quoted(text: str) -> str:
    """One word of a command, quoted for this system's shell."""
    return f'"{text}"' if sys.platform == "win32" else shlex.quote(text)
