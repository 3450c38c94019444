"""A user's own images: folders of classes, map files, tables; in two parts, or with a part held out for testing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from convolve.data.ahead import in_order
from convolve.data.labelled_images import (
    LabelledImages,
    OnDisk,
    class_folder_names,
    class_numbers,
    has_class_folders,
    on_disk,
    read_class_folders,
)
from convolve.data.streaming import THREADS
from convolve.data.streams import Purpose, generator
from convolve.data.table import RESIDENT_BYTES, Table, check_labels
from convolve.errors import DataError, FormatError, MissingDataError
from convolve.formats.base64_map import read_base64_map
from convolve.formats.decode import to_planes
from convolve.formats.image_header import read_size
from convolve.formats.image_map import read_image_map
from convolve.formats.labelled_csv import LabelledCsv, read_labelled_csv
from convolve.formats.labels import read_labels
from convolve.formats.map_lines import open_lines
from convolve.transforms.transform import Image, Size

# Legend: N images, C channels, H rows, W columns, K classes.

LABEL_FILES = ("labels.txt", "classmappings.txt")  # beside a map file or table: the names of the classes
# What a folder may hold: the training part, and the names under which its test part is looked for.
PARTS = {
    "train_map.txt": ("test_map.txt", "val_map.txt"),
    "train.csv": ("test.csv", "val.csv"),
    "train": ("test", "val", "validation"),
}
HELD_OUT = 0.2  # of each class, where there is no test part
MANY_CLASSES = 1000  # that a shorter list may number without naming them
SMALL_SIDE = 96  # images that are all of one size up to this are taken as they are

_HEAD_BYTES = 1 << 16
_ARCHIVES = (b"PK", b"\x1f\x8b", b"BZh", b"\xfd7zXZ")  # zip, gzip, bzip2, xz


@dataclass(frozen=True, eq=False)
class OwnSet:
    """Training and test images on disk. `held_out`: the test part was cut from the training part.

    `numbered`: the classes have no names but their numbers. `shape_CHW` is what a network takes unless its recipe says
    otherwise.
    """

    train: OnDisk
    test: OnDisk
    class_names: tuple[str, ...]
    source: str
    held_out: bool
    numbered: bool
    shape_CHW: tuple[int, int, int] = (3, 0, 0)

    def fingerprint(self) -> str:
        """SHA-256 over names, labels and sizes in bytes of all images."""
        return sha256(self.train.digest() + self.test.digest()).hexdigest()

    def sized(self, shape_CHW: tuple[int, int, int]) -> OwnSet:
        """This set with the sizes of its images, for a recipe that is made for images of `shape_CHW`.

        Its number of channels is taken, and its size where the test images have none in common, or a large one. Small
        images of one size are in memory from here on.
        """
        train, test = (_looked_at(part, shape_CHW[0]) for part in (self.train, self.test))
        height, width = test.size or shape_CHW[1:]
        return replace(self, train=train, test=test, shape_CHW=(shape_CHW[0], height, width))


@dataclass(frozen=True)
class _Part:
    """A list of images as it was read; None where its classes have no names but their numbers."""

    images: LabelledImages
    labels_N: NDArray[np.int64]
    class_names: tuple[str, ...] | None


def find_parts(where: Path) -> tuple[Path, Path | None] | None:
    """(training part, test part if there is one) of the images at `where`; None if there is nothing of the kind."""
    if where.is_file():
        return None if is_archive(where) else (where, None)
    for train, tests in PARTS.items():
        if (where / train).is_file() or has_class_folders(where / train):
            return where / train, next((where / test for test in tests if (where / test).exists()), None)
    return (where, None) if has_class_folders(where) else None


def open_own(where: Path) -> OwnSet:
    """The user's set at `where`, its sizes still unknown.

    Raises `DataError` for what is damaged or does not go together; see `find_parts`.
    """
    train_place, test_place = _parts(where)
    first = _read(train_place, None)
    second = _read(test_place, first.class_names) if test_place else None
    names = first.class_names or _numbers(first, second)
    if len(names) < 2:
        tables = sorted(train_place.glob("*.csv")) if train_place.is_dir() else []
        hint = f"the table itself: {tables[0]}" if tables else "a folder with a subfolder for each class, or a list"
        raise DataError(f"{train_place} holds one class only ({names[0]}), where a classifier needs two; give {hint}")
    whole = on_disk(first.images, first.labels_N)
    train, test = (whole, on_disk(second.images, second.labels_N)) if second else _hold_out(whole)
    source = f"{where}, {_classes(names)}" + ("" if second else f"; {HELD_OUT:.0%} of each class held out for testing")
    check_labels(source, train, test, len(names))
    return OwnSet(train, test, names, source, second is None, first.class_names is None)


def held_out_part(where: Path, fingerprint: str | None) -> OnDisk | None:
    """The test part of the set at `where` if it was cut from the training part of a model with this `fingerprint`."""
    parts = find_parts(where)
    if not fingerprint or parts is None or parts[1]:
        return None
    try:
        own = open_own(where)
    except DataError:  # too few images of each class: another set
        return None
    return own.test if own.fingerprint() == fingerprint else None


def read_own(where: Path, class_names: Sequence[str]) -> tuple[OnDisk, str]:
    """(the test part at `where`, or all images if there is none, numbered as `class_names` are; where it lies)."""
    train_place, test_place = _parts(where)
    place = test_place or train_place
    part = _read(place, class_names)
    return on_disk(part.images, part.labels_N), str(place)


def _parts(where: Path) -> tuple[Path, Path | None]:
    parts = find_parts(where)
    if parts is None:
        raise MissingDataError(
            f"{where} holds no labelled images; give a folder with a subfolder for each class, a map file, or a table"
        )
    return parts


def _read(path: Path, wanted: Sequence[str] | None) -> _Part:
    """The images that `path` lists, numbered by the classes `wanted` if they are given."""
    if path.is_dir():
        folders = read_class_folders(path, wanted or class_folder_names(path))
        return _Part(folders, folders.labels_N, folders.class_names)
    if path.suffix.lower() == ".csv":
        return _read_table(path, wanted)
    refuse_other_kinds(path)
    names = wanted or find_label_names(path)
    count = None if names is None else len(names)
    images = read_image_map(path, count) if lists_paths(path) else read_base64_map(path, count)
    return _Part(images, images.labels_N, None if names is None else tuple(names))


def refuse_other_kinds(path: Path) -> None:
    """Raise `FormatError` for what is no list of images: an image, say.

    CTF text and IDX files are none, either, and alone they do not say what images they hold.
    """
    with open_lines(path) as file:
        head = file.read(64)
    kind = "an IDX file" if head.startswith(b"\0\0\x08") else "CTF text"
    if kind == "an IDX file" or head.lstrip(b"0123456789 \t").startswith(b"|"):
        what = f"{kind}, no list of images; give the folder with all files of MNIST or CIFAR-10"
        raise FormatError(path, "byte 0", f"{what}, or make a DataSet of your own in Python (docs/old-formats.md)")
    if (zero := head.find(b"\0")) >= 0:
        what = "a zero byte: a binary file, or UTF-16, no list of images; give folders of classes"
        raise FormatError(path, f"byte {zero}", f"{what}, or text in UTF-8 with lines path TAB class number")


def _read_table(path: Path, wanted: Sequence[str] | None) -> _Part:
    table = read_labelled_csv(path)
    if all(label.isascii() and label.isdigit() and len(label) < 10 for label in table.labels):
        return _numbered_table(table, wanted or find_label_names(path))
    known = sorted({*table.labels})
    names = tuple(wanted or known)
    numbers = class_numbers(known, names)
    if numbers is None:
        line, label = next(row for row in zip(table.lines, table.labels, strict=True) if row[1] not in names)
        raise FormatError(path, f"line {line}", f"{label!r} is none of the classes {in_words(names)}")
    number_of = dict(zip(known, numbers, strict=True))
    return _Part(table, np.array([number_of[label] for label in table.labels], np.int64), names)


def _numbered_table(table: LabelledCsv, names: Sequence[str] | None) -> _Part:
    labels_N = np.array(table.labels, np.int64)
    if names is None:
        return _Part(table, labels_N, None)
    if (wrong := np.flatnonzero(labels_N >= len(names))).size:
        what = f"the label is {labels_N[wrong[0]]}; with {len(names)} classes it must lie in 0..{len(names) - 1}"
        raise FormatError(table.file, f"line {table.lines[wrong[0]]}", what)
    return _Part(table, labels_N, tuple(names))


def is_archive(path: Path) -> bool:
    with open_lines(path) as file:
        head = file.read(_HEAD_BYTES)
    return head.startswith(_ARCHIVES) or head[257:262] == b"ustar"


def lists_paths(path: Path) -> bool:
    """Whether a map file is one of paths: there the label is the last of two or three columns, else base64 is."""
    with open_lines(path) as file:
        columns = file.readline(_HEAD_BYTES).rstrip(b"\r\n").split(b"\t")
    if not (len(columns) in (2, 3) and columns[-2].strip().isdigit() and not columns[-1].strip().isdigit()):
        return True
    if b"." in columns[-1]:  # which base64 does not know
        raise FormatError(path, "line 1", "the columns stand the other way round; a line is path TAB class number")
    return False


def find_label_names(path: Path) -> tuple[str, ...] | None:
    found = next((path.parent / name for name in LABEL_FILES if (path.parent / name).is_file()), None)
    return read_labels(found) if found else None


def _numbers(*parts: _Part | None) -> tuple[str, ...]:
    """Classes that have no names are called by their numbers; these may leave gaps, but not be years or identifiers."""
    lists = [part for part in parts if part]
    last = max(lists, key=lambda part: int(part.labels_N.max()))
    count, index = sum(len(part.labels_N) for part in lists), int(last.labels_N.argmax())
    if last.labels_N[index] >= max(MANY_CLASSES, count):
        raise DataError(
            f"{last.images.place(index)}: class {last.labels_N[index]} in a list of {count} images; is that the column "
            "of the class numbers? If so, name all classes in a labels.txt beside the list"
        )
    return tuple(map(str, range(1 + int(last.labels_N[index]))))


def _hold_out(whole: OnDisk) -> tuple[OnDisk, OnDisk]:
    """(training, test): a fixed random part of each class is held out; of a class with a single image, none."""
    held_out: list[int] = []
    for label, count in sorted(Counter(whole.all_labels_N.tolist()).items()):
        members_N = np.flatnonzero(whole.all_labels_N == label)
        part = min(max(1, round(HELD_OUT * count)), count - 1)
        held_out += generator(Purpose.TEST_PART, label).permutation(members_N)[:part].tolist()
    if not held_out:
        raise DataError(f"{whole.place(0)}: no class has two images, so that none can be held out for testing")
    rest_N = np.setdiff1d(np.arange(len(whole)), held_out)
    return whole.take(rest_N), whole.take(np.sort(held_out))


def _looked_at(part: OnDisk, channels: int) -> OnDisk:
    table = _in_memory(part, channels)
    return replace(part, size=table.size if table else _common_size(part), table=table)


def _in_memory(part: OnDisk, channels: int) -> Table | None:
    """All images as they are; None where they are too many or too large for that, of several sizes, or damaged."""

    def decoded(index: int) -> Image | None:
        try:
            return to_planes(part.picture(index, grey=channels == 1), channels)
        except DataError:
            return None

    first_CHW = decoded(0)
    if first_CHW is None or max(first_CHW.shape[1:]) > SMALL_SIDE or len(part) * first_CHW.size > RESIDENT_BYTES:
        return None
    images_NCHW = np.empty((len(part), *first_CHW.shape), np.uint8)
    for index, image_CHW in enumerate(in_order(decoded, range(len(part)), THREADS, ahead=64 * THREADS)):
        if image_CHW is None or image_CHW.shape != first_CHW.shape:
            return None
        images_NCHW[index] = image_CHW
    return Table(torch.from_numpy(images_NCHW), part.labels_N, part.chunk_N)


def _common_size(part: OnDisk) -> Size | None:
    """The size of all images if they have one and it is small; damaged ones are met when they are decoded."""

    def size(index: int) -> Size | None:
        try:
            return read_size(part.encoded(index), part.place(index))
        except DataError:
            return None

    common: Size | None = None
    for found in in_order(size, range(len(part)), THREADS, ahead=4 * THREADS):
        if found and (max(found) > SMALL_SIDE or (common and found != common)):
            return None
        common = found or common
    return common


def _classes(names: Sequence[str]) -> str:
    return f"{len(names)} classes ({in_words(names)})"


def in_words(names: Sequence[str]) -> str:
    """The first ten of `names`."""
    shown = ", ".join(islice(names, 10))
    return shown if len(names) <= 10 else f"{shown}, ..."
