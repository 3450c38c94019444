"""WebDataset's shards: tar archives of images with their labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from convolve.data.shard_layout import folder_of, shard_files
from convolve.data.sources.classes import class_numbers, in_order, label_names, spelling, strangers
from convolve.data.sources.files import FileSource, file_source
from convolve.data.sources.shard_index import Shard, ShardListing, is_number, open_index
from convolve.data.sources.source import OnFault
from convolve.errors import DataError, FormatError


def open_shards(path: Path, classes: Sequence[str] | None = None, on_fault: OnFault | None = None) -> FileSource:
    """The images in the shards at `path`. If nobody says the `classes`, a labels.txt beside them may name them."""
    listing = list_shards(path)
    labels, rows_N = listing.index.labels, listing.index.rows_N
    if not labels:
        way = "give each a KEY.cls with its class number or name, or put it into a folder of its class"
        raise DataError(f"{listing.place(0)}: its images have no labels; {way}")
    names = classes or _names(path, on_fault)
    if is_number(labels[0]):
        numbers_K = np.array([*map(int, labels)], np.int64)
        if names is not None and numbers_K.max() >= len(names):
            first = int(np.argmax(rows_N["label"] == numbers_K.argmax()))
            what = f"class {numbers_K.max()}, but {len(names)} classes are known; name all in labels.txt beside it"
            raise FormatError(listing.place(first), "", what)
    else:
        names = names or in_order({*map(spelling, labels)})
        found = class_numbers(labels, names)
        if found is None:
            raise DataError(f"{path}: {strangers(labels, names)}; correct the labels, or labels.txt beside them")
        numbers_K = np.array(found, np.int64)
    return file_source(listing, numbers_K[rows_N["label"]], None if names is None else tuple(names))


def list_shards(path: Path) -> ShardListing:
    """The images in the shards at `path`, with labels or without."""
    shards = [Shard(str(file), file, _stamp(file)) for file in shard_files(path)]
    return ShardListing(tuple(shards), open_index(shards))


def _stamp(file: Path) -> str:
    try:
        found = file.stat()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); put the shard there") from None
    return f"{found.st_size} {found.st_mtime_ns}"


def _names(path: Path, on_fault: OnFault | None) -> tuple[str, ...] | None:
    """What stands in the folder of the shards, or above it, where the parts have folders of their own."""
    folder = folder_of(path)
    return label_names(folder / path.name, on_fault) or label_names(folder, on_fault)
