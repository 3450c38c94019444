"""A CSV file that takes hours: it grows as FILE.partial, and a killed command goes on where it was stopped."""

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
    """The rows of `path` while they come. `rows`: so many are there."""

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
        """The rows that are there, `step` at a time as far as so many are whole. What comes behind them is cut off.

        A row is whole if it has so many `columns`, the first of which is the next of `names`.
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
    """FILE.partial as a table with a `title`, which becomes `path` in the end; to be resumed before rows are added.
    `cell` makes the text of each cell.

    Its first line says which `question` the rows answer: rows that answer another one are refused, with what differs.
    """
    partial = path.with_name(f"{path.name}.partial")
    refuse_link(partial)
    if partial.exists() and not partial.is_file():
        raise UsageError(f"{partial} is no table that `convolve predict` began; move it away")
    if not partial.exists():
        with replacing(partial) as temporary:  # whole or not at all
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
        raise UsageError(f"{partial} is no table that `convolve predict` began; move it away") from None
    if differ:
        which = " and ".join(f"other {name}" for name in differ)
        raise UsageError(f"{partial} was begun with {which}; give those to go on, or remove it to begin anew")


class _Lines:
    """The whole lines of a file from where it stands, and where the last one ends."""

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
    """A row for each of `names`; nothing where one is missing or damaged."""
    try:
        rows = list(islice(cells, len(names)))
    except csv.Error:
        return []
    fit = [len(row) == columns and row[0] == name for row, name in zip(rows, names, strict=False)]
    return rows if len(rows) == len(names) and all(fit) else []


def _encoded(rows: Iterable[Iterable[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")  # names of files may be any bytes
