"""Images in files of their own, listed by a map file, a table or class folders, read so that every fault is named."""

from __future__ import annotations

import os
import shlex
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

import numpy as np

from convolve.checking.finding import Findings
from convolve.checking.part import REFUSED, Part
from convolve.data.image_files import is_image_name
from convolve.data.labelled_images import (
    ClassFolders,
    LabelledImages,
    OnDisk,
    class_folder_names,
    on_disk,
    read_class_folders,
)
from convolve.data.own import find_label_names, lists_paths
from convolve.errors import DataError, MissingDataError
from convolve.formats.archive import Location
from convolve.formats.base64_map import Base64Map, read_base64_map
from convolve.formats.image_map import read_image_map
from convolve.formats.labelled_csv import read_labelled_csv
from convolve.formats.map_lines import BadLine, BlanksForTab, Refuse

# Legend: N images.

_NAMED = 3  # files that are named of many
_MAP_LINE = "write it as path TAB class number"
_TABS = "put a tab before the class number: sed -i -E 's/[ ]+([0-9]+[ \\r]*)$/\\t\\1/' FILE"


def listed_part(path: Path, name: str, known: Sequence[str] | None, findings: Findings) -> Part | None:
    """The part that `path` lists, None if nothing of it can be read; `known` classes keep their numbers."""
    try:
        if path.is_dir():
            return _folder_part(path, name, known or (), findings)
        if path.suffix.lower() == ".csv":
            return _table_part(path, name, known, findings)
        return _map_part(path, name, known, findings)
    except MissingDataError:
        raise
    except DataError as error:
        findings.add("unreadable", str(path), str(error).removeprefix(f"{path}: "), "correct it, and check again")
        return None


def check_unlisted(parts: Sequence[Part], findings: Findings) -> None:
    """Images that lie beside listed ones, and that no part lists. Memory: 8 bytes an image."""
    lists = [(part, part.pictures.images) for part in parts if isinstance(part.pictures, OnDisk)]
    folders = [images.folder for _, images in lists if isinstance(images, ClassFolders)]
    for folder in folders:
        _add_unlisted(findings, folder, sorted(file.name for file in folder.iterdir() if _is_image_file(file)))
    listed: list[int] = []
    places: set[Location] = set()
    for part, images in lists:
        for index, location in _locations(images):
            listed.append(hash(location))
            if part.labels_N[index] != REFUSED:  # else there may be anything where the path belongs
                places.add(_container(location))
    listed_N = np.sort(np.array(listed, np.int64))
    for place in sorted(places, key=str):
        inside = sorted(_images_in(place), key=str)
        hashes = np.array([hash(location) for location in inside], np.int64)
        unknown = np.flatnonzero(~np.isin(hashes, listed_N))
        _add_unlisted(findings, place.file, [PurePath(inside[n].member or inside[n].file).name for n in unknown])


def _folder_part(path: Path, name: str, known: Sequence[str], findings: Findings) -> Part:
    found = class_folder_names(path)
    for folder in sorted(path.iterdir()):
        if folder.is_dir() and not folder.name.startswith(".") and not any(folder.iterdir()):
            findings.add("gap", str(folder), "the folder of a class is empty", "put its images there, or remove it")
    names = (*known, *(other for other in found if other not in known))
    images = read_class_folders(path, names)
    return Part(name, on_disk(images, images.labels_N), images.labels_N, names, images.place)


def _table_part(path: Path, name: str, known: Sequence[str] | None, findings: Findings) -> Part:
    table = read_labelled_csv(path, _refuse(path, findings, "complete the row"))
    used = {*table.labels} - {""}  # of rows that were refused
    if not all(label.isascii() and label.isdigit() and len(label) < 10 for label in used):
        names = (*(known or ()), *sorted(used - {*(known or ())}))
        number_of = {"": REFUSED} | {label: number for number, label in enumerate(names)}
        labels_N = np.array([number_of[label] for label in table.labels], np.int64)
        return Part(name, on_disk(table, labels_N), labels_N, names, table.place)
    labels_N = np.array([int(label) if label else REFUSED for label in table.labels], np.int64)
    numbered = known or _label_names(path, findings)
    for index in np.flatnonzero(labels_N >= len(numbered)).tolist() if numbered else ():
        what = f"the label is {labels_N[index]}; with {len(numbered or ())} classes it must be below that"
        findings.add("bad line", table.place(index), what, "correct the label")
        labels_N[index] = REFUSED
    return Part(name, on_disk(table, labels_N), labels_N, tuple(numbered) if numbered else None, table.place)


def _map_part(path: Path, name: str, known: Sequence[str] | None, findings: Findings) -> Part:
    names = known or _label_names(path, findings)
    count = len(names) if names else None
    images: LabelledImages
    if lists_paths(path):
        images = read_image_map(path, count, refuse=_refuse(path, findings, _MAP_LINE))
    else:
        images = read_base64_map(path, count)
    return Part(name, on_disk(images, images.labels_N), images.labels_N, tuple(names) if names else None, images.place)


def _refuse(path: Path, findings: Findings, mend: str) -> Refuse:
    def refuse(line: int, error: BadLine) -> None:
        kind, way = "bad line", mend
        if isinstance(error, BlanksForTab):
            kind, way = "blanks for tabs", _TABS.replace("FILE", shlex.quote(str(path)))
        findings.add(kind, f"{path}: line {line}", str(error), way)

    return refuse


def _label_names(path: Path, findings: Findings) -> Sequence[str] | None:
    try:
        return find_label_names(path)
    except DataError as error:
        findings.add("unreadable", str(path.parent), str(error), "correct it: one name a line, or number TAB name")
        return None


def _locations(images: LabelledImages) -> Iterator[tuple[int, Location]]:
    """(number, place) of the images of a map file or table, each place always in the same words."""
    if isinstance(images, ClassFolders | Base64Map):
        return
    for index in range(len(images)):
        location = images.location(index)
        if location.file:  # of some bad lines there is none
            yield index, Location(os.path.abspath(location.file), location.member)  # noqa: PTH100  a million of them


def _container(location: Location) -> Location:
    """The folder of an image; of a member of an archive the archive."""
    return Location(location.file, "/") if location.member else Location(os.path.dirname(location.file))  # noqa: PTH120


def _images_in(place: Location) -> Iterator[Location]:
    try:
        if place.member:
            with zipfile.ZipFile(place.file) as archive:
                yield from (Location(place.file, name) for name in archive.namelist() if is_image_name(PurePath(name)))
        else:
            files = (file for file in Path(place.file).iterdir() if _is_image_file(file))
            yield from (Location(str(file)) for file in files)
    except (OSError, zipfile.BadZipFile):  # what is missing or damaged is a finding where its images are read
        return


def _is_image_file(file: Path) -> bool:
    return is_image_name(file) and file.is_file()


def _add_unlisted(findings: Findings, place: object, names: list[str]) -> None:
    if names:
        rest = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        count = f"{len(names):,} images have" if len(names) > 1 else "1 image has"
        what = f"{count} no label: {', '.join(names[:_NAMED])}{rest}"
        mend = "list them, or move them elsewhere; if the test part lists them, name it with --test"
        findings.add("unlabelled", _shown(Path(str(place))), what, mend)


def _shown(path: Path) -> str:
    """Below the working folder, from there."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
