"""Which folders or lists of a place are its training, validation and test part, and what lies beside them.

A part is known by its name, in any case. With a training part and one other, the other is the test part whatever its
name, and validation uses a part of the training images. With three, the validation part is for choices, and the test
part only for the final figures.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from convolve.data.walk import by_synset, holds_images, images_in, subfolders
from convolve.errors import DataError
from convolve.formats.caffe_lmdb import is_lmdb
from convolve.formats.part_names import TEST, TRAINING, VALIDATION, role_of
from convolve.formats.table import ENDINGS, names_labels
from convolve.names import folded

# The end of the name of a list of images; what stands first goes before. Not .json, which may be anything.
_LISTS = ("_map.txt", ".csv", ".tsv", ".jsonl", ".ctf", "_lmdb")
_METADATA = ("metadata.csv", "metadata.jsonl")  # Hugging Face's lists of the images of a folder
_MOST_NAMED = 5


@dataclass(frozen=True)
class Layout:
    """The parts and their places; `validation` only if there are three. In words, `notes` say how the parts were found,
    and `left_out` which files beside them are not read."""

    training: Path
    validation: Path | None = None
    test: Path | None = None
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def parts(self) -> list[tuple[str, Path]]:
        """(role, path) of each part."""
        found = ((TRAINING, self.training), (VALIDATION, self.validation), (TEST, self.test))
        return [(role, path) for role, path in found if path]

    def __str__(self) -> str:
        """Which part is which, with notes. Empty for a single part with nothing beside it."""
        roles = [f"{role} part {_name(path)}" for role, path in self.parts] if self.test else []
        return "; ".join([", ".join(roles)] * bool(roles) + [*self.notes, *self.left_out])


def find_layout(where: Path, classes: Sequence[str] = ()) -> Layout | None:
    """The parts of the folder `where`; None if there are neither lists nor folders of images.

    A folder of one of the known `classes` is not taken for a wrapper around them. Raises `DataError` where folders may
    be parts as well as classes.
    """
    names = sorted(os.listdir(where))  # noqa: PTH208  of a million files a second less
    if is_lmdb(where):
        return Layout(where)
    for end in _LISTS:
        lists = [(where / name, _part_of(name, end)) for name in names if name.lower().endswith(end)]
        found = by_role([(path, part) for path, part in lists if role_of(part) and (path.is_file() or is_lmdb(path))])
        if TRAINING in found:
            return with_roles(*_labeled(found))
    folders = _class_folders(where)
    roles = [(role, path) for path in subfolders(where) if (role := role_of(path.name))]
    described = {role: each for role, path in roles if (each := _metadata(path))}
    if TRAINING in described:
        return with_roles(*_labeled(described))
    if metadata := _metadata(where):
        return Layout(metadata)
    named = by_role([(path, path.name) for path in folders if role_of(path.name)])
    if TRAINING in named and _class_folders(named[TRAINING]):
        return _with_parts(named, folders)
    if len(folders) == 1 and folders[0].name not in classes and _is_wrapper(where, folders[0]):
        inner = find_layout(folders[0], classes)
        note = f"{folders[0].name} holds everything, and is opened"
        return replace(inner, notes=(note, *inner.notes)) if inner else None
    if {path.name for path in folders} - {*classes}:
        _refuse_doubt(where, folders)
    return Layout(where) if folders or by_synset(where) else None


def _metadata(folder: Path) -> Path | None:
    """The list of the images in `folder`, which holds good unless only the folders have labels."""
    found = next((folder / name for name in _METADATA if (folder / name).is_file()), None)
    return found if found and (names_labels(found) or len(_class_folders(folder)) < 2) else None


def _labeled(lists: dict[str, Path]) -> tuple[dict[str, Path], list[str]]:
    """Without the tables that have no labels, though that of the training part has; and what is to be said of them."""
    is_table = lists[TRAINING].suffix.lower() in ENDINGS and names_labels(lists[TRAINING])
    bare = [role for role, path in lists.items() if is_table and not names_labels(path)]
    notes = [f"{_name(lists[role])} is ignored: it has no labels" for role in bare]
    return {role: path for role, path in lists.items() if role not in bare}, notes


def _name(part: Path) -> str:
    return f"{part.parent.name}/{part.name}" if part.name in _METADATA else part.name


def _part_of(name: str, end: str) -> str:
    """What the name of a list says before its `end`; those of Caffe's examples begin with the set: mnist_train_lmdb."""
    start = name[: -len(end)]
    return start.rpartition("_")[2] if end == "_lmdb" else start


def by_role(parts: Iterable[tuple[Path, str]]) -> dict[str, Path]:
    """role -> where it lies, of (path, name of the part). Raises `DataError` where two have the same."""
    found: dict[str, Path] = {}
    for path, name in parts:
        other = found.setdefault(str(role_of(name)), path)
        if other != path:
            raise DataError(
                f"{path.parent}: {other.name} and {path.name} are both names of the {role_of(name)} part; join them, "
                "or move one elsewhere"
            )
    return found


def with_roles(found: dict[str, Path], left_out: Sequence[str] = (), notes: Sequence[str] = ()) -> Layout:
    """Of two parts, the second is the test part."""
    validation, test = found.get(VALIDATION), found.get(TEST)
    return Layout(found[TRAINING], validation if test else None, test or validation, tuple(notes), tuple(left_out))


def _with_parts(named: dict[str, Path], folders: Sequence[Path]) -> Layout:
    """Parts that are folders; what lies beside them and is none is named, or refused if it may be one."""
    notes, left_out, parts = list[str](), list[str](), dict[str, Path]()
    classes = _class_folders(named[TRAINING])
    for role, path in named.items():
        part = _unwrapped(path, {_key(folder.name) for folder in classes})
        if _class_folders(part):
            parts[role] = part
            notes += [f"{path.name}/{part.relative_to(path)} is the {role} part"] * (part != path)
        else:
            left_out.append(f"{path.name} is ignored: its images are not in class folders")
    where = named[TRAINING].parent
    empty = [path.name for path in subfolders(where) if role_of(path.name) and path not in folders]
    left_out += [f"{name} is ignored: it holds no readable image" for name in empty]
    others = [path for path in folders if path not in named.values()]
    if len(parts) == 1:
        for other in others:
            _refuse_same(where, [named[TRAINING], other])
    return with_roles(parts, [*left_out, *_left_out(others)], notes)


def _left_out(folders: Sequence[Path]) -> list[str]:
    names = [path.name for path in folders]
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    said = f"{', '.join(names[:_MOST_NAMED])}{more} beside the parts"
    return [f"{said} {'are' if len(names) > 1 else 'is'} left out"] if names else []


def _class_folders(folder: Path) -> list[Path]:
    return list(filter(holds_images, subfolders(folder)))


def _unwrapped(part: Path, classes: set[str]) -> Path:
    """`part`, or the folder in it that holds all of it: seg_train/seg_train."""
    inside = _class_folders(part)
    if len(inside) == 1 and _key(inside[0].name) not in classes - {_key(part.name)} and _is_wrapper(part, inside[0]):
        return _unwrapped(inside[0], classes)
    return part


def _is_wrapper(folder: Path, only: Path) -> bool:
    """Whether `only` has the images of several classes, and `folder` no image beside it."""
    return bool(_class_folders(only) or by_synset(only)) and not images_in(folder)


def _refuse_doubt(where: Path, folders: Sequence[Path]) -> None:
    """Raise `DataError` for folders that may be parts as well as classes."""
    roles = {role_of(path.name) for path in folders}
    all_named = len(folders) > 1 and None not in roles
    if all_named or (TRAINING in roles and len(roles - {None}) > 1):
        names = " and ".join(path.name for path in folders if role_of(path.name))
        raise DataError(
            f"{where}: {names} are names of parts, but there is no training part with a folder for each class; make "
            f"these folders, or list the images in train.csv (path,label). If the names are those of classes, list the "
            "images in a table of another name"
        )
    if len(folders) in (2, 3):
        _refuse_same(where, folders)
    for folder in folders[:1]:  # where one class has them, all have
        _refuse_parts_inside(folder)


def _refuse_parts_inside(folder: Path) -> None:
    """Raise `DataError` for parts that lie in the folder of a class."""
    inside = {role_of(path.name): path.name for path in _class_folders(folder)}
    if TRAINING in inside and len(inside.keys() - {None}) > 1:
        names = " and ".join(sorted(name for role, name in inside.items() if role))
        raise DataError(
            f"{folder}: {names} are names of parts, but are inside the folder of a class; swap the levels, "
            f"{inside[TRAINING]}/{folder.name}, or list the images in a table with a column `split`"
        )


def _refuse_same(where: Path, folders: Sequence[Path]) -> None:
    """Raise `DataError` for folders that hold the same subfolders."""
    inside = [{_key(path.name) for path in _class_folders(folder)} for folder in folders]
    if len(inside[0]) > 1 and all(names == inside[0] for names in inside):
        names = " and ".join(folder.name for folder in folders)
        raise DataError(
            f"{where}: {names} hold the same subfolders: they may be parts of one set, or classes. If parts, call them "
            "train and test (and val); if classes, list the images in a table, or take the subfolders away"
        )


def _key(name: str) -> str:
    return folded(name).strip()
