"""How tests drive the command line: types and checks beside the fixtures of conftest.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Outcome(NamedTuple):
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str


Convolve = Callable[..., Outcome]


def assert_refused(outcome: Outcome, code: int, *words: str) -> None:
    """One line on stderr, with all of `words`; nothing on stdout; exit code `code`."""
    assert outcome.err.count("\n") == 1, outcome.err
    assert_failed(outcome, code, *words)


def assert_failed(outcome: Outcome, code: int, *words: str) -> None:
    """As `assert_refused`, of a command that said more before it failed."""
    *earlier, line = outcome.err.splitlines()
    assert line.startswith("convolve: "), outcome.err
    assert not any(text.startswith(("convolve: ", "Traceback")) for text in earlier), outcome.err
    assert "fault of convolve" not in line, line
    for word in words:
        assert word in line, f"{word!r} is missing in: {line}"
    assert (outcome.code, outcome.out) == (code, ""), outcome


def files_in(folder: Path) -> list[str]:
    """Every file below `folder`, hidden ones included; none if it does not exist."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
