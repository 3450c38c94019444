"""A table of labeled images in UTF-8: which of its columns are the images and which the labels.

They are recognized by their usual names, or are named by the user (`Columns`); others are ignored. Instead of one
column of labels there may be one for each class, with 0 or 1 in each row: a single 1 if the `target` is one class.
Several labels of a row, or several numbers, become a JSON list.
"""

from __future__ import annotations

import itertools
import json
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from convolve.errors import FormatError, UsageError, legible, unknown_name
from convolve.formats.map_lines import BadLine, Refuse
from convolve.formats.part_names import TRAINING, VALIDATION, role_of
from convolve.formats.table_rows import read_header, read_rows, row_word

TargetName = Literal["class", "classes", "number"]  # see `DataSpec`
ENDINGS = frozenset({".csv", ".tsv", ".json", ".jsonl", ".ndjson"})

# The purpose of a column -> its usual names, without blanks, hyphens, underscores and capitals.
_USUAL = {
    "image": ("path", "image", "file", "filename", "filepath", "imagepath", "imagename", "imagefile", "imageid", "img"),
    "label": ("label", "class", "category", "target", "species"),
    "group": (),
    "split": ("split", "subset", "set", "isvalid"),
}
_WEAKER = {  # used if there is no other
    "image": ("id",), "label": ("labels", "classes", "categories", "tags", "value", "values"), "group": (), "split": (),
}  # fmt: skip
_SEPARATORS = re.compile(r"[\s_-]")
_TRUTH = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}


@dataclass(frozen=True)
class Columns:
    """The columns that a user names. None: found by their usual names; split="": no column gives the parts. `label` may
    have several: one for each class, or number."""

    image: str | None = None
    label: tuple[str, ...] | None = None
    group: str | None = None
    split: str | None = None

    @staticmethod
    def parse(text: str) -> Columns:
        """`image=NAME,label=NAME,group=NAME,split=NAME`, or some of them. Raises `UsageError`."""
        roles, asked = [field.name for field in fields(Columns)], dict[str, Any]()
        for part in re.split(r",(?=\w+=)", text):  # names may contain commas, and so may regular expressions
            role, equals, name = part.partition("=")
            if not equals or not (name or role == "split"):
                raise UsageError(f"--columns takes {'=NAME,'.join(roles)}=NAME, or some of these; got {text!r}")
            if role not in roles:
                raise UsageError(f"--columns: {unknown_name('column', role, roles)}")
            asked[role] = (*asked.get(role, ()), name) if role == "label" else name
        return Columns(**asked)

    def knows(self, name: str) -> bool:
        """Whether a column of that name is recognized."""
        asked = {self.image, *(self.label or ()), self.group, self.split} - {None, ""}
        return name in asked or _key(name) in {*itertools.chain(*_USUAL.values(), *_WEAKER.values())}


@dataclass(frozen=True, eq=False)
class Table:
    """The rows of the table `file`; `lines` are those on which they begin, from 1.

    `roles`: the part of each row, as in `part_names`; None if there is no such column. Likewise `groups`.
    `label_names`: the label columns if each is a class, or a number.
    """

    file: Path
    paths: Sequence[str]
    labels: Sequence[str]
    lines: Sequence[int]
    roles: Sequence[str] | None = None
    groups: Sequence[str] | None = None
    label_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def row(self, index: int) -> str:
        """The name of image `index`'s row in messages."""
        return f"{row_word(self.file)} {self.lines[index]}"


def read_table(
    path: str | Path, columns: Columns | None = None, refuse: Refuse | None = None, target: TargetName = "class"
) -> Table:
    """Read the table. Raises `MissingDataError`, or `FormatError` with the line.

    With `refuse`, that function is called for an incomplete row, which then has no label, and a path only if it is
    readable.
    """
    path, columns = Path(path), columns or Columns()
    header, rows = read_rows(path, columns.knows)
    first = next(rows, None)
    picked = _pick(path, header, first[1] if first else [], columns, target)
    if first is None:
        raise FormatError(path, "", "holds no image; each row below the header must name one")
    paths, labels, roles, groups, lines = list[str](), list[str](), list[str](), list[str](), array("q")
    for line, row in itertools.chain([first], rows):
        try:
            image, label, role = picked.entry(row)
        except BadLine as error:
            if refuse is None:
                raise FormatError(path, f"{row_word(path)} {line}", str(error)) from None
            refuse(line, error)
            image, label, role = picked.cell(row, picked.image).replace("\0", ""), "", TRAINING
        paths.append(image)
        labels.append(label)
        lines.append(line)
        if picked.split is not None:
            roles.append(role)
        if picked.group is not None:
            groups.append(picked.cell(row, picked.group))
    each = picked.holds_marks or target == "number"
    return Table(
        path, paths, labels, lines, roles=roles or None, groups=groups or None,
        label_names=tuple(header[n] for n in picked.labels) if each else (),
    )  # fmt: skip


def names_labels(path: Path) -> bool:
    """Whether a column of the table has one of the usual names of labels."""
    return any(_key(name) in _USUAL["label"] for name in read_header(path))


def is_table(path: Path) -> bool:
    """Whether the file is a table, by its ending or by the names of its columns."""
    keys = {_key(name) for name in ([] if path.suffix.lower() in ENDINGS else read_header(path))}
    return path.suffix.lower() in ENDINGS or all(keys & {*_USUAL[role]} for role in ("image", "label"))


@dataclass(frozen=True)
class _Picked:
    """The numbers of the chosen columns. `holds_marks`: `labels` are one column for each class, of 0 and 1."""

    header: list[str]
    image: int
    labels: tuple[int, ...]
    split: int | None
    group: int | None
    holds_marks: bool
    target: TargetName

    def entry(self, row: list[str]) -> tuple[str, str, str]:
        """Path, label and part of one row."""
        if len(row) != len(self.header):
            raise BadLine(f"{len(row)} columns, the header has {len(self.header)}")
        image = row[self.image].strip()
        label = self._marked(row) if self.holds_marks else row[self.labels[0]].strip()
        if len(self.labels) > 1 and not self.holds_marks:
            label = json.dumps([row[n].strip() for n in self.labels])
        if not image or not label or "\0" in image:
            none = "; write [] if the image has no class" if image and self.target == "classes" else ""
            raise BadLine(f"the {'label' if image else 'path'} is missing{none}")
        return image, label, TRAINING if self.split is None else self._role(row[self.split].strip())

    def cell(self, row: list[str], number: int) -> str:
        return row[number].strip() if number < len(row) else ""

    def _marked(self, row: list[str]) -> str:
        """The class whose column has a 1, or the list of all of them."""
        marks = {self.header[n]: _TRUTH.get(row[n].strip().casefold()) for n in self.labels}
        marked = [name for name, mark in marks.items() if mark]
        if self.target == "classes":
            if None in marks.values():
                n = next(n for n in self.labels if marks[self.header[n]] is None)
                what = f"{legible(row[n].strip()) or 'nothing'} in the column {legible(self.header[n])}"
                raise BadLine(f"{what}; write 1 if the image has this class, otherwise 0")
            return json.dumps(marked)
        if None in marks.values() or len(marked) != 1:
            there = f"1 in {_in_words(marked)}" if marked else "none"
            raise BadLine(f"of the columns {_in_words(list(marks))}, one must be 1 and the others 0; there is {there}")
        return marked[0]

    def _role(self, word: str) -> str:
        truth = _TRUTH.get(word.casefold()) if _key(self.header[self.split or 0]) == "isvalid" else None
        role = role_of(word) if truth is None else VALIDATION if truth else TRAINING
        if role is None:
            column = legible(self.header[self.split or 0])
            raise BadLine(
                f"{word!r} in the column {column} is not a part of a set; write train, validation or test, or ignore "
                f"the column with --columns split="
            )
        return role


def _pick(path: Path, header: list[str], first: list[str], columns: Columns, target: TargetName) -> _Picked:
    """Choose the columns by their names; the `first` row shows whether the labels are one-hot."""
    image, group, split = (_find(path, header, role, getattr(columns, role)) for role in ("image", "group", "split"))
    asked: Sequence[str | None] = columns.label or (None,)
    labels = tuple(n for name in asked if (n := _find(path, header, "label", name, target)) is not None)
    rest = [n for n, name in enumerate(header) if name and n not in (image, split, group)]
    is_one_hot = len(rest) > 1 and all(n < len(first) and first[n].strip().casefold() in _TRUTH for n in rest)
    if len(labels) > 1 and target == "class":
        what = f"several columns of labels ({_in_words([header[n] for n in labels])}), but images have one class"
        raise FormatError(path, f"{row_word(path)} 1", f"{what}; name one, or set data.target=classes or number")
    holds_marks = target != "number" and (is_one_hot if not labels else len(labels) > 1)
    if image is None or not (labels or holds_marks):
        role = "label" if image is not None else "image"
        usual = ", ".join((*_USUAL[role], *(_WEAKER[role] if role == "image" or target != "class" else ())))
        what = f"no column of {role}s: none is called {usual}; there is {_in_words(header)}"
        raise FormatError(path, f"{row_word(path)} 1", f"{what}; name it with --columns {role}=NAME")
    labels = labels or tuple(rest)
    return _Picked(header, image, labels, split=split, group=group, holds_marks=holds_marks, target=target)


def _find(path: Path, header: list[str], role: str, asked: str | None, target: TargetName = "class") -> int | None:
    """The number of the column for `role`, None if there is none. Raises `FormatError` if several are possible."""
    place, keys = f"{row_word(path)} 1", [_key(name) for name in header]
    if asked is not None:
        found = [n for n, name in enumerate(header) if name and name == asked]
        if asked and not found:
            raise FormatError(path, place, f"--columns {role}={asked}: {unknown_name('column', asked, header)}")
    else:
        found = [n for n, key in enumerate(keys) if key in _USUAL[role]]
        if not found and (role != "label" or target != "class"):
            found = [n for n, key in enumerate(keys) if key in _WEAKER[role]]
    if len(found) > 1:
        names = [header[n] for n in found]
        way = f"name one with --columns {role}={names[0]}" if len({*names}) > 1 else "rename all but one"
        raise FormatError(path, place, f"the columns {' and '.join(names)} can each be the {role}; {way}")
    return found[0] if found else None


def _key(name: str) -> str:
    return _SEPARATORS.sub("", name).casefold()


def _in_words(names: Sequence[str]) -> str:
    return ", ".join(map(legible, names[:10])) + (", ..." if len(names) > 10 else "") or "none"
