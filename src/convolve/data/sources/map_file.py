"""CNTK's map files of images: lines `path TAB class number`."""

from collections.abc import Sequence
from pathlib import Path

from convolve.data.options import AS_FOUND, DataOptions
from convolve.data.sources.classes import label_names
from convolve.data.sources.files import FileSource, file_source
from convolve.data.sources.source import OnFault, refusal
from convolve.formats.image_map import read_image_map

_LINE = "write the line as path TAB class number"


def open_map_file(
    path: Path,
    classes: Sequence[str] | None = None,
    on_fault: OnFault | None = None,
    options: DataOptions = AS_FOUND,
) -> FileSource:
    """The images that the lines of `path` name. If `classes` is not given, a file beside it may name them."""
    names = classes or label_names(path, on_fault)
    count = None if names is None else len(names)
    listing = read_image_map(path, count, refuse=refusal(path, on_fault, _LINE), root=options.root)
    return file_source(listing, listing.labels_N, None if names is None else tuple(names), in_chunks=True)
