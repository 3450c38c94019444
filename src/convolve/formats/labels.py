"""Label files: the names of the classes, one a line, in the order of their numbers.

A line is the name alone, or `number TAB name` as CNTK's readlabels.py writes it; all lines are of one kind.
"""

from __future__ import annotations

from pathlib import Path

from convolve.errors import FormatError, MissingDataError

MAX_BYTES = 1 << 24


def read_labels(path: str | Path) -> tuple[str, ...]:
    """The class names, UTF-8 (ImageNet has two cranes). Raises FormatError with the line, MissingDataError."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise MissingDataError(f"{path}: cannot be read ({error.strerror}); it should name one class a line") from None
    if len(content) > MAX_BYTES:
        raise FormatError(path, "", f"more than {MAX_BYTES} bytes: this is no label file")
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise FormatError(path, f"byte {error.start}", "no text in UTF-8") from None
    numbered = bool(lines) and "\t" in lines[0]
    names = []
    for number, line in enumerate(lines):
        name = _numbered(path, number, line) if numbered else line.strip()
        if not name or "\t" in name:
            raise FormatError(path, f"line {number + 1}", f"a name, or number TAB name, is expected, not {line[:40]!r}")
        names.append(name)
    if not names:
        raise FormatError(path, "", "names no class")
    return tuple(names)


def _numbered(path: str | Path, number: int, line: str) -> str:
    first, _, name = line.partition("\t")
    if first.strip() != str(number):
        raise FormatError(path, f"line {number + 1}", f"the class number must be {number}, it is {first[:40]!r}")
    return name.strip()
