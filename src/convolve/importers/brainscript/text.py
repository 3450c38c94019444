"""Text that knows the place of each of its characters in a file, however often it was cut, pasted and substituted."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from operator import itemgetter
from pathlib import Path

from convolve.atomic import read_ordinary
from convolve.errors import FormatError, MissingDataError

# Far beyond any configuration; a bound on what pasting and substituting can make of a small file.
MAX_CHARACTERS = 2**19


@dataclass(frozen=True)
class Place:
    """A character of a file; lines and columns count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}: line {self.line}, column {self.column}"

    def error(self, what: str) -> FormatError:
        return FormatError(self.file, f"line {self.line}, column {self.column}", what)


@dataclass(frozen=True)
class Text:
    """`pieces` are (offset, place): from each offset on, columns run with the characters of `string`."""

    string: str
    pieces: tuple[tuple[int, Place], ...]

    def __len__(self) -> int:
        return len(self.string)

    def place(self, offset: int) -> Place:
        """The place of the character at `offset`; after the end, columns count on."""
        begin, place = self.pieces[max(0, bisect_right(self.pieces, offset, key=itemgetter(0)) - 1)]
        return Place(place.file, place.line, place.column + offset - begin)

    def error(self, offset: int, what: str) -> FormatError:
        return self.place(offset).error(what)

    def slice(self, begin: int, end: int) -> Text:
        """The characters from `begin` up to `end`."""
        first, last = (bisect_right(self.pieces, edge, key=itemgetter(0)) for edge in (begin, end))
        rest = ((offset - begin, place) for offset, place in self.pieces[first:last] if offset < end)
        return Text(self.string[begin:end], ((0, self.place(begin)), *rest))

    def cut(self, begin: int, end: int) -> Text:
        """The characters from `begin` up to `end`, without blanks around them."""
        inner = self.string[begin:end]
        begin += len(inner) - len(inner.lstrip())
        return self.slice(begin, begin + len(inner.strip()))


def joined(texts: Iterable[Text], between: str = "") -> Text:
    """The texts one after the other, with `between` between them. Raises FormatError if the result is too long."""
    texts = [*texts]
    starts = [0, *accumulate(len(text) + len(between) for text in texts)]
    if starts[-1] > MAX_CHARACTERS:
        raise texts[0].error(0, f"the text grows to more than {MAX_CHARACTERS} characters by pasting and substituting")
    filled = [(start, text) for start, text in zip(starts, texts, strict=False) if text.string]
    pieces = [(start + offset, place) for start, text in filled for offset, place in text.pieces]
    return Text(between.join(text.string for text in texts), tuple(pieces) or texts[0].pieces[:1])


def read_lines(path: Path) -> list[str]:
    """The lines of a file, without byte order marks. Raises MissingDataError, FormatError."""
    try:
        content = read_ordinary(path, MAX_CHARACTERS)
    except OSError as error:
        raise MissingDataError(f"cannot read {path}: {error.strerror}; give a BrainScript file") from None
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        raise FormatError(path, f"line {line}, column {column}", "not UTF-8 text; save the file as UTF-8") from None
    return [line.removesuffix("\r").removeprefix("\ufeff") for line in text.split("\n")]


def of_lines(file: str, lines: list[str], first: int = 1) -> Text:
    """`lines` of a file, the first of which has the number `first`."""
    starts = accumulate((len(line) + 1 for line in lines[:-1]), initial=0)
    pieces = tuple((start, Place(file, number, 1)) for number, start in enumerate(starts, start=first))
    return Text("\n".join(lines), pieces)


# -- what a text says -------------------------------------------------------------------------------------------------


def unquoted(value: Text) -> Text:
    string = value.string
    return value.cut(1, len(string) - 1) if len(string) >= 2 and string[0] == string[-1] == '"' else value


def as_flag(value: Text) -> bool:
    if value.string.lower() in ("t", "true", "1"):
        return True
    if value.string.lower() in ("f", "false", "0", ""):
        return False
    raise value.error(0, f"true or false is expected, not {value.string[:40]!r}")


def as_number(value: Text) -> float:
    try:
        return float(value.string.replace("_", "?"))  # Python would accept underscores
    except ValueError:
        raise value.error(0, f"a number is expected, not {value.string[:40]!r}") from None


def as_integer(value: Text) -> int:
    number = as_number(value)
    if not number.is_integer() or abs(number) > 2**53:
        raise value.error(0, f"a whole number is expected, not {value.string[:40]!r}")
    return int(number)
