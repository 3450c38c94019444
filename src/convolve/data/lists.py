"""A user's own images: class folders, map files, CSV tables, shards; in two parts, or with a held-out test part."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from convolve.data.archives import archives_in
from convolve.data.ctf_sets import is_ctf_set, open_ctf_set, open_ctf_test
from convolve.data.hold_out import Learned, find_held_out, hold_out_test
from convolve.data.layout import Layout, find_layout
from convolve.data.options import AS_FOUND, DataOptions
from convolve.data.relations import grouped
from convolve.data.shard_layout import find_shards, is_parquet, is_shards, shard_files, shards_folder
from convolve.data.sources.base64 import open_base64
from convolve.data.sources.classes import in_words
from convolve.data.sources.ctf import collect_ctf, is_ctf
from convolve.data.sources.files import FileSource
from convolve.data.sources.folder import open_folder
from convolve.data.sources.lmdb import open_lmdb
from convolve.data.sources.map_file import open_map_file
from convolve.data.sources.shards import open_parquets, open_shards
from convolve.data.sources.source import OnFault, Source
from convolve.data.sources.table import label_columns, open_table
from convolve.data.splits import Splits
from convolve.errors import DataError, FormatError, MissingDataError, UsageError
from convolve.formats.caffe_lmdb import is_lmdb
from convolve.formats.map_lines import lists_paths, open_lines
from convolve.formats.part_names import TEST, TRAINING, VALIDATION
from convolve.formats.table import ENDINGS, is_table
from convolve.formats.table_rows import read_header
from convolve.remote import shown

MANY_CLASSES = 1000  # that a shorter list may number without naming them

_MOST_NAMED = 5  # archives beside folders
_HEAD_BYTES = 1 << 16
_ARCHIVES = (b"PK", b"\x1f\x8b", b"BZh", b"\xfd7zXZ")  # zip, gzip, bzip2, xz


def find_lists(where: Path, classes: Sequence[str] = ()) -> Layout | None:
    """The parts of a user's own images at `where`, of the known `classes`; None if there are none."""
    if shards := find_shards(where):
        return shards
    if where.is_file():
        return None if is_packed(where) else Layout(where)
    layout = find_layout(where, classes) if where.is_dir() else None
    if layout is None or layout.training.is_file() or is_lmdb(layout.training):
        return layout
    packed = [f"{path.name} is an archive, and ignored: unpack it beside the others" for path in archives_in(where)]
    return replace(layout, left_out=(*layout.left_out, *packed[:_MOST_NAMED]))


def no_images(place: Path) -> MissingDataError:
    what = "holds no labeled images" if os.path.lexists(place) else "does not exist"
    if any((place / name).is_file() for name in ("model.json", "recipe.json")):
        what = "is a model or a run, not a set of images"
    return MissingDataError(f"{place} {what}; give a folder with a subfolder for each class, a map file, or a table")


def open_lists(
    where: Path, layout: Layout | None = None, file_order: bool = False, options: DataOptions = AS_FOUND
) -> Splits:
    """A user's own images at `where`; if they are in one part, a test part is held out."""
    found = layout or find_lists(where)
    if found is None:
        raise no_images(where)
    if is_ctf_set(found):
        return open_ctf_set(where, found, options)
    try:
        first, parts, names = open_parts(found, options)
    except FormatError as error:
        more = f"; `convolve check-data` names all such lines of {shown(where)}" if error.place[:4] == "line" else ""
        raise FormatError(error.path, error.place, error.what + more) from None
    target = options.target
    if len(names) < 2 and target == "class":
        _refuse_one_class(found.training, names[0])
    kind = "classes" if target != "number" else "number" if len(names) == 1 else "numbers"
    said = [f"{shown(where)}, {len(names)} {kind} ({in_words(names)})", *filter(None, [str(found)])]
    said += [f"{len(part):,} images are its {role} part" for role, part in parts.items() if first.roles]
    membership = None
    said += sorted({part.passed_over for part in parts.values() if part.passed_over})
    if TEST not in parts:
        held = hold_out_test(parts[TRAINING], options.group or options.columns.group or "", options.watch)
        parts, membership = {TRAINING: held.train, TEST: held.test}, held.membership
        said += held.said
    if file_order:
        parts = {role: part.take(np.argsort(part.index_N)) for role, part in parts.items()}
    folder = shards_folder(where) or (where if where.is_dir() else where.parent)
    return Splits(
        parts[TRAINING], parts[TEST], names, folder.resolve().name, "; ".join(said),
        numbered=first.class_names is None, validation=parts.get(VALIDATION), membership=membership, target=target,
    )  # fmt: skip


def open_parts(found: Layout, options: DataOptions) -> tuple[FileSource, dict[str, FileSource], tuple[str, ...]]:
    """(what the training list holds, role -> images of each part that there is, the names of the classes or their
    numbers); nothing is held out.
    """
    first = open_list(found.training, options=options)
    others = {role: open_list(path, first.class_names, options=options) for role, path in found.parts[1:]}
    parts = _by_role(first) | others
    if TRAINING not in parts:
        raise DataError(f"{first.location(0)}: no image is in the training part; correct the column, or remove it")
    names = first.class_names or _numbers([*parts.values()])
    return first, {role: part.by_class_and_name() for role, part in parts.items()}, names


def _by_role(whole: FileSource) -> dict[str, FileSource]:
    """The parts of a table that says which row is in which; of two parts, the second is the test part."""
    if whole.roles is None:
        return {TRAINING: whole}
    roles_N = np.array(whole.roles)[whole.index_N]
    parts = {role: whole.take(np.flatnonzero(roles_N == role)) for role in (TRAINING, VALIDATION, TEST)}
    parts = {role: part for role, part in parts.items() if len(part)}
    if TEST not in parts and VALIDATION in parts:
        parts[TEST] = parts.pop(VALIDATION)
    return parts


def _refuse_one_class(place: Path, name: str) -> None:
    inside = sorted(place.iterdir()) if place.is_dir() else []
    tables = [path for path in inside if path.suffix.lower() in ENDINGS]
    hint = f"the table itself: {tables[0]}" if tables else "a folder with a subfolder for each class, or a list"
    raise DataError(f"{place} holds only one class ({name}), but a classifier needs two; give {hint}")


def open_list(
    path: Path, classes: Sequence[str] | None = None, on_fault: OnFault | None = None, options: DataOptions = AS_FOUND
) -> FileSource:
    """The images that `path` lists, numbered by the known `classes`. See the files of `sources`."""
    listed, group = path.is_file() and is_table(path), options.group or options.columns.group
    if listed and group and group in read_header(path):
        options, group = replace(options, columns=replace(options.columns, group=group)), None
    part = replace(_open_list(path, classes, on_fault, options), max_pixels=options.max_pixels)
    return grouped(part, group) if group else part


def _open_list(path: Path, classes: Sequence[str] | None, on_fault: OnFault | None, options: DataOptions) -> FileSource:
    if options.target != "class" and not (path.is_file() and is_table(path)):
        kind = "numbers" if options.target == "number" else "the classes"
        raise DataError(
            f"{path}: data.target={options.target} needs a table (CSV, TSV, JSON) with {kind} of each image; here "
            f"each image has one class"
        )
    if is_shards(path):
        return (open_parquets if is_parquet(shard_files(path)[0]) else open_shards)(path, classes, on_fault, options)
    if path.is_dir():
        return (open_lmdb if is_lmdb(path) else open_folder)(path, classes, on_fault)
    if is_table(path):
        return open_table(path, classes, on_fault, options)
    refuse_other_kinds(path)
    if lists_paths(path):
        return open_map_file(path, classes, on_fault, options)
    return open_base64(path, classes, on_fault)


def open_own_test(
    place: Path, layout: Layout, class_names: Sequence[str], learned: Learned, options: DataOptions = AS_FOUND
) -> tuple[Source, str]:
    """The test part of a user's own images; of one part all of it, but for what the model has `learned` from."""
    path = layout.test or layout.training
    if is_ctf_set(layout):
        return open_ctf_test(place, layout, learned, options)
    if is_table(layout.training):
        options = label_columns(layout.training, class_names, options)
    grouped_as_learned = replace(options, group=options.group or learned.group)
    whole = open_list(path, class_names, options=options)
    tested = whole if layout.test else _by_role(whole).get(TEST)
    part = (tested or whole).by_class_and_name()
    said = [shown(path), *layout.notes, *layout.left_out, *filter(None, [part.passed_over])]
    if tested:
        return part, "; ".join(said)
    if learned.membership:
        with suppress(UsageError):  # another set, without such groups
            part = open_list(path, class_names, options=grouped_as_learned).by_class_and_name()
        found = find_held_out(part, learned.membership, options.watch)
        return (found[0], "; ".join([f"{shown(place)}, {found[1]}", *said[1:]])) if found else (part, "; ".join(said))
    if learned.fingerprint:  # all that an exported model knows of it
        try:
            splits = open_lists(place, layout, options=grouped_as_learned)
            if splits.fingerprint() == learned.fingerprint:
                return splits.test, f"{shown(place)}, the part held out in training"
        except (DataError, UsageError):  # too few images of each class, or no such groups: another set
            pass
    return part, "; ".join(said)


def collect_lists(
    place: Path, classes: Sequence[str] | None, on_fault: OnFault, options: DataOptions = AS_FOUND
) -> list[tuple[str, Source]]:
    """(role, part) of the parts at `place`, as `open_list`; where nothing of one can be read, that is a fault."""
    if place.is_file() and not is_ctf(place):
        refuse_other_kinds(place)
    layout, parts = find_lists(place, classes or ()), list[tuple[str, Source]]()
    if layout is None:
        raise no_images(place)
    for note in layout.notes:
        on_fault("layout", str(place), note, "rename it if it is something else")
    for note in layout.left_out:
        on_fault("left out", str(place), note, "move it elsewhere, or into one of the parts")
    for role, path in layout.parts:
        try:
            part = collect_ctf(path, on_fault) if is_ctf_set(layout) else open_list(path, classes, on_fault, options)
        except MissingDataError:
            raise
        except DataError as error:
            on_fault("unreadable", shown(path), str(error).removeprefix(f"{path}: "), "correct it, and check again")
            continue
        if isinstance(part, FileSource):
            classes = classes or part.class_names
            parts += [(role, part)] if role != TRAINING or layout.test else _by_role(part).items()
        elif part is not None:
            parts.append((role, part))
    return parts


def _numbers(parts: Sequence[Source]) -> tuple[str, ...]:
    """Classes without names are called by their numbers; these may have gaps, but must not look like years or
    identifiers."""
    last = max(parts, key=lambda part: int(part.labels_N.max()))
    count, index = sum(map(len, parts)), int(last.labels_N.argmax())
    label = int(last.labels_N[index])
    if label >= max(MANY_CLASSES, count):
        raise DataError(
            f"{last.location(index)}: class {label} in a list of {count} images; check that this is the column of "
            f"class numbers, and if so, name all classes in a labels.txt beside the list"
        )
    return tuple(map(str, range(1 + label)))


def refuse_other_kinds(path: Path) -> None:
    """Raise `FormatError` for files that are not lists of images, such as an image, or an IDX file, whose labels are in
    another file."""
    with open_lines(path) as file:
        head = file.read(64)
    if head.startswith(b"\0\0\x08"):
        what = "an IDX file, not a list of images; give the folder with all files of MNIST"
        raise FormatError(path, "byte 0", f"{what}, or make your own Splits (docs/reference/old-formats.md)")
    if (zero := head.find(b"\0")) >= 0:
        what = "a zero byte: a binary or UTF-16 file, not a list of images; give folders of classes"
        raise FormatError(path, f"byte {zero}", f"{what}, or text in UTF-8 with lines path TAB class number")


def is_packed(path: Path) -> bool:
    with open_lines(path) as file:
        head = file.read(_HEAD_BYTES)
    return head.startswith(_ARCHIVES) or head[257:262] == b"ustar"
