"""Large sets in few files: WebDataset's shards, which are tar archives, and Hugging Face's Parquet files."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convolve import remote
from convolve.data.options import AS_FOUND, DataOptions
from convolve.data.shard_layout import class_list, folder_of, shard_files
from convolve.data.sources.classes import LABEL_FILES, class_numbers, in_order, label_names, spelling, strangers
from convolve.data.sources.files import FileSource, file_source
from convolve.data.sources.shard_index import Shard, ShardListing, is_number, key_of, open_index
from convolve.data.sources.source import OnFault
from convolve.errors import DataError, FormatError
from convolve.formats.labels import read_labels
from convolve.formats.parquet import ParquetImages, open_parquet
from convolve.formats.table import read_table
from convolve.formats.table_rows import read_header

_KEY = "key"  # other names of the class column in a table of classes


def open_shards(
    path: Path,
    classes: Sequence[str] | None = None,
    on_fault: OnFault | None = None,
    options: DataOptions = AS_FOUND,
) -> FileSource:
    """The images in the shards at `path`. If `classes` is not given, a labels.txt beside them may name them.

    What a table beside them says about the keys counts, whatever is in the shards.
    """
    listing = list_shards(path)
    table, labels, which_N = class_list(path), listing.index.labels, listing.index.rows_N["label"]
    if table:
        labels, which_N = _listed(listing, table, options)
    if not labels:
        way = "give each a KEY.cls with its class number or name, or all a table classes.csv (key, class)"
        raise DataError(f"{listing.place(0)}: its images have no labels; {way}")
    return file_source(listing, *numbered(listing, labels, which_N, classes or _names(path, on_fault)))


def _listed(listing: ShardListing, path: Path, options: DataOptions) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """(labels, the label number of each image) from the table of key and class at `path`."""
    columns, index = options.columns, listing.index
    if columns.image is None and _KEY in read_header(path):
        columns = replace(columns, image=_KEY)
    table, numbers, label_of = read_table(path, columns), dict[str, int](), dict[str, int]()
    for row, (name, label) in enumerate(zip(table.paths, table.labels, strict=True)):
        number = numbers.setdefault(label, len(numbers))
        if label_of.setdefault(key_of(name), number) != number:
            other = table.labels[list(map(key_of, table.paths)).index(key_of(name))]
            what = f"the key {key_of(name)} is {label} here and {other} above; correct one of them"
            raise FormatError(path, table.row(row), what)
    seen, which_N = dict[str, int](), np.empty(len(index.rows_N), np.int64)
    for image in range(len(which_N)):
        key = index.key(image)
        if key not in label_of:
            raise DataError(f"{listing.place(image)}: {path} gives this key no class; add a row with it")
        if (first := seen.setdefault(key, image)) != image:
            places = f"{listing.place(first)} and {listing.place(image)}"
            raise DataError(f"{places} have the same key, so that {path.name} cannot tell them apart; rename one")
        which_N[image] = label_of[key]
    return tuple(numbers), which_N


def open_parquets(
    path: Path, classes: Sequence[str] | None, on_fault: OnFault | None, options: DataOptions
) -> FileSource:
    """The images in the Parquet files at `path`, whose metadata usually name the classes."""
    asked = options.columns
    listing = open_parquet(
        [remote.local(file) for file in shard_files(path)], asked.image, asked.label[0] if asked.label else None
    )
    known = listing.class_names
    labels, which_N = np.unique(listing.labels_N, return_inverse=True)
    texts = [str(label) for label in labels.tolist()]
    if known and classes and known != tuple(classes) and all(map(is_number, texts)):
        texts = [known[int(text)] if int(text) < len(known) else text for text in texts]  # that is, by their names
        known = tuple(classes)
    return file_source(listing, *numbered(listing, texts, which_N, known or classes or _names(path, on_fault)))


def numbered(
    listing: ShardListing | ParquetImages, labels: Sequence[str], which_N: NDArray[Any], names: Sequence[str] | None
) -> tuple[NDArray[np.int64], tuple[str, ...] | None]:
    """(class number of each image, class names or None) for images with one of `labels` each."""
    if all(map(is_number, labels)):
        numbers_K = np.array([*map(int, labels)], np.int64)
        if names is not None and numbers_K.max() >= len(names):
            first = listing.place(int(np.argmax(which_N == numbers_K.argmax())))
            what = f"class {numbers_K.max()}, but only {len(names)} have names; list all in labels.txt beside it"
            raise FormatError(first, "", what)
        return numbers_K[which_N], None if names is None else tuple(names)
    names = names or in_order({*map(spelling, labels)})
    found = class_numbers(labels, names)
    if found is None:
        bad = next(number for number, label in enumerate(labels) if class_numbers([label], names) is None)
        first = listing.place(int(np.argmax(which_N == bad)))
        raise DataError(f"{first}: {strangers([labels[bad]], names)}; correct the labels, or labels.txt beside them")
    return np.array(found, np.int64)[which_N], tuple(names)


def list_shards(path: Path) -> ShardListing:
    """The images in the shards at `path`, with labels or without."""
    shards = stamped(shard_files(path))
    return ShardListing(tuple(shards), open_index(shards))


def stamped(files: Sequence[Path]) -> list[Shard]:
    if addresses := [found for file in files if (found := remote.address(file))]:
        told = zip(addresses, remote.states(addresses), strict=True)
        return [Shard(name, f"{state.size} {state.tag}") for name, state in told]
    return [Shard(str(file), _stamp(file)) for file in files]


def _stamp(file: Path) -> str:
    try:
        found = file.stat()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); put the shard there") from None
    return f"{found.st_size} {found.st_mtime_ns}"


def _names(path: Path, on_fault: OnFault | None) -> tuple[str, ...] | None:
    """What is in the shards' folder, or in the one above, if the parts have folders of their own."""
    folder = folder_of(path)
    if url := remote.address(folder):
        there = (f"{base}/{name}" for base in _with_parent(url) for name in LABEL_FILES)
        return next((read_labels(remote.copy(name)) for name in there if remote.exists(name)), None)
    return label_names(folder / path.name, on_fault) or label_names(folder, on_fault)


def _with_parent(url: str) -> list[str]:
    """The folder, and the one above it, unless that is a server."""
    return [base for base in (url, url.rpartition("/")[0]) if "://" in base]
