"""A table from CTF files with the one-hot label and the pixels of an image on each line, as CNTK's scripts write."""

from __future__ import annotations

import os
from math import prod
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from convolve.data.cntk_order import chunks_by_bytes
from convolve.data.table import Table
from convolve.errors import DataError, FormatError, UnsupportedError
from convolve.formats.ctf import CtfBlock, StreamSpec, read_ctf

# Legend: N samples, K classes, C channels, H rows, W columns.


def read_ctf_table(
    path: Path,
    class_count: int,
    shape_CHW: tuple[int, int, int],
    features: str = "features",
    labels: str = "labels",
    sparse_labels: bool = False,
    labels_path: Path | None = None,
) -> Table:
    """The images of `path` with the chunks that data.order=cntk follows. Raises `FormatError` with the line.

    `features` and `labels` are what the file calls them. The labels may stand in a file of their own, line for line.
    """
    _refuse_cut_off(path)
    images = StreamSpec(features, prod(shape_CHW), dtype=np.uint8)
    if labels_path in (None, path):
        block = read_ctf(path, [_label_stream(labels, class_count, sparse_labels), images])
        labels_N = _labels(path, block, labels)
    else:
        assert labels_path is not None
        _refuse_ids(path)
        block = read_ctf(path, [images])
        labels_N = read_ctf_labels(labels_path, class_count, labels, sparse_labels)
        if len(labels_N) != len(block):
            raise DataError(f"{labels_path} has {len(labels_N)} labels, {path} {len(block)} images; give a pair")
    images_NCHW = block.samples[features].reshape(-1, *shape_CHW)
    return Table(torch.from_numpy(images_NCHW), torch.from_numpy(labels_N), chunks_by_bytes(block.byte_counts_N))


def read_ctf_labels(path: Path, class_count: int, labels: str = "labels", sparse: bool = False) -> NDArray[np.int64]:
    """labels_N of a file that other files go with line for line. Raises `FormatError` with the line."""
    _refuse_ids(path)
    return _labels(path, read_ctf(path, [_label_stream(labels, class_count, sparse)]), labels)


def _label_stream(name: str, class_count: int, sparse: bool) -> StreamSpec:
    return StreamSpec(name, class_count, sparse, dtype=np.uint8)


def _labels(path: Path, block: CtfBlock, name: str) -> NDArray[np.int64]:
    one_hot_NK = block.samples[name]
    if (wrong := np.flatnonzero(one_hot_NK.sum(axis=1) != 1)).size:
        what = f"expected zeros and one 1 as labels, got {one_hot_NK[wrong[0]].tolist()}; correct the line"
        raise FormatError(path, f"line {block.lines_N[wrong[0]]}", what)
    labels_N: NDArray[np.int64] = one_hot_NK.argmax(axis=1).astype(np.int64)
    return labels_N


def _refuse_ids(path: Path) -> None:
    """CNTK joins files by sequence ids; without them, it numbers the lines."""
    with path.open("rb") as file:
        begin = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
    if begin[:1].isdigit():
        raise UnsupportedError(f"{path}: files that are joined by sequence ids are not supported; put all in one file")


def _refuse_cut_off(path: Path) -> None:
    """CTF lets the last line end anywhere and makes pixels that are not there 0; a whole file ends its last line."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        if file.read() not in (b"\n", b""):
            raise FormatError(path, f"byte {size}", "the file ends within a line; copy it again, or end its last line")
