"""Text -> the names of the columns and the rows of a table: CSV with commas, semicolons or tabs, JSON, JSON Lines."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from convolve.atomic import is_there, open_ordinary, read_ordinary
from convolve.errors import FormatError, MissingDataError
from convolve.formats.part_names import role_of

Rows = Iterator[tuple[int, list[str]]]  # (number, cells) of each

_DELIMITERS = ",;\t"
_HEAD = 1 << 16  # characters, within which the header ends
_MOST_BYTES = 1 << 30
_LONGEST_LINE = 1 << 24  # characters
_LINE = re.compile(rf"[^\r\n]{{1,{_LONGEST_LINE}}}+(?:\r\n?|\n)?|\r\n?|\n")
_IMAGE = re.compile(r".\.(avif|bmp|gif|heic|jfif|jp2|jpe|jpe?g|p[bgnp]m|png|tiff?|webp)\Z", re.IGNORECASE)
_SURROGATE = re.compile("[\udc80-\udcff]")  # what a byte that is not UTF-8 becomes
_BETWEEN = re.compile(r"[\s,]*")  # two objects of a JSON list
_OBJECTS = "a list of objects, or one object per line, is expected, each with path and label"


def row_word(path: Path) -> str:
    """The word for a row of a table: the objects of a JSON list may all be on one line."""
    return "object" if path.suffix.lower() == ".json" else "line"


def read_rows(path: Path, is_known: Callable[[str], bool]) -> tuple[list[str], Rows]:
    """The header of the table `path`, and its rows; `is_known` tells whether a name is one for a column of images.

    If the first row has no known name, it can be data (`a.jpg,cat` or `train,a.jpg,cat`), and the table has no header.
    """
    try:
        content = read_ordinary(path, _MOST_BYTES)
    except OSError as error:
        raise MissingDataError(f"{path}: cannot be read ({error.strerror}); it should be a table of images") from None
    text = _decoded(path, content)
    del content
    if found := re.match(r"\s*([\[{])", text):
        return _json(path, text, is_list=found[1] == "[")
    return _csv(path, text, is_known)


def _decoded(path: Path, content: bytes) -> str:
    """UTF-8. Other bytes are taken for file names, if the first cell that has such bytes names an existing file."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        start = content.rfind(b"\n", 0, error.start) + 1
        line = content[start:].partition(b"\n")[0].decode("utf-8", "surrogateescape")
        cells = [cell for delimiter in _DELIMITERS for cell in _first_row(line, delimiter)]
        if not any(is_there(path.parent / cell, is_file=True) for cell in cells if _SURROGATE.search(cell)):
            raise FormatError(path, f"byte {error.start}", "not UTF-8 text; save the table as UTF-8") from None
        return content.decode("utf-8-sig", "surrogateescape")


def read_header(path: Path) -> list[str]:
    """The apparent header of the table, for JSON the names in the first object; empty if it cannot be read."""
    try:
        with open_ordinary(path) as file:
            text = file.read(_HEAD).decode("utf-8-sig", "replace").lstrip()
    except OSError:  # reported when the whole file is read
        return []
    if text.startswith(("{", "[")):
        with suppress(ValueError, RecursionError, IndexError):
            _, found = next(_list(text) if text.startswith("[") else _objects(text.split("\n")), (0, None))
            return list(found) if isinstance(found, dict) else []
    return max((_first_row(text, delimiter) for delimiter in _DELIMITERS), key=len)


def _csv(path: Path, text: str, is_known: Callable[[str], bool]) -> tuple[list[str], Rows]:
    headers = {delimiter: _first_row(text[:_HEAD], delimiter) for delimiter in _DELIMITERS}
    known = {delimiter: sum(map(is_known, cells)) for delimiter, cells in headers.items()}
    delimiter = max(_DELIMITERS, key=lambda each: (known[each], len(headers[each])))
    header, rows = headers[delimiter], _csv_rows(path, text, delimiter)
    if not known[delimiter]:
        if len(header) == 2 and _IMAGE.search(header[0]):
            return ["path", "label"], rows
        if len(header) == 3 and role_of(header[0]) and _IMAGE.search(header[1]):
            return ["split", "path", "label"], rows
    next(rows, None)
    return header, rows


def _first_row(text: str, delimiter: str) -> list[str]:
    try:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        return [cell.strip() for cell in next(filter(None, rows), [])]
    except csv.Error:  # reported when the row is read
        return []


def _csv_rows(path: Path, text: str, delimiter: str) -> Rows:
    """Each row that is not empty, and the number of its first line."""
    reader = csv.reader(_lines(path, text), delimiter=delimiter, strict=True)
    line = 1
    try:
        for row in reader:
            if row:
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise FormatError(path, f"line {reader.line_num}", f"not CSV ({error})") from None


def _json(path: Path, text: str, is_list: bool) -> tuple[list[str], Rows]:
    """The header consists of all names that occur."""
    objects: list[tuple[int, dict[str, Any]]] = []
    number = 0
    try:
        for number, found in _list(text) if is_list else _objects(_lines(path, text)):
            if not isinstance(found, dict):
                raise FormatError(path, f"{row_word(path)} {number}", f"{_OBJECTS}; got {str(found)[:40]!r}")
            objects.append((number, found))
    except (ValueError, RecursionError, IndexError) as error:
        raise FormatError(path, f"after {row_word(path)} {number}", f"not JSON ({error}); {_OBJECTS}") from None
    header = list(dict.fromkeys(name for _, found in objects for name in found))
    return header, ((number, [_cell(found.get(name)) for name in header]) for number, found in objects)


def _list(text: str) -> Iterator[tuple[int, Any]]:
    decode, number = json.JSONDecoder().raw_decode, 0
    at = _after(text, text.index("[") + 1)
    while text[at] != "]":
        found, at = decode(text, at)
        at, number = _after(text, at), number + 1
        yield number, found


def _after(text: str, at: int) -> int:
    found = _BETWEEN.match(text, at)
    return found.end() if found else at


def _objects(lines: Iterable[str]) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield number, json.loads(line)


def _lines(path: Path, text: str) -> Iterator[str]:
    """Each line with its end. Raises `FormatError` at one so long that it is none, before it takes memory again."""
    for number, found in enumerate(_LINE.finditer(text), 1):
        if found.end() - found.start() == _LONGEST_LINE:
            raise FormatError(path, f"line {number}", "more than 16 million characters; is this a table?")
        yield found[0]


def _cell(value: Any) -> str:
    """A value as CSV would have it; nested values stay JSON, which no path or label is."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)
