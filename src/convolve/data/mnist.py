"""MNIST: 60,000 training and 10,000 test digits of 28x28 gray pixels. Source: Y. LeCun, C. Cortes, C. J. C. Burges."""

from functools import partial
from pathlib import Path

from convolve.cache import cache_folder
from convolve.data.download import Progress, RemoteFile, obtain
from convolve.data.locate import SAMPLE, locate
from convolve.data.sources.ctf import open_ctf
from convolve.data.sources.idx import open_idx
from convolve.data.sources.source import ArraySource
from convolve.data.splits import DatasetInfo, Splits, published
from convolve.errors import DataError

CLASS_NAMES = tuple("0123456789")
CTF_TRAIN, CTF_TEST = "Train-28x28_cntk_text.txt", "Test-28x28_cntk_text.txt"  # the names that CNTK's own script gives

_SIDE = 28
INFO = DatasetInfo("mnist", (1, _SIDE, _SIDE), CLASS_NAMES, 60_000, 10_000, checksum=0xE66C1E1ACB372696)
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


def load_mnist(where: str | None = None, progress: Progress | None = None) -> Splits:
    """MNIST from the folder that `where` (--data) leads to, see `locate`; what the cache folder lacks is downloaded.

    The folder holds the four IDX files, plain or .gz, or else the two CTF files, which also tell the chunks that
    data.order=cntk follows. Raises `MissingDataError` where there are neither, `DataError` where they are damaged
    or do not belong together.
    """
    folder = locate("mnist", where)
    try:
        missing = [file for file in _IDX_FILES if not _idx_path(folder, file).exists()]
        if missing and (folder / CTF_TRAIN).exists() and (folder / CTF_TEST).exists():
            ask = partial(open_ctf, class_count=len(CLASS_NAMES), shape_CHW=INFO.shape_CHW, only_bytes=True)
            train, test = (ask(folder / name) for name in (CTF_TRAIN, CTF_TEST))
            return published(INFO, train, test, f"MNIST, CTF files in {folder}")
        if missing:
            _obtain(missing, folder, progress)
        train, test = (_open(*pair) for pair in idx_pairs(folder))
        said = f"MNIST, IDX files in {folder}"
        if where == SAMPLE:
            return Splits(train, test, CLASS_NAMES, INFO.name, said)
        return published(INFO, train, test, said)
    except OSError as error:
        raise DataError(f"cannot read {error.filename or folder}: {error.strerror or error}") from error


def idx_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """The paths of images and labels, existing or expected, of the training and of the test part."""
    images_and_labels = [_idx_path(folder, file) for file in _IDX_FILES]
    return [(images_and_labels[0], images_and_labels[1]), (images_and_labels[2], images_and_labels[3])]


def _idx_path(folder: Path, file: RemoteFile) -> Path:
    """The path of `file`, under any of its usual names, or where it is expected."""
    plain = file.name.removesuffix(".gz")
    dotted = plain.replace("-idx", ".idx")  # as some unpackers write it
    candidates = [folder / name for name in (plain, file.name, dotted, f"{dotted}.gz")]
    return next((path for path in candidates if path.exists()), folder / file.name)


def _obtain(missing: list[RemoteFile], folder: Path, progress: Progress | None) -> None:
    reason = f"there is no MNIST in {folder} ({', '.join(file.name for file in missing)} missing)"
    names = ", ".join(file.name for file in _IDX_FILES)
    instead = f"put {names} into {folder} (plain or .gz), or {CTF_TRAIN} and {CTF_TEST}, or use --data sample"
    obtain(missing, folder, cache_folder(INFO.name), reason, instead, progress=progress)


def _open(images_path: Path, labels_path: Path) -> ArraySource:
    source = open_idx(images_path, labels_path, CLASS_NAMES, (_SIDE, _SIDE))
    assert source is not None  # without somebody who hears of faults, they are raised
    return source
