"""A CSV file that takes hours to write: it grows as FILE.partial, and an interrupted command resumes it."""

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Self

from convolve.atomic import cannot_write, locked, parse_json, refuse_link, replacing
from convolve.errors import UsageError

_LONGEST_HEAD = 1 << 16


class PartialTable:
    """The rows of `path` while they are written; `rows` counts them."""

    def __init__(self, path: Path, file: BinaryIO, cell: Callable[[Any], str]) -> None:
        self.path, self.rows, self._file, self._cell = path, 0, file, cell

    def add(self, rows: Iterable[Sequence[Any]]) -> None:
        rows = [[*map(self._cell, row)] for row in rows]
        try:
            self._file.write(_encoded(rows))
            self._file.flush()
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self.rows += len(rows)

    def resume(self, names: Sequence[object], step: int, columns: int) -> Iterator[list[list[str]]]:
        """Yield the rows that the file already has, up to `step` at a time, and cut off everything after the last
        complete row.

        A row is complete if it has `columns` cells, the first of which is the next of `names`.
        """
        lines = _Lines(self._file)
        cells, end = csv.reader(lines, strict=True), lines.end
        while rows := _whole(cells, [*map(self._cell, names[self.rows : self.rows + step])], columns):
            yield rows
            self.rows, end = self.rows + len(rows), lines.end
        self._file.seek(end)
        self._file.truncate()


@contextmanager
def partial_table(
    path: Path, question: dict[str, Any], title: Sequence[str], cell: Callable[[Any], str] = str
) -> Iterator[PartialTable]:
    """A table with a `title`, written to FILE.partial and renamed to `path` at the end. Call `resume` before adding
    rows. `cell` makes the text of each cell.

    The first line of FILE.partial records the `question`; if that differs, UsageError names what does.
    """
    partial = path.with_name(f"{path.name}.partial")
    refuse_link(partial)
    if partial.exists() and not partial.is_file():
        raise UsageError(f"{partial} was not written by `convolve predict`; move it away")
    if not partial.exists():
        with replacing(partial) as temporary:  # written whole or not at all
            temporary.write_bytes(json.dumps(question).encode() + b"\n" + _encoded([map(cell, title)]))
    with locked(partial, wait=False), partial.open("r+b") as file:
        _require_same(partial, file.readline(_LONGEST_HEAD), question)
        start = file.tell()
        file.readline()  # the title
        yield PartialTable(path, file, cell)
        file.seek(start)
        with replacing(path) as temporary, temporary.open("wb") as whole:
            shutil.copyfileobj(file, whole)
    partial.unlink()


def _require_same(partial: Path, head: bytes, question: dict[str, Any]) -> None:
    try:
        earlier = parse_json(head.decode())
        differ = [name for name, value in question.items() if earlier[name] != value]
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{partial} was not written by `convolve predict`; move it away") from None
    if differ:
        which = " and ".join(f"other {name}" for name in differ)
        raise UsageError(
            f"{partial} was written with {which}; give the same to resume, or remove the file to start over"
        )


class _Lines:
    """The complete lines of a file from its current position, and the offset where the last one ends."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.end = file, file.tell()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = self._file.readline()
        if not line.endswith(b"\n"):
            raise StopIteration
        self.end += len(line)
        return line.decode("utf-8", "surrogateescape")


def _whole(cells: Iterator[list[str]], names: Sequence[str], columns: int) -> list[list[str]]:
    """One row for each of `names`; empty if any is missing or damaged."""
    try:
        rows = list(islice(cells, len(names)))
    except csv.Error:
        return []
    fit = [len(row) == columns and row[0] == name for row, name in zip(rows, names, strict=False)]
    return rows if len(rows) == len(names) and all(fit) else []


def _encoded(rows: Iterable[Iterable[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")  # file names may be any bytes
