"""What the labels of a table mean: class names, or class numbers."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from convolve.data.sources.classes import NUMBER, class_numbers, in_order, label_names, look_alikes, spelling, strangers
from convolve.data.sources.source import UNLABELED, OnFault
from convolve.errors import FormatError
from convolve.formats.table import Table

_POSITION = re.compile(r"[0-9]{1,9}")
_MISSING = ("nan", "<na>")  # how pandas writes missing values
# What may stand between several labels, and whether names of classes hold it, too.
_BETWEEN = ((re.compile(r"\s*[,;|]\s*"), False), (re.compile(r"\s+"), True))
_FEW = 10  # labels, which may differ from image to image
_NAME_THEM = "if these are class names, list all classes in a labels.txt beside the table"


def number_labels(
    table: Table, classes: Sequence[str] | None, on_fault: OnFault | None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """(the class of each row, the class names).

    If every label is the name of one of the known `classes`, it is that class, digits or not; otherwise all are numbers
    of these classes. Without known classes, the labels are the names, unless a labels.txt beside the table has others.
    Raises `FormatError` with the row. With `on_fault`, that is told instead, and names of other classes are added to
    the known ones.
    """
    spelled = {label: spelling(label) for label in {*table.labels} - {""}}
    read = _Labels(table, on_fault)
    labels = in_order({*spelled.values()} - read.missing(spelled, classes or ()))
    doubts = [] if classes else list(_doubts(labels, len(table)))
    if not classes and (doubts or all(map(NUMBER.fullmatch, labels))):
        classes = label_names(table.file, on_fault)
    if doubts and not (classes and class_numbers(labels, classes)):
        for kind, label, what, mend in doubts:
            said = what if on_fault is None else what.replace("data.target=", "--target ")  # as check-data calls it
            read.tell(read.rows[label][0], said, mend, kind)
    number_of, names = read.among(labels, classes or labels)
    numbers = {label: number_of.get(spelling(label), UNLABELED) for label in {*table.labels}}
    return np.fromiter(map(numbers.__getitem__, table.labels), np.int64, len(table)), names


@dataclass(frozen=True)
class _Labels:
    """The labels of `table`; faults are errors, or `on_fault` is told of them."""

    table: Table
    on_fault: OnFault | None

    @cached_property
    def rows(self) -> dict[str, list[int]]:
        """Label -> its rows; needed only if there are faults."""
        rows: dict[str, list[int]] = {}
        for row, label in enumerate(self.table.labels):
            rows.setdefault(spelling(label), []).append(row)
        return rows

    def tell(self, row: int, what: str, mend: str, kind: str = "bad line") -> None:
        if self.on_fault is None:
            raise FormatError(self.table.file, self.table.row(row), f"{what}; {mend}")
        self.on_fault(kind, f"{self.table.file}: {self.table.row(row)}", what, mend)

    def missing(self, spelled: Collection[str], classes: Sequence[str]) -> set[str]:
        """The labels that mean "missing"; each of their rows is reported."""
        missing = {label for label in spelled if label.casefold() in _MISSING and label not in classes}
        for row in sorted(row for label in missing for row in self.rows[label]):
            self.tell(row, f"the label is missing ({self.table.labels[row]})", "write it, or remove the row")
        return missing

    def among(self, labels: Sequence[str], classes: Sequence[str]) -> tuple[dict[str, int], tuple[str, ...]]:
        """The number of each label among the known `classes`, and all class names."""
        if (numbers := class_numbers(labels, classes)) is not None:
            return dict(zip(labels, numbers, strict=True)), tuple(classes)
        positions = {label: int(label) for label in labels if _POSITION.fullmatch(label)}
        if len(positions) == len(labels) == len({*positions.values()}):
            return self._positions(positions, classes), tuple(classes)
        unknown = [label for label in labels if class_numbers([label], classes) is None]
        if self.on_fault is None:
            row = min(self.rows[label][0] for label in unknown)
            what = strangers([spelling(self.table.labels[row])], classes)
            self.tell(row, what, "correct it, or remove the row")
        names = (*classes, *unknown)
        for label, what in look_alikes(names).items():
            if label in unknown:  # not two of the classes themselves
                self.tell(self.rows[label][0], f"the labels {what}", "write one of the two everywhere", "near names")
        return dict(zip(labels, class_numbers(labels, names) or (), strict=True)), names

    def _positions(self, positions: dict[str, int], classes: Sequence[str]) -> dict[str, int]:
        """Labels that are numbers of `classes`, but not all of them names; what could be both is refused."""
        number_of = {name: number for number, name in enumerate(classes)}
        for label, number in positions.items():
            if number >= len(classes):
                what = f"the label is {label}; with {len(classes)} classes it must be in 0..{len(classes) - 1}"
                for row in self.rows[label]:
                    self.tell(row, what, "correct the label")
            elif number_of.get(label, number) != number:
                other = next(each for each in positions if each not in number_of)
                both = f"the label {label} may mean the class {label!r}, or the number of the class {classes[number]!r}"
                what = f"{both}, since another label, {other!r}, is not a class name"
                self.tell(self.rows[label][0], what, "write class names everywhere")
        return {label: number for label, number in positions.items() if number < len(classes)}


def _doubts(labels: Sequence[str], count: int) -> Iterator[tuple[str, str, str, str]]:
    """(kind, label, what, way out): what makes it doubtful that the labels of `count` images are class names."""
    if joined := _joined(labels):
        what = f"{joined!r} seems to be several labels, which needs data.target=classes"
        yield "bad line", joined, what, f"give one label for each image; {_NAME_THEM}"
    if all(map(NUMBER.fullmatch, labels)):
        measured = next((label for label in labels if not float(label).is_integer()), None)
        if measured:
            what = f"{measured} and other labels are measurements, which need data.target=number"
            yield "bad line", measured, what, _NAME_THEM
        elif len(labels) > max(_FEW, count // 2):
            what = f"{len(labels)} numbers label {count} images, which suggests identifiers, not classes"
            yield "bad line", labels[0], what, f"name the right column with --columns label=NAME; {_NAME_THEM}"
    for label, what in look_alikes(labels).items():
        yield "near names", label, f"the labels {what}", f"write one of the two everywhere; {_NAME_THEM}"


def _joined(labels: Sequence[str]) -> str | None:
    """A label that seems to be several: all labels have fewer words than there are labels, and some word is a label."""
    for between, in_names in _BETWEEN:
        words = {label: between.split(label) for label in labels}
        joined = [label for label in labels if len(words[label]) > 1]
        distinct = {word for label in labels for word in words[label]}
        if joined and len(distinct) < len(labels) + (not in_names) and distinct & {*labels}:
            return joined[0]
    return next((label for label in labels if label.startswith("[") and label.endswith("]")), None)
