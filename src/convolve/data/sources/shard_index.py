"""The index of a set of shards: the archive, the position, the name and the label of each image. It is made in one pass
over the headers, kept in the cache, and mapped into memory, where all workers of a machine share it: 34 bytes per
image, and its name. As in WebDataset, the members with the same key (their name up to the first dot) are one sample:
`cat/tom.jpg` with `cat/tom.cls` (a number, or the name of a class) or `cat/tom.json` (that, or an object with
it). Where no sample has either, the folders in the keys are the classes.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from tokenize import TokenError
from typing import Any, NamedTuple
from zipfile import ZIP_STORED

import numpy as np
from numpy.typing import NDArray

from convolve import cache
from convolve.atomic import open_ordinary, parse_json, read_ordinary, replacing
from convolve.data.walk import ENDINGS, is_hidden
from convolve.errors import DataError, FormatError
from convolve.formats.archive import Location
from convolve.formats.tar_index import Member, read_at, tar_members
from convolve.formats.zip_archive import ZIP_DAMAGE, Zip
from convolve.remote import address, exists, expect, local

# Legend: N images.

KIND = "indices"  # of the cache
IMAGE_ENDINGS = ENDINGS | {".heic", ".heif", ".pnm"}

_VERSION = 1  # of the file that may lie beside shards
_KEPT_VERSION = 2  # of what is in the cache
_ROW = np.dtype(
    [("shard", "<u4"), ("size", "<u4"), ("start", "<u8"), ("name", "<u8"), ("length", "<u2"), ("label", "<i4"),
     ("rank", "<u4")]
)  # fmt: skip
_LABELS = ("label", "cls", "class", "class_id", "class_name", "category", "target")  # of a .json, the first one counts
_MOST_LABEL_BYTES = 1 << 20  # a .json may say a lot besides
_MOST_IMAGE_BYTES = 1 << 28
_NO_LABEL = -1


class Shard(NamedTuple):
    """One archive: its path or address, and the state of it that was indexed."""

    name: str
    stamp: str

    @property
    def file(self) -> Path:
        """The archive as a file on this machine."""
        return local(self.name)


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """`rows_N` are the images (see `_ROW`), `names` their names, `labels` what their label numbers stand for.

    `rank`: the place of an image in the order of the names, in which the last part comes first. `labels` is empty if
    there are none.
    """

    rows_N: NDArray[Any]
    names: NDArray[np.uint8]
    labels: tuple[str, ...]

    def name(self, number: int) -> str:
        return self.place(number)[3]

    def key(self, number: int) -> str:
        return key_of(self.name(number))

    def place(self, number: int) -> tuple[int, int, int, str]:
        """(number of the shard, position of the image in it, its bytes, its name)."""
        shard, size, start, name, length, *_ = self.rows_N[number].item()
        return shard, start, size, self.names[name : name + length].tobytes().decode("utf-8", "surrogateescape")


def open_index(shards: Sequence[Shard]) -> ShardIndex:
    """The index of `shards`, from the cache, or made now. Raises `DataError` that names shard, key and way out."""
    _refuse_same_names(shards)
    told = json.dumps([_KEPT_VERSION, [(shard.name, shard.stamp) for shard in shards]])
    key = hashlib.sha256(told.encode("utf-8", "backslashreplace")).hexdigest()[:24]

    def make(folder: Path) -> None:
        index = _beside(shards) or _make(shards)
        np.save(folder / "rows.npy", index.rows_N)
        np.save(folder / "names.npy", index.names)
        told = {"labels": index.labels, "sha256": _digest(folder, index.labels)}
        (folder / "labels.json").write_bytes(json.dumps(told).encode())

    folder = cache.made_folder(KIND, key, make)
    try:
        told = parse_json(read_ordinary(folder / "labels.json").decode())
        labels = tuple(map(str, told["labels"]))
        if told["sha256"] != _digest(folder, labels):
            raise ValueError("its checksum differs")
        rows_N, names = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("rows", "names"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: the index is damaged ({error}); remove it, so that it is made again") from None
    # Plain arrays on the mapped memory: numpy.memmap takes several times as long for each access.
    return ShardIndex(np.asarray(rows_N), np.asarray(names), labels)


def _digest(folder: Path, labels: Sequence[str]) -> str:
    found = hashlib.sha256(json.dumps(labels).encode())
    for name in ("rows", "names"):
        with open_ordinary(folder / f"{name}.npy") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()


def save_index(path: Path, shards: Sequence[Shard]) -> None:
    """Write the index of `shards` as one file beside them, so that nobody has to read all of them first."""
    index = _make(shards)
    told = json.dumps({"version": _VERSION, "labels": index.labels, "shards": _sizes(shards)}).encode()
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, rows=index.rows_N, names=index.names, about=np.frombuffer(told, np.uint8))


def index_name(shard: str) -> str:
    """The name of the index beside shards with such a name: train-index.npz beside train-000000.tar."""
    return f"{shard.removesuffix('.tar').rstrip('0123456789').rstrip('-_.')}-index.npz"


def _beside(shards: Sequence[Shard]) -> ShardIndex | None:
    """The index that `prepare shards` wrote beside remote shards, if it belongs to these."""
    folder, _, name = shards[0].name.rpartition("/")
    url = f"{folder}/{index_name(name)}"
    if address(url) is None or not exists(url):
        return None
    try:
        return _read(local(url), shards)
    except (*ZIP_DAMAGE, KeyError, TypeError, SyntaxError, TokenError, MemoryError, AttributeError) as error:
        way = "remove it, or write the shards again"
        raise DataError(f"{url}: the index is damaged ({error}); {way}") from None


def _read(path: Path, shards: Sequence[Shard]) -> ShardIndex | None:
    """The index in a file that anybody may have written, uncompressed; None if it is of other shards."""
    with Zip(path) as archive:
        if any(info.compress_type != ZIP_STORED for info in archive.infolist()):
            raise ValueError("it is compressed")
        about, rows_N, names = (np.load(BytesIO(archive.read(f"{name}.npy"))) for name in ("about", "rows", "names"))
    told = parse_json(about.tobytes().decode())
    if told["version"] != _VERSION or told["shards"] != _sizes(shards):
        return None
    index = ShardIndex(rows_N, names, tuple(map(str, told["labels"])))
    if rows_N.dtype != _ROW or names.dtype != np.uint8 or rows_N.ndim != 1 or names.ndim != 1:
        raise ValueError("its numbers are of another type")
    bytes_S = np.array([size for _, size in told["shards"]], np.uint64)
    if rows_N["shard"].max(initial=0) >= len(shards) or rows_N["label"].max(initial=0) >= max(1, len(index.labels)):
        raise ValueError("it names a shard or a label that does not exist")
    ends_N = rows_N["start"].astype(np.float64) + rows_N["size"]
    if (ends_N > bytes_S[rows_N["shard"]]).any() or (rows_N["name"] + rows_N["length"] > len(names)).any():
        raise ValueError("it reaches beyond a shard or its names")
    if (np.sort(rows_N["rank"]) != np.arange(len(rows_N))).any() or rows_N["label"].min(initial=0) < _NO_LABEL:
        raise ValueError("its order or its labels are inconsistent")
    return index


def _sizes(shards: Sequence[Shard]) -> list[list[str | int]]:
    return [[shard.name.rpartition("/")[2], int(shard.stamp.split()[0])] for shard in shards]


def _refuse_same_names(shards: Sequence[Shard]) -> None:
    first: dict[str, str] = {}
    for shard in shards:
        name = shard.name.replace("\\", "/").rpartition("/")[2]
        other = first.setdefault(name, shard.name)
        if other != shard.name:
            raise DataError(
                f"the shards {other} and {shard.name} have the same name, {name}; rename one, or leave it out"
            )


@dataclass(slots=True)
class _Sample:
    """The image with a key, and what its .cls and its .json say."""

    image: Member | None = None
    cls: str | None = None
    json: str | None = None

    @property
    def label(self) -> str | None:
        return self.json if self.cls is None else self.cls


def _make(shards: Sequence[Shard]) -> ShardIndex:
    numbers: dict[str | None, int] = {None: _NO_LABEL}  # label -> its number in the index
    parts, names, hashes = [], [], []
    at = 0
    for number, shard in enumerate(shards):
        samples = _samples(shard)
        rows_N = np.zeros(len(samples), _ROW)
        encoded = [sample.image.name.encode("utf-8", "surrogateescape") for sample in samples.values() if sample.image]
        rows_N["shard"], rows_N["length"] = number, [len(name) for name in encoded]
        rows_N["start"] = [sample.image.start for sample in samples.values() if sample.image]
        rows_N["size"] = [sample.image.size for sample in samples.values() if sample.image]
        rows_N["label"] = [numbers.setdefault(sample.label, len(numbers) - 1) for sample in samples.values()]
        rows_N["name"] = at + np.cumsum(rows_N["length"], dtype=np.uint64) - rows_N["length"]
        at += sum(map(len, encoded))
        parts.append(rows_N)
        names.append(b"".join(encoded))
        hashes.append(np.fromiter((hash(key) for key in samples), np.int64, len(samples)))
    rows_N = np.concatenate(parts) if parts else np.zeros(0, _ROW)
    index = ShardIndex(rows_N, np.frombuffer(b"".join(names), np.uint8), tuple(filter(None, numbers)))
    _refuse_other_labels(shards, index, np.concatenate(hashes) if hashes else np.zeros(0, np.int64))
    if len(numbers) == 1:
        index = _labeled_by_folder(index)
    _refuse_mixed_labels(shards, index)
    rows_N["rank"][_by_name(index)] = np.arange(len(rows_N))
    return index


def _samples(shard: Shard) -> dict[str, _Sample]:
    """Key -> sample, in the order of the shard."""
    samples: dict[str, _Sample] = {}
    for member in tar_members(shard.file):
        name = member.name.removeprefix("./")
        folder, slash, base = name.rpartition("/")
        stem, _, ending = base.partition(".")
        if not stem or is_hidden(base) or _is_hidden_folder(folder):
            continue
        key, ending = f"{folder}{slash}{stem}", ending.lower()
        if f".{ending}" in IMAGE_ENDINGS:
            sample = samples.setdefault(key, _Sample())
            if sample.image:
                what = f"has two images, {sample.image.name} and {name}; leave out one, or give it a key of its own"
                raise FormatError(shard.name, f"key {key}", what)
            if not 0 < member.size <= _MOST_IMAGE_BYTES:
                what = f"its image has {member.size:,} bytes; write the shard again"
                raise FormatError(shard.name, f"key {key}", what)
            sample.image = Member(name, member.start, member.size, b"")
        elif ending in ("cls", "json") and (label := _label(shard, key, ending, member)) is not None:
            setattr(samples.setdefault(key, _Sample()), ending, label)
    for key, sample in samples.items():
        _require_whole(shard, key, sample)
    if not samples:
        what = "contains no image under any key (a member's name up to the first dot)"
        raise FormatError(shard.name, "", f"{what}; write the shard again")
    return samples


@lru_cache
def _is_hidden_folder(folder: str) -> bool:
    return any(map(is_hidden, filter(None, folder.split("/"))))


def _label(shard: Shard, key: str, ending: str, member: Member) -> str | None:
    """The label in a .cls or .json; None if a .json has no label."""
    content = member.head if len(member.head) == member.size else b""
    if member.size > len(content) and member.size <= _MOST_LABEL_BYTES:
        with open_ordinary(shard.file) as file:
            content = read_at(file.fileno(), member.size, member.start)
    try:
        text = content.decode().strip()
        found = parse_json(text) if ending == "json" else text
    except ValueError:
        raise FormatError(shard.name, f"key {key}", f"its .{ending} is damaged; write the shard again") from None
    if isinstance(found, dict):
        found = next((found[name] for name in _LABELS if name in found), None)
    if isinstance(found, bool | float | list | dict) or found is None or found == "":
        if ending == "json":
            return None
        raise FormatError(shard.name, f"key {key}", "its .cls is empty; write a class number or name")
    return str(found)


def _require_whole(shard: Shard, key: str, sample: _Sample) -> None:
    if sample.image is None:
        ending = "json" if sample.cls is None else "cls"
        what = f"has a label (.{ending}) but no image; add the image, or remove the label"
        raise FormatError(shard.name, f"key {key}", what)
    one, other = sample.cls, sample.json
    if one is not None and other is not None and one != other and is_number(one) == is_number(other):
        what = f"its labels differ: .cls says {one}, .json {other}; correct one of them, or leave it out"
        raise FormatError(shard.name, f"key {key}", what)


def is_number(label: str) -> bool:
    return label.isascii() and label.isdigit() and len(label) < 10


def _refuse_other_labels(shards: Sequence[Shard], index: ShardIndex, hashes_N: NDArray[np.int64]) -> None:
    """Raise `DataError` for a key that has different labels in two shards.

    Shards that all begin with the same key count their images anew: there, only the same image is the same sample.
    """
    rows_N, (_, first_N) = index.rows_N, np.unique(index.rows_N["shard"], return_index=True)
    counts_anew = len(shards) > 1 and len(set(hashes_N[first_N].tolist())) == 1
    alike_N2 = np.stack([hashes_N, rows_N["size"] if counts_anew else np.zeros_like(hashes_N)], 1)
    order_N = np.lexsort(alike_N2.T)
    seen: dict[tuple[str, bytes], int] = {}
    for at in np.flatnonzero((np.diff(alike_N2[order_N], axis=0) == 0).all(1)).tolist():
        pair = order_N[at : at + 2].tolist()
        keys = [(index.key(number), _content(shards, index, number) if counts_anew else b"") for number in pair]
        seen = seen if keys[0] in seen else {keys[0]: pair[0]}
        both = (seen.setdefault(keys[1], pair[1]), pair[1])
        if rows_N["label"][both[0]] != rows_N["label"][both[1]]:
            says = [f"{_label_of(index, number)} in {shards[rows_N['shard'][number]].name}" for number in both]
            way = "correct one, or leave one out"
            raise DataError(f"key {keys[1][0]}: its labels differ, {' and '.join(says)}; {way}")


def key_of(name: str) -> str:
    """The name of a member, up to the first dot after its folder."""
    folder, slash, base = name.rpartition("/")
    return f"{folder}{slash}{base.partition('.')[0]}"


def _label_of(index: ShardIndex, number: int) -> str:
    label = int(index.rows_N["label"][number])
    return "no label" if label == _NO_LABEL else index.labels[label]


def _content(shards: Sequence[Shard], index: ShardIndex, number: int) -> bytes:
    row = index.rows_N[number]
    with open_ordinary(shards[int(row["shard"])].file) as file:
        return read_at(file.fileno(), int(row["size"]), int(row["start"]))


def _labeled_by_folder(index: ShardIndex) -> ShardIndex:
    """The folders in the keys are the classes, if every key has a folder."""
    numbers: dict[str, int] = {}
    for number in range(len(index.rows_N)):
        folder = index.name(number).rpartition("/")[0].rpartition("/")[2]
        if not folder:
            index.rows_N["label"] = _NO_LABEL
            return index
        index.rows_N["label"][number] = numbers.setdefault(folder, len(numbers))
    return ShardIndex(index.rows_N, index.names, tuple(numbers))


def _refuse_mixed_labels(shards: Sequence[Shard], index: ShardIndex) -> None:
    """Raise `DataError` if some images have labels and others do not, or some have numbers and others names."""
    if not index.labels:
        return
    kinds_K = np.array([*(1 + is_number(label) for label in index.labels), 0])  # the last entry is for "no label"
    kinds_N = kinds_K[index.rows_N["label"]]
    if (kinds_N == kinds_N[0]).all():
        return
    said = []
    for number in (0, int(np.argmax(kinds_N != kinds_N[0]))):
        has = ("", "the name ", "the number ")[kinds_N[number]] + _label_of(index, number)
        said.append(f"key {index.key(number)} in {shards[index.rows_N['shard'][number]].name} has {has}")
    raise DataError(f"{' and '.join(said)}; label all images in the same way, by number or by name")


def _by_name(index: ShardIndex) -> NDArray[np.int64]:
    """The images in the order of their names, the last part first, as in `FileSource.by_class_and_name`."""
    content = index.names.tobytes()
    keys = [
        b"\0".join(content[start : start + length].split(b"/")[::-1])
        for start, length in zip(index.rows_N["name"].tolist(), index.rows_N["length"].tolist(), strict=True)
    ]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)


@dataclass(frozen=True, eq=False)
class ShardListing:
    """The images of `shards`, according to `index`. See `Listing` in files.py."""

    shards: tuple[Shard, ...]
    index: ShardIndex

    def location(self, number: int) -> Location:
        shard, start, size, name = self.index.place(number)
        return Location(self.shards[shard].name, name, start, size)

    def place(self, number: int) -> str:
        shard, *_, name = self.index.place(number)
        return f"{self.shards[shard].name}@/{name}"

    @property
    def is_remote(self) -> bool:
        return address(self.shards[0].name) is not None

    def expect(self, numbers_N: NDArray[np.int64]) -> None:
        """These images are read next, in this order."""
        if self.is_remote:
            numbers = dict.fromkeys(self.index.rows_N["shard"][numbers_N].tolist())
            expect([self.shards[number].name for number in numbers])

    def identity(self) -> bytes:
        return self.index.names.tobytes() + self.index.rows_N["size"].tobytes()
