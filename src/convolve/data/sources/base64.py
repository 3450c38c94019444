"""CNTK's base64 map files, which contain the images themselves, one per line."""

from collections.abc import Sequence
from pathlib import Path

from convolve.data.sources.classes import label_names
from convolve.data.sources.files import FileSource, file_source
from convolve.data.sources.source import OnFault
from convolve.formats.base64_map import read_base64_map


def open_base64(path: Path, classes: Sequence[str] | None = None, on_fault: OnFault | None = None) -> FileSource:
    """The images inside the lines of `path`."""
    names = classes or label_names(path, on_fault)
    listing = read_base64_map(path, None if names is None else len(names))
    return file_source(listing, listing.labels_N, None if names is None else tuple(names))
