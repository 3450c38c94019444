"""Tables of images: CSV with a path and a label in each row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convolve.data.sources.files import FileSource, file_source
from convolve.data.sources.folder import class_numbers
from convolve.data.sources.map_file import label_names
from convolve.data.sources.source import UNLABELED, OnFault, refusal
from convolve.errors import FormatError
from convolve.formats.labeled_csv import LabeledCsv, read_labeled_csv

_MOST_NAMED = 10  # classes


def open_table(path: Path, classes: Sequence[str] | None = None, on_fault: OnFault | None = None) -> FileSource:
    """The images that the rows of `path` name. Labels are the names of classes, or all of them whole numbers.

    With `on_fault`, names of other classes than the known ones are added to these.
    """
    table = read_labeled_csv(path, refusal(path, on_fault, "complete the row"))
    used = {*table.labels} - {""}  # of rows that were refused
    if all(label.isascii() and label.isdigit() and len(label) < 10 for label in used):
        names = classes or label_names(path, on_fault)
        return file_source(table, _numbers(table, names, on_fault), None if names is None else tuple(names))
    known = sorted(used)
    if on_fault:
        classes = (*(classes or ()), *(label for label in known if label not in (classes or ())))
    names = tuple(classes or known)
    numbers = class_numbers(known, names)
    if numbers is None:
        line, label = next(row for row in zip(table.lines, table.labels, strict=True) if row[1] not in names)
        raise FormatError(path, f"line {line}", f"{label!r} is none of the classes {in_words(names)}")
    number_of = {"": UNLABELED} | dict(zip(known, numbers, strict=True))
    return file_source(table, np.array([number_of[label] for label in table.labels], np.int64), names)


def _numbers(table: LabeledCsv, names: Sequence[str] | None, on_fault: OnFault | None) -> NDArray[np.int64]:
    """Labels that are numbers; with names for the classes, each must have one."""
    labels_N = np.array([int(label) if label else UNLABELED for label in table.labels], np.int64)
    for index in np.flatnonzero(labels_N >= len(names)).tolist() if names else ():
        what = (
            f"the label is {labels_N[index]}; with {len(names or ())} classes it must lie in 0..{len(names or ()) - 1}"
        )
        if on_fault is None:
            raise FormatError(table.file, f"line {table.lines[index]}", what)
        on_fault("bad line", table.place(index), what, "correct the label")
        labels_N[index] = UNLABELED
    return labels_N


def in_words(names: Sequence[str]) -> str:
    """The first of `names`."""
    return ", ".join(names[:_MOST_NAMED]) + (", ..." if len(names) > _MOST_NAMED else "")
