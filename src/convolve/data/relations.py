"""Images that must stay on one side of every split: groups that the user names, near copies, bursts, identical files.

Each image has a key: the hash of its bytes, up to `MOST_READ` images; beyond that, the hash of its class and file name,
without a search for near copies. An image's key does not depend on its location or on other images.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import pairwise
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from convolve.data.near_copies import Look, clusters, look_at, near_copies
from convolve.data.ordered_map import ordered_map
from convolve.data.sources.files import Embedded, FileSource
from convolve.data.sources.source import strata
from convolve.errors import DataError, UsageError
from convolve.formats.exif import capture

# Legend: N images, P pairs of images.

MOST_READ = 20_000  # images whose bytes are read before a training begins

_THREADS = min(16, os.cpu_count() or 4)  # each holds the bytes of one image and its pixels at a part of their size

_BURST_SECONDS = 2.0  # between two shutters of one camera
_FRAME = re.compile(r"(.*?)[-_ .]*(?:frame|frm)[-_ .]*\d+[-_ .]*", re.IGNORECASE)  # clip7_frame_0012
_LARGE_PART, _LARGE = 10, 16  # a cluster of more than a tenth of the set is doubtful, unless that is few
# How alike those are that no picture tells: files of the same bytes are more alike than any pictures of a burst are
# taken to be, and a group is never taken apart.
_BURST, _IDENTICAL, _GROUP = 0.995, 1.0, 3.0

Watch = Callable[[int, int], None]  # images that were looked at, images in all
Pairs = tuple[NDArray[np.int64], NDArray[np.float64]]  # pairs_P2, the earlier image first, and their likeness_P


@dataclass(frozen=True, eq=False)
class Relations:
    """`unit_N`: for each image the number of its unit, which must stay together; `said` describes the units.

    `key_N` is the hash of the image's bytes, or with `by_name` of its class and file name; `unit_key_N` the smallest of
    a unit, where a group counts as one image that is called by its name.
    """

    key_N: NDArray[np.uint64]
    unit_N: NDArray[np.int64]
    unit_key_N: NDArray[np.uint64]
    by_name: bool
    pairs_P2: NDArray[np.int64]
    said: tuple[str, ...]


def unwatched(done: int, count: int) -> None:
    """Hears of images that were looked at, and does nothing."""


def relate(source: FileSource, by_name: bool | None = None, watch: Watch = unwatched) -> Relations:
    """The relations of the images of `source`. `by_name`: None: if they are many. `watch` hears how many are read."""
    by_name = len(source) > MOST_READ if by_name is None else by_name
    groups = _groups(source)
    key_N, found, said = (_name_keys(source), [], []) if by_name else _look_through(source, watch)
    if groups:
        found.append(_same([name or number for number, name in enumerate(groups)], _GROUP))
        said.insert(0, f"{len({*groups} - {''}):,} groups stay whole")
    found.append(_same([] if by_name else key_N.tolist(), _IDENTICAL))
    pairs_P2, likeness_P = (np.concatenate(each) for each in zip(*found, strict=True))
    unit_N, pairs_P2 = clusters(len(source), pairs_P2, likeness_P, _doubtful(source))
    own_N = key_N.copy()
    for number, name in enumerate(groups):
        own_N[number] = hash_of(name) if name else key_N[number]
    unit_key_N = own_N.copy()
    np.minimum.at(unit_key_N, unit_N, own_N)
    return Relations(key_N, unit_N, unit_key_N[unit_N], by_name=by_name, pairs_P2=pairs_P2, said=tuple(said))


def hash_of(text: str | bytes) -> int:
    content = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    return int.from_bytes(blake2b(content, digest_size=8).digest())


def grouped(source: FileSource, pattern: str) -> FileSource:
    """`source` with groups: the match of a regular expression in the path of an image, or its first (group). Raises
    `UsageError` if it is invalid or matches nothing.
    """
    try:
        found = [re.search(pattern, source.file(index).replace("\\", "/")) for index in range(len(source))]
    except re.error as error:
        raise UsageError(f"the group {pattern} is neither a column nor a valid regular expression: {error}") from None
    if not any(found):
        raise UsageError(
            f"the group {pattern} is not a column, and as a regular expression it matches no path, such as "
            f"{source.file(0)}"
        )
    return replace(source, groups=[(each[1] if each.re.groups else each[0]) or "" if each else "" for each in found])


def _groups(source: FileSource) -> list[str]:
    """The group of each image, empty for one that is in none."""
    return [source.groups[number] for number in source.index_N.tolist()] if source.groups else []


def across_parts(parts: Sequence[FileSource]) -> Iterator[tuple[str, tuple[int, int], tuple[int, int]]]:
    """(name of a group, (number of the part, index) of its first image, and of the first in another part) of each that
    lies in several of the given parts. Where no groups are named, these are the frames of one video in one class.
    """
    first: dict[str, tuple[int, int]] = {}
    said: set[str] = set()
    for number, part in enumerate(parts):
        for index, name in enumerate(_groups(part) or map(_clip, map(part.file, range(len(part))))):
            place = first.setdefault(name, (number, index)) if name else (number, index)
            is_named = name and not name.endswith("/")  # frame_0012: nothing says of which video
            if is_named and place[0] != number and name not in said:
                said.add(name)
                yield name, place, (number, index)


def _doubtful(source: FileSource) -> Callable[[list[int]], bool]:
    """Whether a cluster is too large to be believed: more than a tenth of the set, or all there is of a class."""
    labels_N, most = strata(source.labels_N), max(_LARGE, len(source) // _LARGE_PART)
    in_all = Counter(labels_N.tolist())

    def is_too_large(numbers: list[int]) -> bool:
        inside = Counter(labels_N[numbers].tolist())
        return len(numbers) > most or any(count == in_all[label] > 1 for label, count in inside.items())

    return is_too_large


def _look_through(source: FileSource, watch: Watch) -> tuple[NDArray[np.uint64], list[Pairs], list[str]]:
    """(keys, pairs of images that are near copies or of one burst, what was found), from the bytes of all images."""

    def look(index: int) -> tuple[int, Look | None, tuple[str, float] | None] | None:
        try:
            content = source.read(index)
        except DataError:  # a missing image is an error when it is decoded, which names its line
            return None
        return hash_of(content), look_at(content, source.location(index)), capture(content)

    key_N, looks, taken = _name_keys(source), list[Look | None](), list[tuple[str, float] | None]()
    with closing(ordered_map(look, range(len(source)), _THREADS, ahead=64 * _THREADS)) as found:
        for index, each in enumerate(found):
            key_N[index], shown, when = each or (key_N[index], None, None)
            looks.append(shown)
            taken.append(when)
            watch(index + 1, len(source))
    pairs = near_copies(looks, _THREADS)
    kinds = {"near copies": pairs, "bursts": _bursts(taken), "numbered frames": _frames(source)}
    said = [f"{name} ({len({*each.ravel().tolist()}):,} images)" for name, (each, _) in kinds.items() if len(each)]
    return key_N, [*kinds.values()], [f"{' and '.join(said)} stay together"] if said else []


def _name_keys(source: FileSource) -> NDArray[np.uint64]:
    """Hashes of class, where an image has one, and file name; of an image that has no file, of class and line."""
    names, keys = source.class_names, np.zeros(len(source), np.uint64)
    has_classes = source.labels_N.ndim == 1
    for index, label in enumerate(source.labels_N.tolist()):
        file = source.file(index).replace("\\", "/").rpartition("/")[2]
        of_class = "" if not has_classes else names[label] if names else label
        keys[index] = hash_of(f"{of_class}\0{file}")
    return keys


def _same(values: Sequence[Hashable], likeness: float) -> Pairs:
    """Each image with the one before it that has the same value."""
    last: dict[Hashable, int] = {}
    pairs = []
    for number, value in enumerate(values):
        if value in last:
            pairs.append((last[value], number))
        last[value] = number
    return _pairs(pairs, likeness)


def _bursts(taken: Sequence[tuple[str, float] | None]) -> Pairs:
    """Photographs that one camera took within two seconds."""
    known = sorted((*when, number) for number, when in enumerate(taken) if when)
    pairs = [
        (one, other)
        for (camera, second, one), (other_camera, other_second, other) in pairwise(known)
        if camera == other_camera and other_second - second <= _BURST_SECONDS
    ]
    return _pairs(pairs, _BURST)


def _frames(source: FileSource) -> Pairs:
    """Files whose names say that they are frames of one video: clip7_frame_0012.jpg."""
    if isinstance(source.listing, Embedded):
        return _pairs([], _BURST)
    files = [source.file(index) for index in range(len(source))]
    clips = [(file.rpartition("/")[0], clip) if (clip := _clip(file)) else n for n, file in enumerate(files)]
    return _same(clips, _BURST)


def _clip(file: str) -> str:
    """The class folder and the video of a frame: cat/clip7; empty for other images."""
    path = PurePosixPath(file.replace("\\", "/"))
    found = _FRAME.fullmatch(path.stem)
    return f"{path.parent.name}/{found[1]}" if found else ""


def _pairs(pairs: Sequence[tuple[int, int]], likeness: float) -> Pairs:
    return np.array(sorted(map(sorted, pairs)), np.int64).reshape(-1, 2), np.full(len(pairs), likeness)
