"""What CNTK's two kinds of map file have in common: text lines of tab-separated columns, with keys and labels.

What is accepted and refused was checked against CNTK 2.7, with two deliberate differences: a byte-order mark is
skipped, and labels such as `3abc` or `3.7`, which CNTK reads as 3, are refused.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from convolve.atomic import open_ordinary
from convolve.errors import FormatError, MissingDataError

_MAX_LABEL = 2**31 - 1  # CNTK numbers classes with 32-bit integers
_NUMBER = re.compile(rb"\s*\+?([0-9]{1,20})(?:\s.*)?\Z", re.DOTALL)  # C's strtoull, which CNTK uses, skips blanks
_MAX_KEY = 2**64 - 1
_HEAD_BYTES = 1 << 16
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class BadLine(Exception):  # noqa: N818  one sentence for the reader of the file, which adds file and line
    pass


class BlanksForTab(BadLine):
    """There are blanks instead of a tab before the class number at the end of the line."""


Refuse = Callable[[int, BadLine], None]  # called with each bad line's number, from 1; reading then continues


def open_lines(path: str | Path) -> BinaryIO:
    """The file at `path`, past a byte-order mark. Raises `MissingDataError`."""
    try:
        file = open_ordinary(path)
    except OSError as error:
        raise MissingDataError(f"{path}: cannot be read ({error.strerror}); it should be a map file") from None
    if file.read(len(_BYTE_ORDER_MARK)) != _BYTE_ORDER_MARK:
        file.seek(0)
    return file


def lists_paths(path: Path) -> bool:
    """Whether a map file lists paths: then the label is the last of two or three columns; otherwise base64 is."""
    with open_lines(path) as file:
        columns = file.readline(_HEAD_BYTES).rstrip(b"\r\n").split(b"\t")
    if not (len(columns) in (2, 3) and columns[-2].strip().isdigit() and not columns[-1].strip().isdigit()):
        return True
    if b"." in columns[-1]:  # which is not in base64's alphabet
        raise FormatError(path, "line 1", "the columns are in the wrong order; a line is path TAB class number")
    return False


def read_lines(file: BinaryIO, max_bytes: int) -> Iterator[bytes]:
    """The lines of `file` with their line breaks. A line longer than `max_bytes` is a `BadLine`, not read
    completely."""
    for line in iter(partial(file.readline, max_bytes), b""):
        if len(line) == max_bytes and not line.endswith(b"\n"):
            raise BadLine(f"longer than {max_bytes} bytes: this is not a map file")
        yield line


def parse_key(text: bytes) -> int:
    """A key joins the data of several CNTK readers; recipes read one file at a time and only check it."""
    if found := _NUMBER.match(text):
        return min(int(found[1]), _MAX_KEY)
    raise BadLine(f"the key in the first of three columns must be a whole number, got {show(text)}")


def parse_label(text: bytes, classes: int | None) -> int:
    """A class number below `classes`. Blanks around it are allowed; text after a blank is ignored, as in CNTK."""
    found = _NUMBER.match(text)
    label = int(found[1]) if found else -1
    if not 0 <= label <= _MAX_LABEL:
        raise BadLine(f"the label must be a whole number from 0, got {show(text)}")
    if classes is not None and label >= classes:
        raise BadLine(f"the label is {label}; with {classes} classes it must be in 0..{classes - 1}")
    return label


def show(text: bytes) -> str:
    """The beginning of `text`, for messages."""
    return repr(text[:40].decode("utf-8", "backslashreplace").rstrip("\r\n"))
