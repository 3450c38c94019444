"""MNIST: 60,000 training and 10,000 test digits of 28x28 grey pixels. Source: Y. LeCun, C. Cortes, C. J. C. Burges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from convolve.data.ctf_table import read_ctf_table
from convolve.data.download import Progress, RemoteFile, download
from convolve.data.locate import cache_folder, locate
from convolve.data.table import DataSet, Table
from convolve.errors import DataError, FormatError, MissingDataError
from convolve.formats.idx import read_idx

# Legend: N samples, H rows, W columns, K classes.

CLASS_NAMES = tuple("0123456789")
CTF_TRAIN, CTF_TEST = "Train-28x28_cntk_text.txt", "Test-28x28_cntk_text.txt"  # the names that CNTK's own script gives

_SIDE = 28
_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",  # the original, which often refuses
)
# Sizes and MD5 sums of the files as Y. LeCun published them.
_IDX_FILES = (
    RemoteFile("train-images-idx3-ubyte.gz", _MIRRORS, 9_912_422, "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
    RemoteFile("train-labels-idx1-ubyte.gz", _MIRRORS, 28_881, "d53e105ee54ea40749a09fcbcd1e9432"),
    RemoteFile("t10k-images-idx3-ubyte.gz", _MIRRORS, 1_648_877, "9fb629c4189551a2d022fa330f9573f3"),
    RemoteFile("t10k-labels-idx1-ubyte.gz", _MIRRORS, 4_542, "ec29112dd5afa0611ce80d1b7f02629c"),
)
_AGAIN = "get the official files again, or try --data sample"


def load_mnist(where: str | None = None, progress: Progress | None = None) -> DataSet:
    """MNIST from the folder that `where` (--data) leads to, see `locate`; what the cache folder lacks is downloaded.

    The folder holds the four IDX files, plain or .gz, or else the two CTF files, which also tell the chunks that
    data.order=cntk follows. Raises `MissingDataError` where there are neither, `DataError` where they are damaged
    or do not belong together.
    """
    folder = locate("mnist", where)
    try:
        missing = [file for file in _IDX_FILES if not _idx_path(folder, file).exists()]
        if missing and (folder / CTF_TRAIN).exists() and (folder / CTF_TEST).exists():
            train, test = (
                read_ctf_table(folder / name, len(CLASS_NAMES), (1, _SIDE, _SIDE)) for name in (CTF_TRAIN, CTF_TEST)
            )
            return DataSet(train, test, CLASS_NAMES, f"MNIST, CTF files in {folder}")
        if missing:
            _obtain(missing, folder, progress)
        paths = idx_paths(folder)
        train, test = _table_from_idx(*paths[:2]), _table_from_idx(*paths[2:])
        return DataSet(train, test, CLASS_NAMES, f"MNIST, IDX files in {folder}")
    except OSError as error:
        raise DataError(f"cannot read {error.filename or folder}: {error.strerror or error}") from error


def idx_paths(folder: Path) -> list[Path]:
    """Where training images, training labels, test images and test labels are or belong."""
    return [_idx_path(folder, file) for file in _IDX_FILES]


def _idx_path(folder: Path, file: RemoteFile) -> Path:
    """Where `file` is, under any of the names that people have it, else where it belongs."""
    plain = file.name.removesuffix(".gz")
    dotted = plain.replace("-idx", ".idx")  # as some unpackers write it
    candidates = [folder / name for name in (plain, file.name, dotted, f"{dotted}.gz")]
    return next((path for path in candidates if path.exists()), folder / file.name)


def _obtain(missing: list[RemoteFile], folder: Path, progress: Progress | None) -> None:
    """Download what is `missing` if `folder` is our own; raise the error that says what to do instead if that fails."""
    reason = f"no MNIST in {folder} ({', '.join(file.name for file in missing)} missing)"
    if folder == cache_folder("mnist"):
        try:
            download(missing, folder, progress)
            return
        except MissingDataError as error:
            reason = str(error)
    names = ", ".join(file.name for file in _IDX_FILES)
    raise MissingDataError(
        f"{reason}; put {names} into {folder} (plain or .gz), or {CTF_TRAIN} and {CTF_TEST}, or use --data sample"
    )


def _table_from_idx(images_path: Path, labels_path: Path) -> Table:
    images_NHW, labels_N = read_idx(images_path), read_idx(labels_path)
    if images_NHW.dtype != np.uint8 or images_NHW.shape[1:] != (_SIDE, _SIDE):
        came = f"{' x '.join(map(str, images_NHW.shape))} {images_NHW.dtype}"
        raise FormatError(images_path, "", f"expected N x {_SIDE} x {_SIDE} uint8 pixels, got {came}; {_AGAIN}")
    if labels_N.dtype != np.uint8 or labels_N.ndim != 1:
        came = f"{' x '.join(map(str, labels_N.shape))} {labels_N.dtype}"
        raise FormatError(labels_path, "", f"expected one uint8 label for each image, got {came}; {_AGAIN}")
    if len(images_NHW) != len(labels_N):
        counts = f"{images_path} has {len(images_NHW)} images, but {labels_path} {len(labels_N)} labels"
        raise DataError(f"{counts}; they do not belong together: {_AGAIN}")
    if (wrong := np.flatnonzero(labels_N >= len(CLASS_NAMES))).size:
        place = f"byte {8 + wrong[0]}"  # behind a header of 8 bytes; of the unpacked data
        what = f"expected a label in 0..9, got {labels_N[wrong[0]]}; {_AGAIN}"
        raise FormatError(labels_path, place, f"{what}; sets with other classes: docs/old-formats.md")
    return Table(torch.from_numpy(images_NHW)[:, None], torch.from_numpy(labels_N.astype(np.int64)))
