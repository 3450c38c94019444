"""Folders with a subfolder for each class."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from convolve.data.image_files import ENDINGS, is_image_file
from convolve.data.sources.files import FileSource, PathListing, file_source
from convolve.data.sources.source import OnFault
from convolve.errors import DataError, MissingDataError

_SYNSET = re.compile(r"n[0-9]{8} ")


def open_folder(folder: Path, classes: Sequence[str] | None = None, on_fault: OnFault | None = None) -> FileSource:
    """The images below `folder`, whose subfolders are called after the classes; see `class_numbers`.

    With `on_fault`, empty folders are told, and other classes than the known ones are added to these.
    """
    names = _class_folders(folder)
    if on_fault:
        for path in sorted(folder.iterdir()):
            if path.is_dir() and not path.name.startswith(".") and not any(path.iterdir()):
                on_fault("gap", str(path), "the folder of a class is empty", "put its images there, or remove it")
        classes = (*(classes or ()), *(name for name in names if name not in (classes or ())))
    if not names:
        raise DataError(f"{folder} holds no images in subfolders (files ending in {', '.join(sorted(ENDINGS))})")
    classes = tuple(classes or names)
    numbers = class_numbers(names, classes)
    if numbers is None:
        raise DataError(
            f"{folder} has {len(names)} subfolders, the model {len(classes)} classes; name the subfolders after its "
            "classes, or give a map file"
        )
    found = [(file, n) for name, n in zip(names, numbers, strict=True) for file in _images_below(folder / name)]
    files, labels = zip(*found, strict=True)
    return file_source(PathListing(folder, files), np.array(labels, np.int64), classes)


def class_numbers(names: Sequence[str], classes: Sequence[str]) -> list[int] | None:
    """The number of each of `names` among `classes`, None if they do not go together.

    ImageNet's folders are called by the synset that begins the name of a class: n01440764 tench. Where the classes have
    no names but their numbers, as many synsets are numbered in their order, as everybody does.
    """
    synsets = [name.partition(" ")[0] for name in classes if _SYNSET.match(name)]
    for known in (list(classes), synsets if len(synsets) == len(classes) else []):
        if {*names} <= {*known}:
            return [known.index(name) for name in names]
    unnamed = all(name == str(number) for number, name in enumerate(classes))
    if unnamed and len(names) == len(classes) and all(_SYNSET.match(f"{name} ") for name in names):
        return list(range(len(names)))
    return None


def has_class_folders(folder: Path) -> bool:
    """Whether there is an image in a subfolder."""
    return folder.is_dir() and any(holds_images(path) for path in folder.iterdir())


def _class_folders(folder: Path) -> tuple[str, ...]:
    """The names of the subfolders that hold images, sorted."""
    if not folder.is_dir():
        raise MissingDataError(f"{folder} does not exist; give a map file or a folder with a subfolder for each class")
    return tuple(sorted(path.name for path in folder.iterdir() if holds_images(path)))


def _images_below(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if is_image_file(file))


def holds_images(path: Path) -> bool:
    """Whether `path` is a folder that a person sees, with an image at any depth."""
    hidden = path.name.startswith(".")
    return path.is_dir() and not hidden and any(is_image_file(file) for file in path.rglob("*"))
