"""Opens the data at --data: for training, evaluation, preparation and checks alike.

`lists.py` knows a user's own images, `known.py` the published data sets.
"""

from collections.abc import Sequence
from pathlib import Path

from convolve.data import known, lists
from convolve.data.download import Progress
from convolve.data.hold_out import Learned
from convolve.data.locate import SAMPLE
from convolve.data.options import AS_FOUND, DataOptions
from convolve.data.shard_layout import find_shards
from convolve.data.sources.classes import difference
from convolve.data.sources.source import OnFault, Source
from convolve.data.splits import Splits
from convolve.errors import DataError, MissingDataError


def open_data(
    where: str | None = None,
    name: str = "",
    *,
    file_order: bool = False,
    progress: Progress | None = None,
    options: DataOptions = AS_FOUND,
) -> Splits:
    """The training and test images at `where`; without it, those of the data set `name` in the usual places.

    Image files are ordered by classes and file names, or with `file_order` as listed. `progress` is called during a
    download: name of the file, bytes so far, bytes in all. Raises `MissingDataError` with the way out if there is
    nothing, `DataError` for damage.
    """
    info = known.dataset_info(name) if name else None
    if where in (None, SAMPLE):
        if info is None:
            raise MissingDataError("this recipe names no data set; give your images with --data DIR")
        return known.LOADERS[name](where, file_order, progress)
    place = known.unpacked(Path(str(where)).expanduser())
    listed = lists.find_lists(place)
    if listed is None:
        return known.open_published(place, name, file_order, progress)
    own = lists.open_lists(place, listed, file_order, options)
    if info and known.may_be(own, info):
        try:
            return known.LOADERS[name](str(place), file_order, progress)
        except MissingDataError:  # other files with the same classes
            pass
    return own


def open_test(
    where: str | None,
    name: str,
    class_names: tuple[str, ...],
    shape_CHW: tuple[int, int, int],
    learned: Learned,
    options: DataOptions = AS_FOUND,
) -> tuple[Source, str]:
    """(the images to test a model on, their place): a test part, or all images except those that it was trained on.

    The model knows `class_names`, has `learned` from the set `name`, and takes `shape_CHW`.
    """
    given = where not in (None, SAMPLE)
    place = known.unpacked(Path(str(where)).expanduser()) if given else Path()
    listed = lists.find_lists(place, class_names) if given else None
    if listed and (listed.test is None or name not in known.DATASETS):  # and no set of two parts
        return lists.open_own_test(place, listed, class_names, learned, options)
    info = known.info_to_test(where, name, class_names, shape_CHW)
    found = open_data(where, info.name, options=options)
    if listed and found.array_shape_CHW is None:
        return lists.open_own_test(place, listed, class_names, learned, options)
    if found.class_names != class_names:
        raise DataError(f"{found.description}: {difference(found.class_names, class_names)}")
    return found.test, found.description


def open_to_check(
    place: Path, classes: Sequence[str] | None, on_fault: OnFault, options: DataOptions = AS_FOUND
) -> list[tuple[str, Source]]:
    """(role, images) of the parts at `place`, in whatever form; `on_fault` is called for everything that cannot be
    read."""
    if not (is_listed := find_shards(place) is not None) and not place.exists():
        raise MissingDataError(f"{place} does not exist; give a folder, a map file, a table, or a data set's own files")
    if not is_listed:
        place = known.unpacked(place)
        is_listed = bool(place.is_dir() and (layout := lists.find_lists(place)) and layout.training.is_file())
    parts = None if is_listed else known.published_parts(place, on_fault)
    if parts is None:
        return [*lists.collect_lists(place, classes, on_fault, options)]
    return [(name, part) for name, part in zip(("training", "test"), parts, strict=False) if part is not None]
