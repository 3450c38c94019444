"""A table from a CTF file with the one-hot label and the pixels of an image on each line, as CNTK's scripts write."""

from __future__ import annotations

import os
from math import prod
from pathlib import Path

import numpy as np
import torch

from convolve.data.cntk_order import chunks_by_bytes
from convolve.data.table import Table
from convolve.errors import FormatError
from convolve.formats.ctf import StreamSpec, read_ctf

# Legend: N samples, K classes, C channels, H rows, W columns.


def read_ctf_table(path: Path, class_count: int, shape_CHW: tuple[int, int, int]) -> Table:
    """The images of `path` with the chunks that data.order=cntk follows. Raises `FormatError` with the line."""
    _refuse_cut_off(path)
    streams = [
        StreamSpec("labels", class_count, dtype=np.uint8),
        StreamSpec("features", prod(shape_CHW), dtype=np.uint8),
    ]
    block = read_ctf(path, streams)
    one_hot_NK = block.samples["labels"]
    if (wrong := np.flatnonzero(one_hot_NK.sum(axis=1) != 1)).size:
        what = f"expected zeros and one 1 as labels, got {one_hot_NK[wrong[0]].tolist()}; correct the line"
        raise FormatError(path, f"line {block.lines_N[wrong[0]]}", what)
    images_NCHW = block.samples["features"].reshape(-1, *shape_CHW)
    labels_N = one_hot_NK.argmax(axis=1).astype(np.int64)
    return Table(torch.from_numpy(images_NCHW), torch.from_numpy(labels_N), chunks_by_bytes(block.byte_counts_N))


def _refuse_cut_off(path: Path) -> None:
    """CTF lets the last line end anywhere and makes pixels that are not there 0; a whole file ends its last line."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        if file.read() not in (b"\n", b""):
            raise FormatError(path, f"byte {size}", "the file ends within a line; copy it again, or end its last line")
