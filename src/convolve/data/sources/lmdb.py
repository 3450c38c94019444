"""Caffe's LMDBs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from convolve.data.sources.classes import label_names
from convolve.data.sources.files import FileSource, file_source
from convolve.data.sources.source import OnFault
from convolve.errors import FormatError
from convolve.formats.caffe_lmdb import open_caffe_lmdb


def open_lmdb(folder: Path, classes: Sequence[str] | None = None, on_fault: OnFault | None = None) -> FileSource:
    """The images of the records in `folder`. If `classes` is not given, a file beside it may name them."""
    names = classes or label_names(folder, on_fault)
    listing = open_caffe_lmdb(folder)
    first = 0 if names is None else int(np.argmax(listing.labels_N >= len(names)))
    if names is not None and listing.labels_N[first] >= len(names):
        what = f"class {listing.labels_N[first]}, but only {len(names)} have names; list all in labels.txt beside it"
        raise FormatError(listing.place(first), "", what)
    return file_source(listing, listing.labels_N, None if names is None else tuple(names))
