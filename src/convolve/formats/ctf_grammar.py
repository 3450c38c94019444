"""The grammar of CNTK's text format (CTF), sequence by sequence, exactly as CNTK 2.7's reader accepts or refuses it.

    file     := [UTF-8 byte order mark] white space { line }
    line     := [sequence id] { sample | comment } LF       the last LF may be missing
    sample   := "|" name { value }                          name: printable ASCII without blanks and "|"
    comment  := "|#" anything up to the next "|" or LF
    value    := number                                      dense: the first values of the vector, the rest is 0
              | index ":" number                            sparse: what has the same index is added up
    number   := ["+" | "-"] digits ["." [digits [exponent]] | exponent]
    exponent := ("e" | "E") ["+" | "-"] digits

Between samples every byte below 0x20 or above 0x7f except LF is a blank; between values only space and tab are.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache, reduce
from typing import Any

import numpy as np

from convolve.errors import FormatError, UsageError

_NUMBER = rb"[+-]?[0-9]+(?:\.(?:[0-9]+(?:[eE][+-]?[0-9]+)?)?|[eE][+-]?[0-9]+)?"
_DENSE_VALUE = re.compile(_NUMBER)
_DENSE_VALUES = re.compile(rb"(?:[ \t]*" + _NUMBER + rb")*[ \t]*")
_SPARSE_VALUE = re.compile(rb"([0-9]+):(" + _NUMBER + rb")")
_SPARSE_VALUES = re.compile(rb"(?:[ \t]*[0-9]+:" + _NUMBER + rb")*[ \t]*")
_NAME = re.compile(rb"[!-{}~\x7f]*")
_DIGITS = re.compile(rb"[0-9]*")
_BLANKS = re.compile(rb"[\x00-\x09\x0b-\x20\x80-\xff]*")
_END_OF_SAMPLE = re.compile(rb"[\x00-\x1f\x80-\xff|]|\Z")
_UP_TO_NEXT_SAMPLE = re.compile(rb"[^|\n]*")


@dataclass(frozen=True)
class StreamSpec:
    """A stream to read: vectors of `dim` values, called `alias` in the file (default: `name`).

    Only lines that have the stream with `defines_mb_size` are counted, and sequences without it are left out.
    Values are returned as `dtype`; one that does not fit is refused, never rounded or wrapped.
    """

    name: str
    dim: int
    sparse: bool = False
    alias: str = ""
    defines_mb_size: bool = False
    dtype: Any = np.float32

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise UsageError(f"stream {self.name!r}: the dimension must be at least 1, got {self.dim}")
        if not _NAME.fullmatch(self.token) or self.token[:1] in (b"", b"#"):
            rule = "printable ASCII without blanks or '|', and must not begin with '#'"
            raise UsageError(f"stream {self.name!r}: its name in a CTF file must be {rule}")

    @property
    def token(self) -> bytes:
        """The name in the file."""
        return (self.alias or self.name).encode()


@dataclass(frozen=True)
class Samples:
    """One sequence's samples of one stream: float32 vectors, and the line of each."""

    rows: list[np.ndarray] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)


class SequenceParser:
    """Parses one sequence after another; `max_errors` is the number of errors tolerated in the whole file.

    A last line without LF follows the same rules as all others (CNTK drops excess values there); as in CNTK, only a
    stream without any value is an error there.
    """

    def __init__(self, path: object, streams: Sequence[StreamSpec], max_errors: int) -> None:
        self._path = path
        self._streams = {stream.token: stream for stream in streams}
        main = [stream.token for stream in streams if stream.defines_mb_size]
        self._checked = main or [stream.token for stream in streams]
        self._max_errors = self._errors_left = max_errors

    def parse(self, lines: Sequence[bytes], first_line: int, expected: int) -> list[Samples]:
        """The samples of each stream in the sequence on `lines`.

        The longest stream, or the one that defines the minibatch size, must have `expected` samples.
        Raises `FormatError` with line and column at the first error beyond `max_errors`.
        """
        found = {name: Samples() for name in self._streams}
        for number, line in enumerate(lines, first_line):
            if not self._parse_line(line, number, found) and line.endswith(b"\n"):
                self._tolerate(number, 0, "there is no sample on this line; remove the line")
        for name, samples in found.items():
            if not samples.rows:
                what = f"the sequence that begins here has no (valid) sample of stream {name.decode()!r}; add one"
                raise FormatError(self._path, f"line {first_line}, column 1", what)
        longest = max(len(found[name].rows) for name in self._checked)
        if longest != expected:
            what = f"the sequence that begins here has {longest} samples of a stream, expected {expected}"
            self._tolerate(first_line, 0, f"{what}; put one on each line")
        return list(found.values())

    def _parse_line(self, line: bytes, number: int, found: dict[bytes, Samples]) -> int:
        """Add the samples of `line` to `found`; return how many there were."""
        count = 0
        position = _end(_DIGITS, line, 0)
        while (position := _end(_BLANKS, line, position)) < len(line) and line[position] != ord("\n"):
            try:
                name, position = self._parse_name(line, position)
                if name in self._streams:
                    row, position = _parse_row(self._streams[name], line, position)
                    found[name].rows.append(row)
                    found[name].lines.append(number)
                    count += 1
                    continue
            except _Mistake as mistake:
                self._tolerate(number, mistake.position, mistake.what)
                position = mistake.position
            position = _end(_UP_TO_NEXT_SAMPLE, line, position)
        return count

    def _parse_name(self, line: bytes, start: int) -> tuple[bytes, int]:
        """The name after the "|" at `start`, and where it ends; that of a comment begins with "#"."""
        if line[start] != ord("|"):
            raise _Mistake(start, f"expected '|' and the name of a stream, got {chr(line[start])!r}; correct the line")
        end = _end(_NAME, line, start + 1)
        name = line[start + 1 : end]
        # CNTK accepts a truncated name only if it is longer than every name that it looks for.
        cut_off = end == len(line) and len(name) <= max(map(len, self._streams)) and not name.startswith(b"#")
        if not name or cut_off:
            raise _Mistake(end, "expected the name of a stream and its values after '|'; complete the line")
        return name, end

    def _tolerate(self, line: int, position: int, what: str) -> None:
        """Count one error, or refuse the file at byte `position` (from 0) of `line`."""
        if self._errors_left == 0:
            if self._max_errors:
                what = f"one error more than max_errors={self._max_errors}: {what}"
            raise FormatError(self._path, f"line {line}, column {position + 1}", what)
        self._errors_left -= 1


class _Mistake(Exception):  # noqa: N818  an error only where it exceeds the budget
    def __init__(self, position: int, what: str) -> None:
        self.position, self.what = position, what


def _parse_row(stream: StreamSpec, line: bytes, start: int) -> tuple[np.ndarray, int]:
    """The vector whose values begin at `start`, and where they end."""
    where, kind = f"stream {stream.token.decode()!r}", "index:value" if stream.sparse else "a number"
    end = _end(_SPARSE_VALUES if stream.sparse else _DENSE_VALUES, line, start)
    if not _END_OF_SAMPLE.match(line, end):
        raise _Mistake(end, f"{where}: expected {kind}, got {_word(line, end)!r}; correct the value")
    values = (_SPARSE_VALUE if stream.sparse else _DENSE_VALUE).findall(line, start, end)
    if not values and end == len(line):
        raise _Mistake(end, f"{where}: expected {kind}, but the file ends; complete the line")
    if not stream.sparse and len(values) > stream.dim:
        raise _Mistake(start, f"{where} has {len(values)} values, its dimension is {stream.dim}; correct one")
    row = np.zeros(stream.dim, np.float32)
    with np.errstate(over="ignore"):  # as in CNTK: values too large for float32 become infinite
        if not stream.sparse:
            row[: len(values)] = [_number(value) for value in values]
            return row, end
        for index, value in values:
            number = _double(index)
            if number >= stream.dim:
                raise _Mistake(start, f"{where}: index {number:g} is not below dimension {stream.dim}; correct one")
            row[int(number)] += np.float32(_number(value))
    return row, end


@lru_cache(maxsize=4096)  # pixel values repeat
def _number(token: bytes) -> float:
    """The value of a number, with CNTK's rounding: digits are accumulated in double precision from left to right."""
    mantissa, _, exponent = token.lower().partition(b"e")
    whole, _, fraction = mantissa.lstrip(b"+-").partition(b".")
    value = _double(whole)
    if fraction:
        value += _double(fraction) / math.prod([10.0] * len(fraction))
    if token.startswith(b"-"):
        value = -value
    if exponent:
        power = _double(exponent.lstrip(b"+-"))
        value *= 10.0**-power if exponent.startswith(b"-") else 10.0**power if power <= 308 else math.inf
    return value


def _double(text: bytes) -> float:
    return reduce(lambda value, digit: value * 10.0 + (digit - ord("0")), text, 0.0)


def _end(pattern: re.Pattern[bytes], line: bytes, position: int) -> int:
    """The end of the longest match at `position`; for patterns that can match nothing."""
    match = pattern.match(line, position)
    return match.end() if match else position


def _word(line: bytes, position: int) -> str:
    """The text at `position`, for an error message."""
    return re.split(r"[\s|]", line[position : position + 20].decode("latin-1"), maxsplit=1)[0]
