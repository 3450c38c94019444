"""Folders with a subfolder for each class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from convolve.data.image_files import ENDINGS, is_image_file
from convolve.data.sources.classes import class_numbers, look_alikes, spelling, strangers
from convolve.data.sources.files import FileSource, PathListing, file_source
from convolve.data.sources.source import OnFault
from convolve.errors import DataError, MissingDataError


def open_folder(folder: Path, classes: Sequence[str] | None = None, on_fault: OnFault | None = None) -> FileSource:
    """The images below `folder`, whose subfolders are called after the classes; see `class_numbers`.

    With `on_fault`, empty folders are told, and other classes than the known ones are added to these.
    """
    names = _class_folders(folder)
    if on_fault:
        for path in sorted(folder.iterdir()):
            if path.is_dir() and not path.name.startswith(".") and not any(path.iterdir()):
                on_fault("gap", str(path), "the folder of a class is empty", "put its images there, or remove it")
        classes = tuple(dict.fromkeys(map(spelling, (*(classes or ()), *names))))
    for name, what in look_alikes((classes or names) if on_fault else names).items():
        mend = "join them, or name them apart"
        if not on_fault:
            raise DataError(f"{folder}: the subfolders {what}; {mend}")
        on_fault("near names", str(folder / name), f"the names of classes {what}", mend)
    if not names:
        raise DataError(f"{folder} holds no images in subfolders (files ending in {', '.join(sorted(ENDINGS))})")
    classes = tuple(classes or dict.fromkeys(map(spelling, names)))
    numbers = class_numbers(names, classes)
    if numbers is None:
        mend = "name the subfolders after its classes, or give a table"
        raise DataError(f"{folder}: {strangers(names, classes)}; {mend}")
    found = [(file, n) for name, n in zip(names, numbers, strict=True) for file in _images_below(folder / name)]
    files, labels = zip(*found, strict=True)
    return file_source(PathListing(folder, files), np.array(labels, np.int64), classes)


def has_class_folders(folder: Path) -> bool:
    """Whether there is an image in a subfolder."""
    return folder.is_dir() and any(_holds_images(path) for path in folder.iterdir())


def _class_folders(folder: Path) -> tuple[str, ...]:
    """The names of the subfolders that hold images, sorted."""
    if not folder.is_dir():
        raise MissingDataError(f"{folder} does not exist; give a map file or a folder with a subfolder for each class")
    return tuple(sorted(path.name for path in folder.iterdir() if _holds_images(path)))


def _images_below(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if is_image_file(file))


def _holds_images(path: Path) -> bool:
    hidden = path.name.startswith(".")
    return path.is_dir() and not hidden and any(is_image_file(file) for file in path.rglob("*"))
