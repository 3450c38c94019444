"""What lies at --data? The one place that answers: for training, evaluation, preparation and checks alike.

`lists.py` knows a user's own images, `known.py` the published data sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from convolve.data.download import Progress
from convolve.data.known import (
    DATASETS,
    LOADERS,
    dataset_info,
    guess_dataset,
    may_be,
    open_published,
    published_parts,
)
from convolve.data.lists import collect_list, find_lists, open_lists, open_own_test, refuse_other_kinds
from convolve.data.locate import SAMPLE
from convolve.data.sources.source import OnFault, Source
from convolve.data.sources.table import in_words
from convolve.data.splits import Splits
from convolve.errors import DataError, MissingDataError, UsageError


def open_data(
    where: str | None = None, name: str = "", *, file_order: bool = False, progress: Progress | None = None
) -> Splits:
    """The training and test images at `where`; without it, those of the data set `name` in the usual places.

    Images in files of their own come in the order of classes and file names, or with `file_order` as they are listed.
    `progress` hears of a download: name of the file, bytes that are there, bytes in all. Raises `MissingDataError` with
    the way out where there is nothing, `DataError` for what is damaged.
    """
    info = dataset_info(name) if name else None
    if where in (None, SAMPLE):
        if info is None:
            raise MissingDataError("this recipe names no data set; say where your images are, with --data DIR")
        return LOADERS[name](where, file_order, progress)
    place = Path(str(where)).expanduser()
    lists = find_lists(place)
    if lists is None:
        return open_published(place, name, file_order, progress)
    own = open_lists(place, lists, file_order)
    if info and may_be(own, info):
        try:
            return LOADERS[name](where, file_order, progress)
        except MissingDataError:  # other files with the same classes
            pass
    return own


def open_test(
    where: str | None, name: str, class_names: tuple[str, ...], shape_CHW: tuple[int, int, int], fingerprint: str | None
) -> tuple[Source, str]:
    """(what a model is to be tested on, where it lies): a test part, or all there is but what it was trained on.

    The model knows `class_names`, was trained on the set `name` with that `fingerprint`, and takes `shape_CHW`.
    """
    place, given = Path(where or "").expanduser(), where not in (None, SAMPLE)
    known = DATASETS.get(name)
    lists = find_lists(place) if given else None
    if lists and (lists[0] == place or not known):  # a list or class folders, and no set of two parts
        return open_own_test(place, lists, class_names, fingerprint)
    if given and not known and not place.exists():
        raise MissingDataError(f"{where} does not exist; give a folder, a map file of images, or --data sample")
    info = known or (guess_dataset(shape_CHW, len(class_names)) if where else None)
    if info is None:
        trained = f"; the model was trained on {name}, of {in_words(class_names)}" if name else ""
        raise UsageError(f"say with --data on what: a map file (path TAB class number), class folders{trained}")
    numbers = tuple(map(str, range(len(info.class_names))))  # where a set is known by no more, any names may be its
    if where is None and info.class_names not in (class_names, numbers):
        others = f"other images than {info.name}'s, of {in_words(class_names)}"
        raise UsageError(f"the model was trained on {others}; say with --data on which")
    found = open_data(where, info.name)
    if lists and found.array_shape_CHW is None:
        return open_own_test(place, lists, class_names, fingerprint)
    if found.class_names != class_names:
        theirs, ours = in_words(found.class_names), in_words(class_names)
        raise DataError(f"{found.description} has the classes {theirs}; the model knows {ours}")
    return found.test, found.description


def open_to_check(place: Path, classes: Sequence[str] | None, on_fault: OnFault) -> list[tuple[str, Source]]:
    """The parts at `place`, "training" and "test", of whatever form; `on_fault` hears of all that cannot be read."""
    if not place.exists():
        raise MissingDataError(f"{place} does not exist; give a folder, a map file, a table, or a data set's own files")
    is_listed = place.is_dir() and any((place / name).exists() for name in ("train_map.txt", "train.csv"))
    parts = None if is_listed else published_parts(place, on_fault)
    if parts is None:
        lists = find_lists(place)
        if place.is_file():
            refuse_other_kinds(place)
        if lists is None:
            raise MissingDataError(f"{place} holds no labeled images; see `convolve check-data --help`")
        parts = []
        for path in filter(None, lists):
            parts.append(collect_list(path, classes, on_fault))
            classes = classes or (parts[-1].class_names if parts[-1] else None)
    return [(name, part) for name, part in zip(("training", "test"), parts, strict=False) if part is not None]
