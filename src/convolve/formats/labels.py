"""Label files: the names of the classes.

A line is a name alone, in the order of the class numbers, or `number TAB name`, or `name TAB number`, in any order.
CNTK's readlabels.py writes the number first, its README shows it last; all lines of a file have the same form.
"""

from pathlib import Path

from convolve.atomic import open_ordinary
from convolve.errors import FormatError, MissingDataError

MAX_BYTES = 1 << 24


def read_labels(path: str | Path) -> tuple[str, ...]:
    """The class names (possibly with duplicates: ImageNet has two cranes), in UTF-8; other bytes are kept as in file
    names.

    Raises FormatError with the line, MissingDataError.
    """
    try:
        with open_ordinary(path) as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise MissingDataError(f"{path}: cannot be read ({error.strerror}); it should name one class a line") from None
    if len(content) > MAX_BYTES:
        raise FormatError(path, "", f"more than {MAX_BYTES} bytes, too large for a label file")
    return parse_labels(content, path)


def parse_labels(content: bytes, path: str | Path) -> tuple[str, ...]:
    """The class names in the bytes of a file; `path` is for messages."""
    if (zero := content.find(b"\0")) >= 0:
        raise FormatError(path, f"byte {zero}", "a zero byte: this is not UTF-8 text (save UTF-16 files as UTF-8)")
    lines = content.decode("utf-8-sig", "surrogateescape").splitlines()  # names of class folders may have any bytes
    columns = 2 if lines and "\t" in lines[0] else 1
    rows = [tuple(cell.strip() for cell in line.split("\t")) for line in lines]
    for line, row in enumerate(rows, 1):
        if len(row) != columns or not all(row):
            expected = "a name" if columns == 1 else "number TAB name, or name TAB number,"
            raise FormatError(path, f"line {line}", f"{expected} is expected, not {lines[line - 1][:40]!r}")
    if not rows:
        raise FormatError(path, "", "names no class")
    return tuple(name for (name,) in rows) if columns == 1 else _numbered(path, rows)


def _numbered(path: str | Path, rows: list[tuple[str, ...]]) -> tuple[str, ...]:
    """The names in the order of their numbers, which are in the first column if all its cells are numbers."""
    number = 0 if all(_is_number(row[0]) for row in rows) else 1
    names: dict[int, str] = {}
    for line, row in enumerate(rows, 1):
        text = row[number]
        if not _is_number(text) or int(text) >= len(rows) or int(text) in names:
            what = f"{len(rows)} classes must have the numbers 0..{len(rows) - 1}, each once; got {text[:40]!r}"
            raise FormatError(path, f"line {line}", what)
        names[int(text)] = row[1 - number]
    return tuple(names[k] for k in range(len(rows)))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10
