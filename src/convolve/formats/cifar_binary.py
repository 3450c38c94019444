"""CIFAR-10 and CIFAR-100, binary version.

Records of one label byte (CIFAR-100: two, coarse and fine) and 3072 pixels: planes of red, green, blue, 32 x 32 each.

Source: https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from convolve.errors import FormatError, MissingDataError

# Legend: N images, C channel (R, G, B), H row, W column.

Classes = Literal[10, 100]
PIXELS = 3 * 32 * 32
COARSE_CLASSES = 20  # of CIFAR-100
MAX_BYTES = 1 << 30  # the largest official file, CIFAR-100's training set, has 154 MB


@dataclass(frozen=True, eq=False)
class CifarBatch:
    """The images and labels of one file; only CIFAR-100 has coarse labels."""

    images_NCHW: NDArray[np.uint8]
    labels_N: NDArray[np.int64]
    coarse_labels_N: NDArray[np.int64] | None = None


def read_cifar_binary(path: str | Path, classes: Classes = 10) -> CifarBatch:
    """Read one `.bin` file. Raises `MissingDataError`, or `FormatError` with the byte offset."""
    return parse_cifar_binary(read_bytes(path), path, classes)


def parse_cifar_binary(content: bytes, name: object, classes: Classes = 10) -> CifarBatch:
    """As `read_cifar_binary`, from bytes; `name` stands for the file in messages."""
    label_bytes = 1 if classes == 10 else 2
    record_bytes = label_bytes + PIXELS
    if not content or len(content) % record_bytes:
        form = f"a CIFAR-{classes} file holds whole records of {record_bytes} bytes, this one has {len(content)} bytes"
        raise FormatError(name, f"byte {len(content) // record_bytes * record_bytes}", form)
    records = np.frombuffer(content, np.uint8).reshape(-1, record_bytes)
    limits = (classes,) if classes == 10 else (COARSE_CLASSES, classes)
    for column, limit in enumerate(limits):
        wrong = np.flatnonzero(records[:, column] >= limit)
        if wrong.size:
            place = f"byte {wrong[0] * record_bytes + column}"
            raise FormatError(name, place, f"label {records[wrong[0], column]}; it must be below {limit}")
    images_NCHW = records[:, label_bytes:].reshape(-1, 3, 32, 32)
    labels = [records[:, column].astype(np.int64) for column in range(label_bytes)]
    return CifarBatch(images_NCHW, labels[-1], labels[0] if classes == 100 else None)


def read_label_names(path: str | Path, count: int) -> tuple[str, ...]:
    """The class names of `batches.meta.txt` or `fine_label_names.txt`: one a line, empty lines at the end forgiven."""
    try:
        names = tuple(read_bytes(path).decode("utf-8").split("\n"))
    except UnicodeDecodeError as error:
        raise FormatError(path, f"byte {error.start}", "class names are expected, this is no text") from None
    names = tuple(name.strip() for name in names)
    while names and not names[-1]:
        names = names[:-1]
    if len(names) != count or not all(names):
        raise FormatError(path, "", f"{count} class names are expected, one a line, it has {len(names)} lines")
    return names


def read_bytes(path: str | Path) -> bytes:
    """The whole file, which must be a file of at most 1 GiB."""
    file = Path(path)
    if not file.is_file():
        raise MissingDataError(f"{path}: no such file; unpack the official archive and name its folder with --data")
    if file.stat().st_size > MAX_BYTES:
        raise FormatError(path, "", f"{file.stat().st_size} bytes; CIFAR files have at most 154 MB")
    return file.read_bytes()
