"""Any labeled images as WebDataset shards: tar archives of about the same size, with mixed classes.

train-000000.tar, train-000001.tar, ...     KEY.jpg and KEY.cls, the class number; val-..., test-... of other parts
labels.txt                                  the names of class 0, 1, ..., one per line
train-index.npz                             where each image is; needed if the shards are on a server
prepared.json                               which images these are

The same images give the same bytes, whichever worker writes them and in whatever order; a complete shard is kept.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from convolve import remote
from convolve.atomic import replacing
from convolve.cache import cache_folder
from convolve.data.ctf_sets import is_ctf_set
from convolve.data.known import open_published, unpacked
from convolve.data.lists import find_lists, open_parts
from convolve.data.options import AS_FOUND, DataOptions
from convolve.data.sources.files import Embedded, FileSource
from convolve.data.sources.shard_index import index_name, save_index
from convolve.data.sources.shards import stamped
from convolve.data.sources.source import Source
from convolve.data.team import ALONE, Team
from convolve.data.walk import ENDINGS
from convolve.errors import ConvolveError, DataError, UsageError
from convolve.formats.decode import Decoding
from convolve.formats.image_kind import HEAD_BYTES, image_kind
from convolve.formats.part_names import TEST, TRAINING, VALIDATION
from convolve.formats.tar_index import BLOCK, read_at, tar_header, tar_members
from convolve.prepare.output import LABELS, Output, Report, claimed

SHARD_MB = 100  # a hundred photographs make no shard, and a shard is to be read in a second over a good network

_MB = 1_000_000
_NAMES = {TRAINING: "train", VALIDATION: "val", TEST: "test"}
_MEASURED = 1000  # images that tell how large they are
_LONGEST_NAME = 100  # bytes of a member's name in plain ustar
_THREADS = os.cpu_count() or 4
_ENDING_OF = {"JPEG": ".jpg", "JPEG 2000": ".jp2", "TIFF": ".tif", "PNM": ".ppm"}  # other files keep their own ending


def prepare_shards(
    source: Path | None,
    out: Path,
    options: DataOptions = AS_FOUND,
    shard_mb: int = SHARD_MB,
    team: Team = ALONE,
) -> Iterator[Report]:
    """Write the images at `source` (whatever --data takes) into shards of about `shard_mb` megabytes."""
    if source is None:
        raise UsageError("give --source, the images, in any form that --data takes")
    parts, names, fingerprint = _opened(source, options)
    plans = [_plan(_NAMES[role], part, shard_mb) for role, part in parts.items()]
    origin = {"dataset": "shards", "data_fingerprint": fingerprint, "shard_mb": str(shard_mb)}
    url = remote.address(out)
    folder = out if url is None else cache_folder("outgoing") / hashlib.sha256(url.encode()).hexdigest()[:24]
    with claimed(folder, origin, [shard.name for plan in plans for shard in plan], team) as output:
        target = _Target(output, url)
        if names:
            yield output.labels(names)
            target.send(LABELS)
        for (role, part), plan in zip(parts.items(), plans, strict=True):
            written = _write_all(target, plan)
            kept = f", {len(plan) - written:,} of them already there" if written < len(plan) else ""
            if team.rank == 0:
                index = output.folder / index_name(plan[0].name)
                save_index(index, stamped([target.place(each.name) for each in plan]))
            target.send(index_name(plan[0].name))
            counts = {"images": len(part), "shards": len(plan), "written": written}
            yield Report(url or output.folder, f"{len(part):,} {role} images in {len(plan):,} shards{kept}", counts)


@dataclass(frozen=True)
class _Target:
    """Where the files of `output` go: they stay there, or are sent to `url`."""

    output: Output
    url: str | None

    def place(self, name: str) -> Path:
        return Path(f"{self.url.rstrip('/')}/{name}") if self.url else self.output.folder / name

    def send(self, name: str) -> None:
        """Send a file to its place, if that is a server."""
        if (there := remote.address(self.place(name))) and self.output.team.rank == 0:
            remote.put(self.output.folder / name, there)

    def holds(self, shard: _Shard) -> bool:
        """Whether the shard is there, complete. A remote one counts if it is unchanged since it was sent from here."""
        there, record = remote.address(self.place(shard.name)), self.output.folder / f"{shard.name}.sent"
        if there is None:
            path = self.place(shard.name)
            return path.exists() and _keys_in(path) == list(shard.keys)
        return record.is_file() and remote.exists(there) and record.read_text("utf-8") == repr(remote.state(there))

    def send_away(self, shard: _Shard) -> None:
        """Send a shard to its remote place, and record its state there."""
        if there := remote.address(self.place(shard.name)):
            remote.put(self.output.folder / shard.name, there)
            (self.output.folder / shard.name).unlink()  # first: after the record, nobody would remove it
            (self.output.folder / f"{shard.name}.sent").write_text(repr(remote.state(there)), "utf-8")


def _opened(place: Path, options: DataOptions) -> tuple[dict[str, Source], Sequence[str], str]:
    """(role -> images of each part, all in the order of classes and names; the class names, if there are any; a hash of
    these images)."""
    place = unpacked(place.expanduser())
    found = find_lists(place)
    if found is None or is_ctf_set(found):
        if found:
            raise UsageError(f"{place} contains numbers, not images; shards are for images")
        splits = open_published(place, "", file_order=False, progress=None)
        return dict(splits.parts), splits.class_names, splits.fingerprint()
    first, parts, names = open_parts(found, options)
    digest = hashlib.sha256(b"".join(part.digest() for part in parts.values())).hexdigest()
    return dict(parts), names if first.class_names else (), digest


@dataclass(frozen=True, eq=False)
class _Shard:
    """The images of `part` for the file `name`: their numbers and keys."""

    name: str
    part: Source
    numbers: tuple[int, ...]
    keys: tuple[str, ...]


def _plan(name: str, part: Source, shard_mb: int) -> list[_Shard]:
    """Which images go into which shard: ordered by a hash of their keys, so that each shard has images of all classes.

    The images' usual size determines how many are in each.
    """
    if part.labels_N.ndim != 1:
        raise UsageError("images in shards have one class each; leave out --target")
    keys = _keys(part)
    order = sorted(range(len(part)), key=lambda index: hashlib.blake2b(os.fsencode(keys[index])).digest())
    measured = range(0, len(part), max(1, len(part) // _MEASURED))
    usual = np.mean([len(_encoded(part, index)[0]) + 4 * BLOCK for index in measured])
    count = max(1, round(len(part) * usual / (shard_mb * _MB)))
    pieces = [order[len(part) * n // count : len(part) * (n + 1) // count] for n in range(count)]
    return [
        _Shard(f"{name}-{n:06}.tar", part, tuple(piece), tuple(keys[index] for index in piece))
        for n, piece in enumerate(filter(None, pieces))
    ]


def _keys(part: Source) -> list[str]:
    """The folder and name of each image's file, without ending, or the number of an image that has no file of its own.

    A key ends at the first dot, so dots in names become `_`. If names are not unique, the number is added.
    """
    names = [f"{number:07}" for number in range(len(part))]
    if not isinstance(part, FileSource) or isinstance(part.listing, Embedded):
        return names
    files = [PurePosixPath(part.file(index).replace("\\", "/").replace("@/", "/")) for index in range(len(part))]
    keys = [f"{file.parent.name}/{file.stem}".lstrip("/").replace(".", "_") for file in files]
    counts = Counter(keys)
    keys = [key if counts[key] == 1 else f"{key}-{name}" for key, name in zip(keys, names, strict=True)]
    fits = (len(os.fsencode(key)) < _LONGEST_NAME - max(map(len, ENDINGS)) for key in keys)
    return [key if fit else name for key, name, fit in zip(keys, names, fits, strict=True)]


def _encoded(part: Source, index: int) -> tuple[bytes, str]:
    """The content of an image's file, and the ending of its name; pixels become a PNG file."""
    if isinstance(part, FileSource):
        content, ending = part.read(index), PurePosixPath(part.file(index)).suffix.lower()
        if ending not in ENDINGS:
            kind = image_kind(content[:HEAD_BYTES])
            if kind is None:
                raise DataError(f"{part.location(index)}: this is not an image; see `convolve check-data`")
            ending = _ENDING_OF.get(kind.name, f".{kind.name.lower()}")
        return content, ending
    image_HWC = part.load(index, Decoding())
    if image_HWC.dtype != np.uint8:
        raise UsageError(f"{part.location(index)}: its pixels are not bytes, as image files need")
    return cv2.imencode(".png", image_HWC)[1].tobytes(), ".png"


def _write_all(target: _Target, plan: Sequence[_Shard]) -> int:
    """Write the shards; returns how many were missing. Threads suffice: reading, hashing, writing release the GIL."""

    def compute(numbers: range) -> Iterator[bool]:
        with ThreadPoolExecutor(target.output.team.threads or _THREADS) as pool:
            begun = [pool.submit(_write, target, plan[number]) for number in numbers]
            try:
                yield from (future.result() for future in begun)
            finally:
                for future in begun:
                    future.cancel()

    return sum(target.output.team.blocks("shards", len(plan), 1, compute))


def _write(target: _Target, shard: _Shard) -> bool:
    """Write a shard unless it is there; returns whether it was written. It is read again, and must be as written."""
    if target.holds(shard):
        return False
    path = target.output.folder / shard.name
    labels_N, digests = shard.part.labels_N, list[bytes]()
    with replacing(path) as temporary:
        with temporary.open("wb") as file:
            for number, key in zip(shard.numbers, shard.keys, strict=True):
                content, ending = _encoded(shard.part, number)
                for name, each in ((f"{key}{ending}", content), (f"{key}.cls", b"%d" % labels_N[number])):
                    digests.append(_digest(each))
                    file.write(tar_header(name, len(each)) + each + bytes(-len(each) % BLOCK))
            file.write(bytes(2 * BLOCK))
        _verify(temporary, path, digests)
    target.send_away(shard)
    return True


def _keys_in(path: Path) -> list[str]:
    """The keys in an existing shard; none if it is damaged."""
    try:
        return [member.name.removesuffix(".cls") for member in tar_members(path) if member.name.endswith(".cls")]
    except DataError:
        return []


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content).digest()


def _verify(written: Path, path: Path, digests: Sequence[bytes]) -> None:
    """Raise `ConvolveError` unless the members of the file have these digests."""
    with written.open("rb") as file:
        found = [_digest(read_at(file.fileno(), member.size, member.start)) for member in tar_members(written)]
    if found != list(digests):
        raise ConvolveError(f"{path}: the file differs from what was written; the disk may be damaged: try another one")
