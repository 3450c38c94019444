"""CNTK's image map file: one image per line, `path TAB label` or `key TAB path TAB label`; more columns are ignored.

Source: CNTK's ImageDeserializer.
"""

import os
import re
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convolve.atomic import replacing
from convolve.errors import FormatError, UsageError
from convolve.formats.archive import Location
from convolve.formats.listed_path import PathRules, path_rules
from convolve.formats.map_lines import (
    BadLine,
    BlanksForTab,
    Refuse,
    open_lines,
    parse_key,
    parse_label,
    read_lines,
    show,
)

# Legend: N images.

MAX_LINE_BYTES = 1 << 16
_HAS_NO_PLACE = re.compile(r"[\t\r\n]")
_BLANKS_AND_NUMBER = re.compile(rb" +([0-9]{1,9})[ \r\n]*\Z")


@dataclass(frozen=True, eq=False)
class ImageMap:
    """The lines of a map file.

    The paths stay packed, path i ending at byte `ends_N[i]` of `names`: a million of them take about 80 MB. `keys_N`:
    the images' keys, if every line has one.
    """

    file: Path
    labels_N: NDArray[np.int64]
    names: bytes
    ends_N: NDArray[np.int64]
    root: Path | None = None
    keys_N: NDArray[np.uint64] | None = None

    def __len__(self) -> int:
        return len(self.labels_N)

    def location(self, index: int) -> Location:
        """The location of image `index`.

        A leading `.../` stands for the folder of the map file. Other relative paths are relative to the working folder,
        as in CNTK. With `root`, both are relative to that; see `path_rules`.
        """
        text = self.text(index)
        if text.startswith((".../", "...\\")):
            return self._rules[1].location(text[4:])
        return self._rules[0].location(text)

    def text(self, index: int) -> str:
        """The text of image `index` in the map file."""
        start = self.ends_N[index - 1] if index else 0
        return os.fsdecode(self.names[start : self.ends_N[index]])

    @cached_property
    def _rules(self) -> tuple[PathRules, PathRules]:
        """The rules for paths, and for the paths after `.../`."""
        rules = path_rules("", self.root, map(self.text, range(len(self))))
        return rules, rules if self.root else path_rules(str(self.file.parent), None, ())

    def place(self, index: int) -> str:
        """The file and line of image `index`, for messages."""
        return f"{self.file}: line {index + 1}"

    def identity(self) -> bytes:
        """Bytes that identify this list, independent of its location."""
        return self.names + self.ends_N.tobytes()


def read_image_map(
    path: str | Path, classes: int | None = None, refuse: Refuse | None = None, root: Path | None = None
) -> ImageMap:
    """Read a map file; with `classes` (CNTK's labelDim) every label must be below it.

    Refuses what CNTK refuses, with a `FormatError` that names the line. With `refuse`, that function is called instead,
    and the line keeps its path and label as far as they are readable, otherwise none and -1. Memory: the file's size
    and 24 bytes per image.
    """
    labels, ends, names, keys = array("q"), array("q"), bytearray(), array("Q")
    with open_lines(path) as file:
        try:
            for line in read_lines(file, MAX_LINE_BYTES):
                name, label, key = _entry(line, classes, len(labels) + 1, refuse)
                if key is not None:
                    keys.append(key)
                labels.append(label)
                names += name
                ends.append(len(names))
        except BadLine as error:
            raise FormatError(path, f"line {len(labels) + 1}", str(error)) from None
    if not labels:
        raise FormatError(path, "", "holds no image; a line is `path TAB label`")
    keys_N = np.array(keys, np.uint64) if len(keys) == len(labels) else None
    labels_N, ends_N = np.array(labels, np.int64), np.array(ends, np.int64)
    return ImageMap(Path(path), labels_N, bytes(names), ends_N, root, keys_N=keys_N)


def write_image_map(path: str | Path, images: Iterable[tuple[str, int]]) -> None:
    """Write `path TAB label` lines, atomically. Raises `UsageError` for a path that the format cannot represent."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        for name, label in images:
            if not name or _HAS_NO_PLACE.search(name):
                raise UsageError(
                    f"{name!r} cannot stand in a map file: it is empty, or has a tab or line break; rename it"
                )
            file.write(os.fsencode(name) + b"\t%d\n" % label)


def _entry(line: bytes, classes: int | None, number: int, refuse: Refuse | None) -> tuple[bytes, int, int | None]:
    """Path, class and, if present, key of one line."""
    try:
        name, label, key = _columns(line)
        return name, parse_label(label, classes), key
    except BadLine as error:
        if refuse is None:
            raise
        refuse(number, error)
        return *_as_meant(line, classes), None


def _as_meant(line: bytes, classes: int | None) -> tuple[bytes, int]:
    """Path and class of a refused line, as far as they are readable."""
    if b"\0" in line:
        return b"", -1
    if b"\t" not in line and (found := _BLANKS_AND_NUMBER.search(line)):
        label = int(found[1])
        return line[: found.start()], label if classes is None or label < classes else -1
    columns = line.rstrip(b"\r\n").split(b"\t")
    return columns[len(columns) > 2], -1


def _columns(line: bytes) -> tuple[bytes, bytes, int | None]:
    """Path, label and key of one line."""
    columns = line.rstrip(b"\r\n").split(b"\t")
    if len(columns) == 3 and not columns[2]:  # for CNTK, a tab after the label opens no third column
        columns.pop()
    if len(columns) < 2:
        kind = BlanksForTab if _BLANKS_AND_NUMBER.search(line) else BadLine
        raise kind(f"two or three columns separated by tabs are expected, but there is no tab in {show(line)}")
    key = parse_key(columns.pop(0)) if len(columns) > 2 else None
    name, label = columns[:2]
    if not name or not label:
        raise BadLine(f"the {'path' if label else 'label'} is missing")
    if b"\0" in line:
        raise BadLine("a zero byte: this is not UTF-8 text (save UTF-16 files as UTF-8)")
    return name, label, key
