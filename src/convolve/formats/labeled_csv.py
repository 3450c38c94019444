"""A table of labeled images: CSV in UTF-8 whose header names the columns `path` and `label`; others are ignored.

A relative path starts at the folder of the file; `photos.zip@/cats/tom.jpg` lies in an archive. A label is the name of
a class, or its number where all of them are whole numbers.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from convolve.errors import FormatError, MissingDataError
from convolve.formats.archive import Location, parse_location
from convolve.formats.map_lines import BadLine, Refuse

# Legend: N images.

_COLUMNS = ("path", "label")


@dataclass(frozen=True, eq=False)
class LabeledCsv:
    """The rows of the table `file`; `lines` are those on which they begin, from 1."""

    file: Path
    paths: tuple[str, ...]
    labels: tuple[str, ...]
    lines: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def location(self, index: int) -> Location:
        return parse_location(str(self.file.parent / self.paths[index]))

    def place(self, index: int) -> str:
        """The file and line of image `index`, for messages."""
        return f"{self.file}: line {self.lines[index]}"

    def identity(self) -> bytes:
        """What tells this list from others, wherever it lies."""
        return os.fsencode("\n".join(self.paths))


def read_labeled_csv(path: str | Path, refuse: Refuse | None = None) -> LabeledCsv:
    """Read the table. Raises `MissingDataError`, or `FormatError` with the line.

    With `refuse`, that hears of a row that is not whole, and the row has no label, and a path if it can be told.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise MissingDataError(f"{path}: cannot be read ({error.strerror}); it should be a CSV table") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(path, f"byte {error.start}", "no text in UTF-8; save the table so") from None
    rows = _rows(path, text)
    _, header = next(rows, (1, []))
    for name in _COLUMNS:
        if header.count(name) != 1:
            raise FormatError(path, "line 1", f"the header must name the columns path and label, once; it is {header}")
    found: list[tuple[str, str, int]] = []
    for line, row in rows:
        try:
            found.append((*_entry(row, header), line))
        except BadLine as error:
            if refuse is None:
                raise FormatError(path, f"line {line}", str(error)) from None
            refuse(line, error)
            found.append((*_without_label(row, header), line))
    if not found:
        raise FormatError(path, "", "holds no image; each row below the header is to name one")
    paths, labels, lines = zip(*found, strict=True)
    return LabeledCsv(Path(path), paths, labels, lines)


def _entry(row: list[str], header: list[str]) -> tuple[str, str]:
    """Path and label of one row."""
    if len(row) != len(header):
        raise BadLine(f"{len(row)} columns, the header has {len(header)}")
    image, label = (row[header.index(name)] for name in _COLUMNS)
    if not image or not label or "\0" in image:
        raise BadLine(f"the {'label' if image else 'path'} is missing")
    return image, label


def _without_label(row: list[str], header: list[str]) -> tuple[str, str]:
    """The path of a row that was refused, as far as it can be told, and no label."""
    image = dict(zip(header, row, strict=False)).get("path", "")
    return "" if "\0" in image else image, ""


def _rows(path: str | Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """(number of its first line, cells without blanks around them) of each row that is not empty."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for row in reader:
            if row:
                yield line, [cell.strip() for cell in row]
            line = reader.line_num + 1
    except csv.Error as error:
        raise FormatError(path, f"line {reader.line_num}", f"no CSV ({error})") from None
