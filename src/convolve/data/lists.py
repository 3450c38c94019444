"""A user's own images: folders of classes, map files, CSV tables; in two parts, or with a test part held out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from convolve.data.sources.base64 import open_base64
from convolve.data.sources.files import FileSource
from convolve.data.sources.folder import has_class_folders, open_folder
from convolve.data.sources.map_file import lists_paths, open_map_file
from convolve.data.sources.source import OnFault, Source
from convolve.data.sources.table import in_words, open_table
from convolve.data.splits import TEST_FRACTION, Splits, hold_out_test
from convolve.errors import DataError, FormatError, MissingDataError
from convolve.formats.map_lines import open_lines

# What a folder may hold: the training part, and the names under which its test part is looked for.
PARTS = {
    "train_map.txt": ("test_map.txt", "val_map.txt"),
    "train.csv": ("test.csv", "val.csv"),
    "train": ("test", "val", "validation"),
}
MANY_CLASSES = 1000  # that a shorter list may number without naming them

_HEAD_BYTES = 1 << 16
_ARCHIVES = (b"PK", b"\x1f\x8b", b"BZh", b"\xfd7zXZ")  # zip, gzip, bzip2, xz

Place = tuple[Path, Path | None]  # training part, test part if there is one


def find_lists(where: Path) -> Place | None:
    """The lists of images, or folders of classes, at `where`; None if there is nothing of the kind."""
    if where.is_file():
        return None if is_archive(where) else (where, None)
    for train, tests in PARTS.items():
        if (where / train).is_file() or has_class_folders(where / train):
            return where / train, next((where / test for test in tests if (where / test).exists()), None)
    return (where, None) if has_class_folders(where) else None


def open_lists(where: Path, lists: Place | None = None, file_order: bool = False) -> Splits:
    """A user's own images at `where`; where they are in one part, a test part is held out."""
    found = lists or find_lists(where)
    if found is None:
        raise MissingDataError(
            f"{where} holds no labeled images; give a folder with a subfolder for each class, a map file, or a table"
        )
    first = open_list(found[0])
    second = open_list(found[1], first.class_names) if found[1] else None
    names = first.class_names or _numbers([first, second] if second else [first])
    if len(names) < 2:
        tables = sorted(found[0].glob("*.csv")) if found[0].is_dir() else []
        hint = f"the table itself: {tables[0]}" if tables else "a folder with a subfolder for each class, or a list"
        raise DataError(f"{found[0]} holds one class only ({names[0]}), where a classifier needs two; give {hint}")
    first, second = first.by_class_and_name(), second and second.by_class_and_name()
    parts = (first, second) if second else hold_out_test(first)
    train, test = (part.take(np.argsort(part.index_N)) for part in parts) if file_order else parts
    note = "" if second else f"; {TEST_FRACTION:.0%} of each class held out for testing"
    passed = [part.passed_over for part in (first, second) if part and part.passed_over]
    description = "; ".join([f"{where}, {len(names)} classes ({in_words(names)}){note}", *passed])
    folder = where if where.is_dir() else where.parent
    return Splits(
        train, test, names, folder.resolve().name, description,
        held_out=second is None, numbered=first.class_names is None,
    )  # fmt: skip


def open_list(path: Path, classes: Sequence[str] | None = None, on_fault: OnFault | None = None) -> FileSource:
    """The images that `path` lists, numbered by the known `classes`. See the files of `sources`."""
    if path.is_dir():
        return open_folder(path, classes, on_fault)
    if path.suffix.lower() == ".csv":
        return open_table(path, classes, on_fault)
    refuse_other_kinds(path)
    return (open_map_file if lists_paths(path) else open_base64)(path, classes, on_fault)


def open_own_test(place: Path, lists: Place, class_names: Sequence[str], fingerprint: str | None) -> tuple[Source, str]:
    """The test part of a user's own images; of one part all of it, but for what the model was trained on."""
    if fingerprint and not lists[1]:
        try:
            splits = open_lists(place, lists)
            if splits.fingerprint() == fingerprint:
                return splits.test, f"{place}, the part held out in training"
        except DataError:  # too few images of each class: another set
            pass
    part = lists[1] or lists[0]
    whole = open_list(part, class_names)
    return whole.by_class_and_name(), "; ".join(filter(None, (str(part), whole.passed_over)))


def collect_lists(place: Path, classes: Sequence[str] | None, on_fault: OnFault) -> list[FileSource | None]:
    """The parts at `place`, as `open_list`; None where nothing of one can be read, which is a fault like any other."""
    lists, parts = find_lists(place), []
    if place.is_file():
        refuse_other_kinds(place)
    if lists is None:
        raise MissingDataError(f"{place} holds no labeled images; see `convolve check-data --help`")
    for path in filter(None, lists):
        part = None
        try:
            part = open_list(path, classes, on_fault)
            classes = classes or part.class_names
        except MissingDataError:
            raise
        except DataError as error:
            on_fault("unreadable", str(path), str(error).removeprefix(f"{path}: "), "correct it, and check again")
        parts.append(part)
    return parts


def _numbers(parts: Sequence[Source]) -> tuple[str, ...]:
    """Classes that have no names are called by their numbers; these may leave gaps, but not be years or identifiers."""
    last = max(parts, key=lambda part: int(part.labels_N.max()))
    count, index = sum(map(len, parts)), int(last.labels_N.argmax())
    label = int(last.labels_N[index])
    if label >= max(MANY_CLASSES, count):
        raise DataError(
            f"{last.location(index)}: class {label} in a list of {count} images; is that the column of the class "
            "numbers? If so, name all classes in a labels.txt beside the list"
        )
    return tuple(map(str, range(1 + label)))


def refuse_other_kinds(path: Path) -> None:
    """Raise `FormatError` for what is no list of images: an image, say.

    CTF text and IDX files are none, either, and alone they do not say what images they hold.
    """
    with open_lines(path) as file:
        head = file.read(64)
    kind = "an IDX file" if head.startswith(b"\0\0\x08") else "CTF text"
    if kind == "an IDX file" or head.lstrip(b"0123456789 \t").startswith(b"|"):
        what = f"{kind}, no list of images; give the folder with all files of MNIST or CIFAR-10"
        raise FormatError(path, "byte 0", f"{what}, or make Splits of your own in Python (docs/old-formats.md)")
    if (zero := head.find(b"\0")) >= 0:
        what = "a zero byte: a binary file, or UTF-16, no list of images; give folders of classes"
        raise FormatError(path, f"byte {zero}", f"{what}, or text in UTF-8 with lines path TAB class number")


def is_archive(path: Path) -> bool:
    with open_lines(path) as file:
        head = file.read(_HEAD_BYTES)
    return head.startswith(_ARCHIVES) or head[257:262] == b"ustar"
