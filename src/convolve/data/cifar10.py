"""CIFAR-10: 50,000 training and 10,000 test photographs of 32x32 pixels. Source: A. Krizhevsky, V. Nair, G. Hinton."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from convolve.data.ctf_table import read_ctf_table
from convolve.data.download import Progress, RemoteFile, download
from convolve.data.image_files import ENDINGS
from convolve.data.labelled_images import ClassFolders, has_class_folders, on_disk, read_class_folders
from convolve.data.locate import SAMPLE, cache_folder, locate
from convolve.data.streaming import Streamed, naming
from convolve.data.table import DataSet, Table
from convolve.errors import DataError, MissingDataError
from convolve.formats.archive import ByteReader
from convolve.formats.cifar_binary import CifarBatch, parse_cifar_binary, read_bytes
from convolve.formats.cifar_python import parse_cifar_python
from convolve.formats.decode import decode_image
from convolve.formats.image_map import ImageMap, read_image_map
from convolve.formats.tar import read_tar

# Legend: N samples, C channels (R, G, B), H rows, W columns.

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CTF_TRAIN, CTF_TEST = "Train_cntk_text.txt", "Test_cntk_text.txt"  # the names that CNTK's own script gives
MAP_TRAIN, MAP_TEST = "train_map.txt", "test_map.txt"
PADDING, PADDING_VALUE = 4, 128  # around the training pictures that CNTK's script writes

_SIDE = 32
_SHAPE_CHW = (3, _SIDE, _SIDE)
_PADDED_SIDE = _SIDE + 2 * PADDING
_MIRRORS = (
    "https://www.cs.toronto.edu/~kriz/",
    "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/",
)
# Size and MD5 sum of the file as A. Krizhevsky published it.
_ARCHIVE = RemoteFile("cifar-10-binary.tar.gz", _MIRRORS, 170_052_171, "c32a1d4ab5d03f1284b67883e8d87530")


@dataclass(frozen=True)
class Version:
    """A form in which the data set is published: the archive, the folder in it, and the files in that."""

    name: str
    archive: str
    folder: str
    train: tuple[str, ...]
    test: str
    parse: Callable[[bytes, object], CifarBatch]

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.train, self.test)


_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
VERSIONS = (
    Version(
        "binary", _ARCHIVE.name, "cifar-10-batches-bin",
        tuple(f"{name}.bin" for name in _BATCHES), "test_batch.bin", parse_cifar_binary,
    ),
    Version("Python", "cifar-10-python.tar.gz", "cifar-10-batches-py", _BATCHES, "test_batch", parse_cifar_python),
)  # fmt: skip


def load_cifar10(where: str | None = None, progress: Progress | None = None) -> DataSet:
    """CIFAR-10 from the folder or archive that `where` (--data) leads to; the cache folder is filled by download.

    A folder holds, in the order in which they are looked for: the binary or the Python version, unpacked or as
    .tar.gz; the CTF files or the map files of CNTK's script, which also tell the chunks that data.order=cntk follows;
    pictures of 32x32 as train/<class>/... and test/<class>/... A tar archive holds one of the versions, or pictures.
    Raises `MissingDataError` where there is none of these, `DataError` where they are damaged.
    """
    given = Path(where).expanduser() if where and where != SAMPLE else None
    place = given if given and given.is_file() else locate("cifar10", where)
    try:
        if place.is_file():
            return _from_archive(place)
        found = _from_folder(place)
        return found if found else _from_archive(_obtained(place, progress))
    except OSError as error:
        raise DataError(f"cannot read {error.filename or place}: {error.strerror or error}") from error


def _obtained(folder: Path, progress: Progress | None) -> Path:
    """The archive, downloaded if `folder` is our own; else the error that says what to do instead."""
    reason = f"no CIFAR-10 in {folder}"
    if folder == cache_folder("cifar10"):
        try:
            download([_ARCHIVE], folder, progress)
            return folder / _ARCHIVE.name
        except MissingDataError as error:
            reason = str(error)
    names = " or ".join(version.archive for version in VERSIONS)
    pairs = f"{CTF_TRAIN} and {CTF_TEST}, {MAP_TRAIN} and {MAP_TEST}, or train/<class>/ and test/<class>/"
    raise MissingDataError(f"{reason}; put {names} into {folder} (packed or unpacked), or {pairs}")


def _from_folder(folder: Path) -> DataSet | None:
    """What `folder` holds, or None if it is no form of CIFAR-10."""
    for version in VERSIONS:
        for inside in (folder / version.folder, folder):
            if any((inside / name).is_file() for name in version.files):
                return _from_batches(version, inside, {name: read_bytes(inside / name) for name in version.files})
    for version in VERSIONS:
        if (folder / version.archive).is_file():
            return _from_archive(folder / version.archive)
    if (folder / CTF_TRAIN).is_file() and (folder / CTF_TEST).is_file():
        train, test = (read_ctf_table(folder / name, len(CLASS_NAMES), _SHAPE_CHW) for name in (CTF_TRAIN, CTF_TEST))
        return DataSet(train, test, CLASS_NAMES, f"CIFAR-10, CTF files in {folder}")
    if (folder / MAP_TRAIN).is_file() and (folder / MAP_TEST).is_file():
        return _from_maps(folder)
    if has_class_folders(folder / "train") and has_class_folders(folder / "test"):
        train, test = (_table(read_class_folders(folder / part, CLASS_NAMES), _planes) for part in ("train", "test"))
        return DataSet(train, test, CLASS_NAMES, f"CIFAR-10, pictures in {folder}")
    return None


def _from_archive(path: Path) -> DataSet:
    members = read_tar(path, _is_wanted)
    full_names = {PurePosixPath(name).name: name for name in members}
    for version in VERSIONS:
        if not full_names.keys().isdisjoint(version.files):
            if missing := [name for name in version.files if name not in full_names]:
                raise MissingDataError(f"{path} has no {', '.join(missing)}; get the official archive again")
            return _from_batches(version, path, {name: members[full_names[name]] for name in version.files})
    if not members:
        raise MissingDataError(
            f"{path} holds no CIFAR-10: neither {' nor '.join(version.test for version in VERSIONS)}, nor pictures as "
            "train/<class>/... and test/<class>/...; get the official archive"
        )
    train, test = (_table_from_members(path, members, part) for part in ("train", "test"))
    return DataSet(train, test, CLASS_NAMES, f"CIFAR-10, pictures in {path}")


def _is_wanted(member: PurePosixPath) -> bool:
    return any(member.name in version.files for version in VERSIONS) or _is_picture(member)


def _is_picture(member: PurePosixPath) -> bool:
    """Whether it is .../train/<class>/<picture> or .../test/<class>/<picture>."""
    part, class_name = ("", "", *member.parts[:-1])[-2:]
    known = part in ("train", "test") and class_name in CLASS_NAMES
    return known and member.suffix.lower() in ENDINGS and not member.name.startswith(".")


def _from_batches(version: Version, place: Path, contents: Mapping[str, bytes]) -> DataSet:
    def table(names: tuple[str, ...]) -> Table:
        batches = [version.parse(contents[name], place / name) for name in names]
        images_NCHW = np.concatenate([batch.images_NCHW for batch in batches])
        labels_N = np.concatenate([batch.labels_N for batch in batches])
        return Table(torch.from_numpy(images_NCHW), torch.from_numpy(labels_N))

    source = f"CIFAR-10, {version.name} version in {place}"
    return DataSet(table(version.train), table((version.test,)), CLASS_NAMES, source)


def _from_maps(folder: Path) -> DataSet:
    """What CNTK's script writes has padded training pictures; recipes that want padding do it themselves."""
    train, test = (read_image_map(folder / name, len(CLASS_NAMES)) for name in (MAP_TRAIN, MAP_TEST))
    with ByteReader() as reader, naming(train.place(0)):
        first_HWC = decode_image(reader.read(train.location(0)), train.location(0))
    padded = first_HWC.shape[:2] == (_PADDED_SIDE, _PADDED_SIDE)
    source = f"CIFAR-10, map files in {folder}" + (", the padding of the training pictures taken off" if padded else "")
    tables = _table(train, _without_padding if padded else _planes), _table(test, _planes)
    return DataSet(*tables, CLASS_NAMES, source)


def _table(images: ClassFolders | ImageMap, fit: Callable[[np.ndarray], np.ndarray]) -> Table:
    return Streamed(on_disk(images, images.labels_N), lambda image_HWC, _: fit(image_HWC)[None], grey=False).load()


def _table_from_members(path: Path, members: dict[str, bytes], part: str) -> Table:
    names = sorted(name for name in members if PurePosixPath(name).parts[-3] == part)
    if not names:
        raise MissingDataError(f"{path} has no pictures as {part}/<class>/...; pack them so, or give another archive")
    images_NCHW = np.empty((len(names), *_SHAPE_CHW), np.uint8)
    for image_CHW, name in zip(images_NCHW, names, strict=True):
        with naming(str(path / name)):
            image_CHW[...] = _planes(decode_image(members[name], path / name))
    labels_N = np.array([CLASS_NAMES.index(PurePosixPath(name).parts[-2]) for name in names])
    return Table(torch.from_numpy(images_NCHW), torch.from_numpy(labels_N))


def _planes(image_HWC: np.ndarray) -> np.ndarray:
    """BGR as decoded -> planes of R, G and B."""
    _require_side(image_HWC, _SIDE)
    return np.ascontiguousarray(image_HWC[:, :, ::-1].transpose(2, 0, 1))


def _without_padding(image_HWC: np.ndarray) -> np.ndarray:
    _require_side(image_HWC, _PADDED_SIDE)
    inside = slice(PADDING, -PADDING)
    border_HW = np.ones((_PADDED_SIDE, _PADDED_SIDE), bool)
    border_HW[inside, inside] = False
    if (image_HWC[border_HW] != PADDING_VALUE).any():
        padding = f"a border of {PADDING} pixels of value {PADDING_VALUE}, as CNTK's script pads"
        raise DataError(f"expected {padding}, got another; give pictures of {_SIDE} x {_SIDE}, padded all or none")
    return _planes(image_HWC[inside, inside])


def _require_side(image_HWC: np.ndarray, side: int) -> None:
    height, width, _ = image_HWC.shape
    if (height, width) != (side, side):
        raise DataError(f"expected {side} x {side} pixels, got {width} x {height}; scale the picture, or leave it out")
