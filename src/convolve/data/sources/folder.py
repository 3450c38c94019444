"""Folders with a subfolder for each class, or with images whose names begin with ImageNet's synsets."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from convolve.data.sources.classes import class_numbers, in_order, look_alikes, spelling, strangers
from convolve.data.sources.files import FileSource, PathListing, file_source
from convolve.data.sources.source import OnFault
from convolve.data.walk import PassedOver, by_synset, holds_images, images_in, subfolders, walk
from convolve.errors import DataError, MissingDataError

_APART = "join them, or give them different names"


def open_folder(folder: Path, classes: Sequence[str] | None = None, on_fault: OnFault | None = None) -> FileSource:
    """The images below `folder`, whose subfolders have the names of the classes; see `class_numbers`.

    A subfolder without an image is an error, unless it only has notes; so are two with nearly the same name. With
    `on_fault`, these are faults, as are links that lead nowhere; and classes other than the known ones are added.
    """
    found, passed = _images_of_classes(folder, on_fault)
    if on_fault:
        for kind, where, what, mend in _faults(folder, passed):
            on_fault(kind, where, what, mend)
        known = tuple(map(spelling, classes or ()))
        classes = (*known, *in_order({*map(spelling, found)} - {*known}))
    for name, what in look_alikes((classes or found) if on_fault else found).items():
        if not on_fault:
            raise DataError(f"{folder}: the subfolders {what}; {_APART}")
        on_fault("near names", str(folder / name), f"the names of classes {what}", _APART)
    if not found:
        raise DataError(f"{folder} holds no images in subfolders{f' ({passed})' if passed else ''}")
    classes = tuple(classes or in_order({*map(spelling, found)}))
    numbers = class_numbers(list(found), classes)
    if numbers is None:
        mend = "name the subfolders after the classes, or give a table of images"
        if all(map(str.isdecimal, classes or ())):
            mend += "; --labels FILE names the classes of a model that has only numbers"
        raise DataError(f"{folder}: {strangers(found, classes)}; {mend}")
    labels_N = np.repeat(np.array(numbers, np.int64), [len(files) for files in found.values()])
    listing = PathListing(folder, tuple(file for files in found.values() for file in files), passed)
    return file_source(listing, labels_N, classes)


def has_class_folders(folder: Path) -> bool:
    """Whether there is an image in a subfolder."""
    return folder.is_dir() and any(map(holds_images, subfolders(folder)))


def _images_of_classes(folder: Path, on_fault: OnFault | None) -> tuple[dict[str, list[str]], PassedOver]:
    """Subfolder or synset -> its images, sorted; and the files that were passed over."""
    if not folder.is_dir():
        raise MissingDataError(f"{folder} does not exist; give a map file or a folder with a subfolder for each class")
    passed = PassedOver()
    folders = subfolders(folder, passed)
    found = {} if any(map(holds_images, folders)) else by_synset(folder)
    passed.loose = 0 if found else len(images_in(folder))
    for link in [link for link in passed.dangling if not Path(link).suffix]:
        _add_gap(Path(link), "this folder of a class is a broken link", on_fault)
    for path in folders:
        here = PassedOver()
        if files := list(walk(path, here)):
            found[path.name] = files
        elif here and not (here.kinds or here.dangling):  # such as notes
            here.folders.append(path.name)
        else:
            _add_gap(path, f"this folder of a class contains no image{f' ({here})' if here else ''}", on_fault)
        passed.add(here)
    return found, passed


def _add_gap(path: Path, what: str, on_fault: OnFault | None) -> None:
    mend = "put its images there in a readable format, or move the folder away"
    if not on_fault:
        raise DataError(f"{path}: {what}; {mend}")
    on_fault("gap", str(path), what, mend)


def _faults(folder: Path, passed: PassedOver) -> Iterator[tuple[str, str, str, str]]:
    if passed.kinds:
        what = str(PassedOver(passed.endings, passed.kinds))
        yield "passed over", str(folder), what, "if it should be an image, save it as JPEG or PNG"
    for link in passed.dangling:
        yield "missing image", link, "the link is broken", "restore its target, or remove it"
