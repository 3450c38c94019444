"""CNTK's map files of images: lines `path TAB class number`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from convolve.data.sources.files import FileSource, file_source
from convolve.data.sources.source import OnFault, refusal
from convolve.errors import DataError, FormatError
from convolve.formats.image_map import read_image_map
from convolve.formats.labels import read_labels
from convolve.formats.map_lines import open_lines

LABEL_FILES = ("labels.txt", "classmappings.txt")  # beside a map file or table: the names of the classes

_HEAD_BYTES = 1 << 16
_LINE = "write it as path TAB class number"


def open_map_file(path: Path, classes: Sequence[str] | None = None, on_fault: OnFault | None = None) -> FileSource:
    """The images that the lines of `path` name. If nobody says the `classes`, a file beside it may name them."""
    names = classes or label_names(path, on_fault)
    count = None if names is None else len(names)
    listing = read_image_map(path, count, refuse=refusal(path, on_fault, _LINE))
    return file_source(listing, listing.labels_N, None if names is None else tuple(names), in_chunks=True)


def label_names(path: Path, on_fault: OnFault | None = None) -> tuple[str, ...] | None:
    """The names of the classes that stand in a file beside `path`."""
    found = next((path.parent / name for name in LABEL_FILES if (path.parent / name).is_file()), None)
    try:
        return read_labels(found) if found else None
    except DataError as error:
        if on_fault is None:
            raise
        on_fault("unreadable", str(path.parent), str(error), "correct it: one name a line, or number TAB name")
        return None


def lists_paths(path: Path) -> bool:
    """Whether a map file is one of paths: there the label is the last of two or three columns, else base64 is."""
    with open_lines(path) as file:
        columns = file.readline(_HEAD_BYTES).rstrip(b"\r\n").split(b"\t")
    if not (len(columns) in (2, 3) and columns[-2].strip().isdigit() and not columns[-1].strip().isdigit()):
        return True
    if b"." in columns[-1]:  # which base64 does not know
        raise FormatError(path, "line 1", "the columns stand the other way round; a line is path TAB class number")
    return False
