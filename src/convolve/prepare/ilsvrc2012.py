"""ILSVRC2012 as the files that CNTK's AlexNet example reads, from the folders of the download; no image is copied.

train_map.txt, val_map.txt    absolute path, TAB, class number; in the order of the names
classmappings.txt             WordNet ID, TAB, class number
labels.txt                    the name of class 0, 1, ...; one a line: WordNet ID, and its words if the data has them
left_out.txt                  what was found and not taken: why, TAB, path; only where there is something
prepared.json                 that all this is ours
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from convolve.atomic import replacing
from convolve.data.download import Progress
from convolve.data.locate import locate
from convolve.data.team import ALONE, Team
from convolve.data.walk import ENDINGS, is_hidden
from convolve.errors import DataError, FormatError, MissingDataError
from convolve.formats.annotation import read_object_names
from convolve.formats.labels import read_labels
from convolve.prepare.output import Report, claimed, data_argument

TRAIN_MAP, VAL_MAP, CLASS_MAPPINGS, LEFT_OUT = "train_map.txt", "val_map.txt", "classmappings.txt", "left_out.txt"
SYNSETS = "LOC_synset_mapping.txt"  # as in the download: WordNet ID, space, the words of the synset

_LAYOUT = Path("Data", "CLS-LOC"), Path("Annotations", "CLS-LOC")
_FOLDERS = ("", "ILSVRC", "ILSVRC2012")  # in which the download may be inside the source
_WORDNET_ID = re.compile(r"n[0-9]{8}")
_ENDINGS = tuple(ENDINGS)
_AT_ONCE = 500  # annotations that one of several workers reads at a time
_MOST_NAMED = 10  # in a line of the report; left_out.txt has all


@dataclass(frozen=True)
class Places:
    """The folders: `train` with one folder per class, `val` with images, `annotations` with their XML files."""

    train: Path
    val: Path
    annotations: Path


@dataclass(frozen=True)
class ClassFolder:
    """The images of one class: the names of the files in `folder`, sorted."""

    wordnet_id: str
    folder: str
    names: list[str]


@dataclass(frozen=True)
class LeftOut:
    """The paths that are left out, by the reason."""

    paths: dict[str, list[str]] = field(default_factory=dict)

    def add(self, why: str, *paths: str) -> None:
        self.paths.setdefault(why, []).extend(paths)

    def report(self, path: Path) -> Iterator[Report]:
        for why, paths in self.paths.items():
            more = f" and {len(paths) - _MOST_NAMED:,} more" if len(paths) > _MOST_NAMED else ""
            what = f"left out because {why}: {len(paths):,} ({', '.join(paths[:_MOST_NAMED])}{more})"
            yield Report(path, what, {"left_out": len(paths)})


def prepare_ilsvrc2012(
    source: Path | None, out: Path, progress: Progress | None = None, team: Team = ALONE, order_from: Path | None = None
) -> Iterator[Report]:
    """Write the maps of the download in the folder `source` into `out`; see `write_maps`. Nothing is downloaded."""
    del progress
    yield from write_maps(_places(source), out, order_from, team)


def write_maps(places: Places, out: Path, order_from: Path | None = None, team: Team = ALONE) -> Iterator[Report]:
    """Write all files into `out`, with one report line each; what is left out is reported with its number and names.

    Classes are numbered in the order of their WordNet IDs, or as in the class mappings `order_from`, in either order of
    its columns. Files of an earlier preparation are overwritten. Memory: 100 bytes per image. Raises `DataError` if
    there are no training images, or classes that `order_from` does not know.
    """
    left_out = LeftOut()
    folders = list(_class_folders(places.train, left_out))
    wordnet_ids = _numbered(folders, order_from, left_out)
    number_of = {wordnet_id: number for number, wordnet_id in enumerate(wordnet_ids)}
    with claimed(out, {"dataset": "ilsvrc2012"}, (TRAIN_MAP, VAL_MAP, CLASS_MAPPINGS, LEFT_OUT), team) as output:
        yield output.labels(_class_names(wordnet_ids, places.train))
        yield output.text(CLASS_MAPPINGS, "".join(f"{name}\t{number}\n" for name, number in number_of.items()))
        yield output.image_map(TRAIN_MAP, _training(folders, number_of), sum(len(part.names) for part in folders))
        val = _validation(places, number_of, left_out, team)
        if val:
            yield output.image_map(VAL_MAP, val, len(val))
        elif team.rank == 0:
            (output.folder / VAL_MAP).unlink(missing_ok=True)
            yield Report(output.folder / VAL_MAP, f"not written, since no image in {places.val} has a label")
        yield from left_out.report(output.folder / LEFT_OUT)
        if team.rank == 0:
            _write_left_out(output.folder / LEFT_OUT, left_out)


def _places(source: Path | None) -> Places:
    root = locate("ilsvrc2012", data_argument(source))
    data, annotations = _LAYOUT
    for folder in (root / name for name in _FOLDERS):
        if (folder / data / "train").is_dir():
            return Places(folder / data / "train", folder / data / "val", folder / annotations / "val")
    raise MissingDataError(
        f"{root} has no {data / 'train'}; give --source the unpacked download of ILSVRC2012 (from image-net.org, or "
        f"Kaggle's ImageNet Object Localization Challenge), with {data}/train, {data}/val and {annotations}/val"
    )


def _class_folders(train: Path, left_out: LeftOut) -> Iterator[ClassFolder]:
    """The folders that are named by a WordNet ID, in the order of their names."""
    for entry in _entries(train):
        if not entry.is_dir():
            left_out.add("it is not the folder of a class", entry.path)
        elif not _WORDNET_ID.fullmatch(entry.name):
            left_out.add("the folder is not named by a WordNet ID", entry.path)
        else:
            names = _images(entry.path, left_out)
            if not names:
                left_out.add("the class has no images (it keeps its number)", entry.path)
            yield ClassFolder(entry.name, os.path.abspath(entry.path), names)  # noqa: PTH100  no links are followed


def _images(folder: str | Path, left_out: LeftOut) -> list[str]:
    """The names of the images in `folder`, sorted."""
    names = []
    for entry in _entries(folder):
        if entry.name.lower().endswith(_ENDINGS) and not is_hidden(entry.name) and entry.is_file():
            names.append(entry.name)
        else:
            left_out.add("its name is not that of an image", entry.path)
    return names


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    """What is in `folder`, sorted by name. Listing tells files from folders; no file is asked for separately."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        raise MissingDataError(f"{folder} does not exist; it should contain one folder per class") from None
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from None


def _numbered(folders: list[ClassFolder], order_from: Path | None, left_out: LeftOut) -> list[str]:
    """The WordNet IDs in the order of their class numbers."""
    found = [folder.wordnet_id for folder in folders]
    if not any(folder.names for folder in folders):
        raise DataError("there are no training images: no class folder (n01440764, ...) contains one")
    if order_from is None:
        return found
    known = [name.partition(" ")[0] for name in read_labels(order_from)]
    twice = [name for name in dict.fromkeys(known) if known.count(name) > 1]
    if twice:
        raise DataError(f"{order_from} gives {twice[0]} two numbers; remove one")
    unknown = [name for name in found if name not in known]
    if unknown:
        named = ", ".join(unknown[:_MOST_NAMED])
        raise DataError(
            f"{order_from} has no number for {len(unknown)} of the classes ({named}); give the file that belongs to "
            f"this data"
        )
    for name in known:
        if name not in found:
            left_out.add("the class has no folder (it keeps its number)", name)
    return known


def _training(folders: list[ClassFolder], number_of: dict[str, int]) -> Iterator[tuple[str, int]]:
    """(path, class number) of each training image."""
    for part in folders:
        number = number_of[part.wordnet_id]
        yield from ((f"{part.folder}/{name}", number) for name in part.names)


def _class_names(wordnet_ids: list[str], train: Path) -> list[str]:
    """ "n01440764 tench, Tinca tinca", if the download's list of synsets is in a folder above the training images."""
    found = next((above / SYNSETS for above in train.absolute().parents if (above / SYNSETS).is_file()), None)
    words = {line.partition(" ")[0]: line for line in read_labels(found)} if found else {}
    return [words.get(wordnet_id, wordnet_id) for wordnet_id in wordnet_ids]


def _validation(places: Places, number_of: dict[str, int], left_out: LeftOut, team: Team) -> list[tuple[str, int]]:
    """(path, class number) of each validation image that has a label."""
    try:
        names = _images(places.val, left_out)
    except MissingDataError:
        left_out.add("there is no folder of validation images", str(places.val))
        return []
    annotated = _annotated(places.annotations, left_out)
    folder, labeled = os.path.abspath(places.val), []  # noqa: PTH100  no links are followed
    files = [annotated.pop(name.rpartition(".")[0], None) for name in names]

    def compute(numbers: range) -> Iterator[list[list[str] | str]]:
        for first in numbers[::_AT_ONCE]:
            yield [_objects(file) for file in files[first : min(first + _AT_ONCE, numbers.stop)]]

    objects = chain.from_iterable(team.blocks("annotations read", len(files), _AT_ONCE, compute))
    for name, annotation, found in zip(names, files, objects, strict=True):
        path = f"{folder}/{name}"
        number = _class_of(path, annotation, found, number_of, left_out)
        if number is not None:
            labeled.append((path, number))
    if annotated:
        left_out.add("the image of the annotation is missing", *sorted(annotated.values()))
    return labeled


def _annotated(annotations: Path, left_out: LeftOut) -> dict[str, str]:
    """Name of an image, without its ending -> path of its annotation."""
    try:
        entries = _entries(annotations)
    except MissingDataError:
        left_out.add("there is no folder of annotations", str(annotations))
        return {}
    other = [entry.path for entry in entries if not entry.name.endswith(".xml")]
    if other:
        left_out.add("its name is not that of an annotation", *other)
    return {entry.name.removesuffix(".xml"): entry.path for entry in entries if entry.name.endswith(".xml")}


def _objects(annotation: str | None) -> list[str] | str:
    """The names of the objects in an annotation; or a sentence why it cannot be read."""
    try:
        return list(read_object_names(annotation)) if annotation else []
    except (FormatError, MissingDataError) as error:
        return str(error)


def _class_of(
    path: str, annotation: str | None, found: list[str] | str, number_of: dict[str, int], left_out: LeftOut
) -> int | None:
    """The class number of the image `path`; None if the objects `found` in its annotation do not give one."""
    if annotation is None:
        left_out.add("the image has no annotation", path)
        return None
    if isinstance(found, str):
        left_out.add("the annotation is damaged", found)
        return None
    if len(found) != 1:
        why = "the annotation has objects of different classes" if found else "the annotation has no object"
        left_out.add(why, f"{annotation}: {', '.join(found)}" if found else annotation)
    elif found[0] not in number_of:
        left_out.add("its class has no training images", path)
    else:
        return number_of[found[0]]
    return None


def _write_left_out(path: Path, left_out: LeftOut) -> None:
    if not left_out.paths:
        path.unlink(missing_ok=True)
        return
    with replacing(path) as temporary:
        lines = (f"{why}\t{name}\n" for why, names in left_out.paths.items() for name in names)
        temporary.write_bytes(os.fsencode("".join(lines)))
