"""CIFAR-10: 50,000 training and 10,000 test photographs of 32x32 pixels. Source: A. Krizhevsky, V. Nair, G. Hinton."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from convolve.cache import cache_folder
from convolve.data.archives import first_names
from convolve.data.caching import load
from convolve.data.dataset import Dataset
from convolve.data.download import Progress, RemoteFile, obtain
from convolve.data.locate import SAMPLE, locate
from convolve.data.sources.cifar import CLASS_NAMES, VERSIONS, find_version, is_cifar100, open_batches, open_files
from convolve.data.sources.ctf import open_ctf
from convolve.data.sources.files import file_source, naming
from convolve.data.sources.folder import has_class_folders, open_folder
from convolve.data.sources.source import ArraySource, Source
from convolve.data.splits import DatasetInfo, Splits, published
from convolve.data.walk import is_image_name
from convolve.errors import DataError, MissingDataError
from convolve.formats.decode import Decoding, decode_image
from convolve.formats.image_map import read_image_map
from convolve.formats.tar import read_tar

# Legend: N samples, C channels (R, G, B), H rows, W columns.

CTF_TRAIN, CTF_TEST = "Train_cntk_text.txt", "Test_cntk_text.txt"  # the names that CNTK's own script gives
MAP_TRAIN, MAP_TEST = "train_map.txt", "test_map.txt"
PADDING, PADDING_VALUE = 4, 128  # around the training pictures that CNTK's script writes

_SIDE = 32
INFO = DatasetInfo("cifar10", (3, _SIDE, _SIDE), CLASS_NAMES, 50_000, 10_000, checksum=0x3C3BB9358199402D)
_PADDED_SIDE = _SIDE + 2 * PADDING
_MIRRORS = (
    "https://www.cs.toronto.edu/~kriz/",
    "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/",
)
# Size and MD5 sum of the file as A. Krizhevsky published it.
_ARCHIVE = RemoteFile("cifar-10-binary.tar.gz", _MIRRORS, 170_052_171, "c32a1d4ab5d03f1284b67883e8d87530")


def load_cifar10(where: str | None = None, progress: Progress | None = None) -> Splits:
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
        if not found and place.is_dir():
            _refuse_cifar100(place, [str(path) for path in (place, *place.iterdir())])
        return found if found else _from_archive(_obtained(place, progress))
    except OSError as error:
        raise DataError(f"cannot read {error.filename or place}: {error.strerror or error}") from error


def _obtained(folder: Path, progress: Progress | None) -> Path:
    """The archive, downloaded if `folder` is our own; otherwise an error that says what to do."""
    names = " or ".join(version.archive for version in VERSIONS)
    pairs = f"{CTF_TRAIN} and {CTF_TEST}, {MAP_TRAIN} and {MAP_TEST}, or train/<class>/ and test/<class>/"
    instead = f"put {names} into {folder} (packed or unpacked), or {pairs}"
    obtain([_ARCHIVE], folder, cache_folder(INFO.name), f"there is no CIFAR-10 in {folder}", instead, progress=progress)
    return folder / _ARCHIVE.name


def _from_folder(folder: Path) -> Splits | None:
    """The data in `folder`, or None if it is no form of CIFAR-10."""
    if unpacked := find_version(folder):
        version, inside = unpacked
        return _splits(open_files(version, inside), f"{version.name} version in {inside}")
    for version in VERSIONS:
        if (folder / version.archive).is_file():
            return _from_archive(folder / version.archive)
    if (folder / CTF_TRAIN).is_file() and (folder / CTF_TEST).is_file():
        parts = [
            open_ctf(folder / name, len(CLASS_NAMES), INFO.shape_CHW, only_bytes=True) for name in (CTF_TRAIN, CTF_TEST)
        ]
        return _splits(parts, f"CTF files in {folder}")
    if (folder / MAP_TRAIN).is_file() and (folder / MAP_TEST).is_file():
        return _from_maps(folder)
    if has_class_folders(folder / "train") and has_class_folders(folder / "test"):
        parts = [_loaded(open_folder(folder / part, CLASS_NAMES), _planes) for part in ("train", "test")]
        return _splits(parts, f"pictures in {folder}")
    return None


def _from_archive(path: Path) -> Splits:
    members = read_tar(path, _is_wanted)
    if not members:
        _refuse_cifar100(path, first_names(path))
    full_names = {PurePosixPath(name).name: name for name in members}
    for version in VERSIONS:
        if not full_names.keys().isdisjoint(version.files):
            if missing := [name for name in version.files if name not in full_names]:
                raise MissingDataError(f"{path} has no {', '.join(missing)}; get the official archive again")
            contents = {name: partial(members.__getitem__, full_names[name]) for name in version.files}
            parts = [
                open_batches(version.parse, [(path / name, contents[name]) for name in names])
                for names in (version.train, (version.test,))
            ]
            return _splits(parts, f"{version.name} version in {path}")
    if not members:
        raise MissingDataError(
            f"{path} does not hold CIFAR-10: neither {' nor '.join(version.test for version in VERSIONS)}, nor "
            f"pictures as "
            "train/<class>/... and test/<class>/...; get the official archive"
        )
    return _splits([_from_members(path, members, part) for part in ("train", "test")], f"pictures in {path}")


def _refuse_cifar100(place: Path, names: Iterable[str]) -> None:
    if is_cifar100(names):
        raise DataError(f"{place} holds CIFAR-100, with 100 classes, not CIFAR-10; give the files of CIFAR-10")


def _is_wanted(member: PurePosixPath) -> bool:
    return any(member.name in version.files for version in VERSIONS) or _is_picture(member)


def _is_picture(member: PurePosixPath) -> bool:
    """Whether it is .../train/<class>/<picture> or .../test/<class>/<picture>."""
    part, class_name = ("", "", *member.parts[:-1])[-2:]
    return part in ("train", "test") and class_name in CLASS_NAMES and is_image_name(member)


def _splits(parts: Sequence[ArraySource | None], where: str) -> Splits:
    train, test = parts
    assert train is not None and test is not None  # without somebody who hears of faults, they are raised
    return published(INFO, train, test, f"CIFAR-10, {where}")


def _from_maps(folder: Path) -> Splits:
    """What CNTK's script writes has padded training pictures; recipes that want padding do it themselves."""
    maps = [read_image_map(folder / name, len(CLASS_NAMES)) for name in (MAP_TRAIN, MAP_TEST)]
    train, test = (file_source(listing, listing.labels_N, CLASS_NAMES, in_chunks=True) for listing in maps)
    with naming(train.location(0)):
        padded = train.load(0, Decoding()).shape[:2] == (_PADDED_SIDE, _PADDED_SIDE)
    parts = [_loaded(train, _without_padding if padded else _planes), _loaded(test, _planes)]
    note = ", the padding of the training pictures taken off" if padded else ""
    return _splits(parts, f"map files in {folder}{note}")


def _loaded(source: Source, fit: Callable[[np.ndarray], np.ndarray]) -> ArraySource:
    return load(Dataset(source, lambda image_HWC, _: fit(image_HWC)[None], is_random=False))


def _from_members(path: Path, members: dict[str, bytes], part: str) -> ArraySource:
    names = sorted(name for name in members if PurePosixPath(name).parts[-3] == part)
    if not names:
        raise MissingDataError(f"{path} has no pictures as {part}/<class>/...; pack them so, or give another archive")
    images_NCHW = np.empty((len(names), *INFO.shape_CHW), np.uint8)
    for image_CHW, name in zip(images_NCHW, names, strict=True):
        with naming(str(path / name)):
            image_CHW[...] = _planes(decode_image(members[name], path / name))
    labels_N = np.array([CLASS_NAMES.index(PurePosixPath(name).parts[-2]) for name in names])
    return ArraySource(torch.from_numpy(images_NCHW), torch.from_numpy(labels_N))


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
        raise DataError(
            f"expected {padding}, got another border; give pictures of {_SIDE} x {_SIDE}, padded all or none"
        )
    return _planes(image_HWC[inside, inside])


def _require_side(image_HWC: np.ndarray, side: int) -> None:
    height, width, _ = image_HWC.shape
    if (height, width) != (side, side):
        raise DataError(f"expected {side} x {side} pixels, got {width} x {height}; scale the picture, or leave it out")
