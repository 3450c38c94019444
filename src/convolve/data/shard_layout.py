"""Which files are shards (tar, Parquet), and the part that each belongs to: train-000000.tar, val/000.tar,
x-{00..41}.tar.

`--data` names a shard, a folder of them, or several by a pattern: `*`, `?`, `[ab]`, and, as WebDataset has it, braces.
"""

import glob
import os
import re
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path, PurePosixPath

from convolve import remote
from convolve.data.layout import Layout, by_role, with_roles
from convolve.data.walk import ENDINGS, holds_images, is_hidden, subfolders
from convolve.errors import DataError, MissingDataError
from convolve.formats.parquet import ENDING as PARQUET
from convolve.formats.part_names import TRAINING, role_of
from convolve.formats.tar_index import tar_members

ENDINGS_OF_SHARDS = (".tar", PARQUET)
CLASS_LISTS = ("classes.csv", "classes.tsv")  # beside shards: the class of each key

_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}")
_PATTERN = re.compile(r"[*?\[{]")
_LOOKED_AT = 20  # members of an archive that decide whether it is a shard
_MOST = 1_000_000  # shards of a pattern


def find_shards(where: Path) -> Layout | None:
    """The parts of the set of shards at `where`; None if there are none.

    A part is a folder, a shard, or a pattern. Parts are recognized by the names of the shards, or by their folders.
    """
    if is_shards(where):
        return _by_names(where)
    if url := remote.address(where):
        inside = [Path(folder) for folder in remote.names(url)[1]]
    else:
        inside = subfolders(where) if where.is_dir() else []
    if len(inside) == 1 and inside[0].name == "data" and (found := find_shards(inside[0])):
        return found  # a repository of Hugging Face
    folders = [(folder, folder.name) for folder in inside if role_of(folder.name) and is_shards(folder)]
    parts = by_role(folders)
    if remote.address(where) and TRAINING not in parts:
        what = "there are no shards, and none in the folders train/ and val/"
        raise MissingDataError(
            f"{remote.address(where)}: {what}; correct the address, or write shards there with "
            f"`convolve prepare shards`"
        )
    return with_roles(parts) if TRAINING in parts else None


def is_shards(where: Path) -> bool:
    """Whether there are shards at `where`: tar archives with labels beside their images; a pattern always counts."""
    if remote.address(where):
        return bool(shard_files(where))
    files = (
        shard_files(where) if where.is_dir() or is_pattern(where) or where.suffix.lower() in ENDINGS_OF_SHARDS else []
    )
    if not files or (where.is_dir() and any(map(holds_images, subfolders(where)))):  # folders of classes come first
        return False
    return is_pattern(where) or _is_shard(files[0], class_list(where) is not None)


def shards_folder(where: Path) -> Path | None:
    """The folder of a set of shards; None for other sets."""
    if is_shards(where):
        return folder_of(where)
    return where if remote.address(where) else None


def is_parquet(file: Path) -> bool:
    return file.suffix.lower() == PARQUET


def is_pattern(where: Path) -> bool:
    return bool(_PATTERN.search(str(where))) and not where.exists()


def folder_of(path: Path) -> Path:
    """The folder that the shards are in."""
    return path if path.is_dir() else shard_files(path)[0].parent


def shard_files(where: Path) -> list[Path]:
    """The shards of a folder, of a pattern, or the one at `where`, sorted by name."""
    if where.is_dir():
        inside = os.listdir(where)  # noqa: PTH208  as in layout.py
        names = [name for name in inside if name.lower().endswith(ENDINGS_OF_SHARDS)]
        return _of_one_kind(where, [where / name for name in sorted(names) if not is_hidden(name)])
    if url := remote.address(where):
        return _of_one_kind(where, [Path(each) for each in _remote_files(url)])
    if not is_pattern(where):
        return [where]
    found: list[Path] = []
    for text in islice(_expanded(str(where)), _MOST):
        files = globbed(text) if re.search(r"[*?\[]", text) else [text]
        found += [Path(file) for file in files if file.lower().endswith(ENDINGS_OF_SHARDS)]
    if not found:
        raise MissingDataError(f"no file matches {where}; correct the pattern, or put the shards there")
    if missing := next((path for path in found if not path.exists()), None):
        raise MissingDataError(
            f"{missing}, which {where} names, does not exist; get that shard, or correct the pattern"
        )
    return _of_one_kind(where, found)


def globbed(pattern: str) -> list[str]:
    """In the same order on all systems: Windows has backslashes, which sort after capitals."""
    return sorted(glob.glob(pattern), key=lambda file: file.replace(os.sep, "/"))  # noqa: PTH207  a whole pattern


@cache
def _remote_files(url: str) -> tuple[str, ...]:
    """Asked once: a training keeps to what is there now."""
    if not _PATTERN.search(url):
        return (url,) if url.lower().endswith(ENDINGS_OF_SHARDS) else _shards_in(remote.names(url)[0])
    each = (remote.matching(text) if re.search(r"[*?\[]", text) else [text] for text in islice(_expanded(url), _MOST))
    return _shards_in([name for names in each for name in names])


def _shards_in(names: list[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name.lower().endswith(ENDINGS_OF_SHARDS))


def _of_one_kind(where: Path, files: list[Path]) -> list[Path]:
    """Tar archives before Parquet: one may be an unpacked copy of the other."""
    kinds = {is_parquet(file) for file in files}
    if len(kinds) > 1 and is_pattern(where):
        raise DataError(f"{where} matches tar archives and Parquet files; name one kind")
    return [file for file in files if len(kinds) < 2 or not is_parquet(file)]


def _expanded(text: str) -> Iterator[str]:
    """The texts that braces stand for: x-{08..10} is x-08, x-09, x-10; {a,b} is a, b."""
    found = _BRACES.search(text)
    if found is None:
        yield text
        return
    first, last, words = found.groups()
    if words is None:
        choices: list[str] | Iterator[str] = (f"{n:0{len(first)}}" for n in range(int(first), int(last) + 1))
    else:
        choices = words.split(",")
    for choice in choices:
        yield from _expanded(text[: found.start()] + choice + text[found.end() :])


def class_list(where: Path) -> Path | None:
    """The table with the classes of the keys in the shards at `where`; for train/ and val/, it may be one folder up."""
    folder = folder_of(where)
    bases = [folder, folder.parent] if role_of(folder.name) else [folder]
    if not remote.address(folder):
        return next((base / name for base in bases for name in CLASS_LISTS if (base / name).is_file()), None)
    there = (f"{remote.address(base)}/{name}" for base in bases for name in CLASS_LISTS)
    return next((remote.copy(name) for name in there if remote.exists(name)), None)


@cache
def _is_shard(file: Path, has_list: bool) -> bool:
    """Whether an archive is a shard, by its first members: a label has an image's key, or could have."""
    if is_parquet(file):
        return True
    try:
        names = [PurePosixPath(member.name) for member in islice(tar_members(file), _LOOKED_AT)]
    except DataError:
        return False
    endings = [(str(name.parent / name.name.partition(".")[0]), name.name.partition(".")[2].lower()) for name in names]
    images = {key for key, ending in endings if f".{ending}" in ENDINGS}
    is_labeled = any(ending == "cls" or (ending == "json" and key in images) for key, ending in endings)
    return is_labeled or (has_list and bool(images))


def _by_names(where: Path) -> Layout:
    """The parts that the shards' names state: imagenet-train-0001.tar is of the training part."""
    files = shard_files(where)
    parts = dict.fromkeys(_role(file) for file in files)
    if len(parts) == 1 or TRAINING not in parts:
        return Layout(where)
    found: dict[str, Path] = {}
    for role in filter(None, parts):
        of_role = [file for file in files if _role(file) == role]
        found[role] = _pattern_of(of_role)
        if shard_files(found[role]) != of_role:
            raise DataError(
                f"{where}: no pattern matches only the {role} shards; put the shards of each part into a folder"
            )
    left_out = [f"{file.name} is left out: its name states no part" for file in files if _role(file) is None][:1]
    return with_roles(found, left_out)


def _role(file: Path) -> str | None:
    words = re.split(r"[-_.]", file.stem)
    return next(filter(None, map(role_of, words)), None)


def _pattern_of(files: list[Path]) -> Path:
    first, last = files[0].name, files[-1].name  # in sorted names, all share what these two share
    same = next((at for at, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
    start = first[:same].removesuffix(files[0].suffix)
    return files[0].parent / f"{start.rstrip('0123456789')}*{files[0].suffix}"
