"""IDX files, as MNIST has them: one with the pixels of gray images, one with their labels."""

from functools import partial
from pathlib import Path

import numpy as np
import torch

from convolve.data.sources.source import ArraySource, OnFault, attempt
from convolve.errors import DataError, FormatError
from convolve.formats.idx import read_idx
from convolve.transforms.transform import Size

_AGAIN = "download the official files again, or try --data sample"


def open_idx(
    images_path: Path,
    labels_path: Path,
    class_names: tuple[str, ...] | None = None,
    size: Size | None = None,
    on_fault: OnFault | None = None,
) -> ArraySource | None:
    """The images of a pair of files, which must have `size`, and a label for each class, if these are given.

    None if it cannot be read, which `on_fault` is told.
    """
    images_NHW = attempt(partial(read_idx, images_path), images_path, on_fault)
    labels_N = attempt(partial(read_idx, labels_path), labels_path, on_fault)
    if images_NHW is None or labels_N is None:
        return None
    if images_NHW.dtype != np.uint8 or images_NHW.ndim != 3 or (size and images_NHW.shape[1:] != size):
        expected = f"{size[0]} x {size[1]}" if size else "H x W"
        _refuse(images_path, f"expected N x {expected} uint8 pixels, got {_words(images_NHW)}", on_fault)
        return None
    if labels_N.dtype != np.uint8 or labels_N.ndim != 1:
        _refuse(labels_path, f"expected one uint8 label for each image, got {_words(labels_N)}", on_fault)
        return None
    count = min(len(images_NHW), len(labels_N))
    if len(images_NHW) != len(labels_N):
        if on_fault is None:
            counts = f"{images_path} has {len(images_NHW)} images, but {labels_path} {len(labels_N)} labels"
            raise DataError(f"{counts}; these files do not belong together; {_AGAIN}")
        kind = "unlabeled" if len(images_NHW) > count else "missing image"
        what = f"{len(labels_N):,} labels for the {len(images_NHW):,} images of {images_path}"
        on_fault(kind, str(labels_path), what, "download both files again: they do not match")
    if class_names:
        _require_labels(labels_path, labels_N, len(class_names))
    images_NCHW = torch.from_numpy(images_NHW[:count, None])
    labels = torch.from_numpy(labels_N[:count].astype(np.int64))
    return ArraySource(images_NCHW, labels, None, class_names, lambda index: f"{images_path}: image {index}")


def _refuse(path: Path, what: str, on_fault: OnFault | None) -> None:
    if on_fault is None:
        raise FormatError(path, "", f"{what}; {_AGAIN}")
    on_fault("unreadable", str(path), what, "copy or download the file again")


def _require_labels(path: Path, labels_N: np.ndarray, classes: int) -> None:
    if (wrong := np.flatnonzero(labels_N >= classes)).size:
        place = f"byte {8 + wrong[0]}"  # behind a header of 8 bytes; in the unpacked data
        what = f"expected a label in 0..{classes - 1}, got {labels_N[wrong[0]]}; {_AGAIN}"
        raise FormatError(path, place, f"{what}; for sets with other classes, see docs/reference/old-formats.md")


def _words(array: np.ndarray) -> str:
    return f"{' x '.join(map(str, array.shape))} {array.dtype}"
