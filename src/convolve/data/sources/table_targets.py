"""What the labels of a table mean if they are not single classes: several classes per image, or numbers."""

import json
import math
import re
from collections.abc import Callable, Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from convolve.atomic import parse_json
from convolve.data.sources.classes import class_numbers, in_order, label_names, look_alikes, spelling, strangers
from convolve.errors import FormatError, legible
from convolve.formats.table import Table

Labels = tuple[NDArray[np.float32], tuple[str, ...]]  # labels_NK, and the names of the K classes or numbers

_MISSING = ("", "nan", "<na>", "null")  # how pandas and JSON write missing values
_BETWEEN = (";", "|", ",")  # of these, the first one that occurs is taken
_OF_NONE = "[]"


def several_classes(table: Table, classes: Sequence[str] | None) -> Labels:
    """Which classes each image has: 0 or 1.

    The names in a cell are a JSON list, or are separated by one of `_BETWEEN`; or by a blank, if that gives fewer words
    than there are cells, or only known names. Raises `FormatError` with the row.
    """
    known = classes or label_names(table.file) or table.label_names
    cells = {*table.labels} - {""}  # a row that a check of the data has already reported
    names_of = {cell: _listed(table, cell) for cell in cells if cell.startswith("[")}
    plain = cells - names_of.keys()
    split = _splitter(plain, known)
    names_of |= {cell: split(cell) for cell in plain}
    for cell, names in names_of.items():
        if any(name.casefold() in _MISSING and name not in known for name in names):
            way = f"write them, or {_OF_NONE} if the image has no class, or remove the row"
            raise _fault(table, cell, f"the labels are missing ({legible(cell)}); {way}")
    words = {spelling(name) for names in names_of.values() for name in names}
    ordered = tuple(known) or tuple(in_order(words))
    number_of = _numbers(table, words, ordered, names_of)
    for label, what in ({} if known else look_alikes(ordered)).items():
        raise _fault(table, _cell_with(label, names_of), f"the labels {what}; write one of the two everywhere")
    labels_NK = np.zeros((len(table), len(ordered)), np.float32)
    for row, cell in enumerate(table.labels):
        labels_NK[row, [number_of[spelling(name)] for name in names_of.get(cell, ())]] = 1
    labels_NK[[not cell for cell in table.labels]] = np.nan
    return labels_NK, ordered


def numbers(table: Table) -> Labels:
    """The numbers in each row. Raises `FormatError` with the row if one is not a number."""
    several, none = len(table.label_names) > 1, json.dumps([""] * len(table.label_names))
    texts = [parse_json(cell or none) if several else [cell] for cell in table.labels]
    found_NK = np.array([[_number(text) for text in row] for row in texts], np.float32)
    are_there_N1 = np.array([[bool(cell)] for cell in table.labels])  # else a check of the data has reported the row
    if (faults := np.argwhere(~np.isfinite(found_NK) & are_there_N1)).size:
        row, k = map(int, faults[0])
        text, name = texts[row][k], legible(table.label_names[k])
        what = f"{name} is {legible(text)}, but data.target=number needs a number"
        what = f"the number {name} is missing" if text.casefold() in _MISSING else what
        raise FormatError(table.file, table.row(row), f"{what}; correct it, or remove the row")
    return found_NK, table.label_names


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _listed(table: Table, cell: str) -> list[str]:
    try:
        names = parse_json(cell)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str | int) for name in names):
        raise _fault(table, cell, f'{legible(cell[:60])} is not a JSON list of names, such as ["cat", "dog"]')
    return [str(name) for name in names]


def _splitter(cells: Collection[str], known: Sequence[str]) -> Callable[[str], list[str]]:
    """A function that splits a cell into names."""
    if {*map(spelling, cells)} <= {*map(spelling, known)}:
        return lambda cell: [cell]
    mark = next((each for each in _BETWEEN if any(each in cell for cell in cells)), None)
    if mark:
        return lambda cell: [name.strip() for name in cell.strip(mark + " ").split(mark)]
    words = {word for cell in cells for word in cell.split()}
    if {*map(spelling, words)} <= {*map(spelling, known)} or (not known and len(words) < len(cells)):
        return lambda cell: re.split(r"\s+", cell)
    return lambda cell: [cell]


def _numbers(table: Table, words: set[str], classes: Sequence[str], names_of: dict[str, list[str]]) -> dict[str, int]:
    """The number of each of the `words` among the `classes`: all are names, or all are numbers."""
    ordered = sorted(words)
    found = class_numbers(ordered, classes)
    if found is None and all(word.isascii() and word.isdigit() and int(word) < len(classes) for word in ordered):
        found = [int(word) for word in ordered]
    if found is None:
        unknown = next(word for word in ordered if class_numbers([word], classes) is None)
        raise _fault(table, _cell_with(unknown, names_of), f"{strangers([unknown], classes)}; correct it")
    return dict(zip(ordered, found, strict=True))


def _cell_with(name: str, names_of: dict[str, list[str]]) -> str:
    return next(cell for cell, names in names_of.items() if name in map(spelling, names))


def _fault(table: Table, cell: str, what: str) -> FormatError:
    return FormatError(table.file, table.row([*table.labels].index(cell)), what)
