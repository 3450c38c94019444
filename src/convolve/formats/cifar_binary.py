"""CIFAR-10, binary version: records of a label byte and 3072 pixels, planes of red, green and blue, 32 x 32 each.

Source: https://www.cs.toronto.edu/~kriz/cifar.html
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convolve.errors import FormatError, MissingDataError

# Legend: N images, C channel (R, G, B), H row, W column.

CLASSES = 10
PIXELS = 3 * 32 * 32
RECORD_BYTES = 1 + PIXELS
MAX_BYTES = 1 << 30  # bytes; the official files have 31 MB each


@dataclass(frozen=True, eq=False)
class CifarBatch:
    """The images and labels of one file."""

    images_NCHW: NDArray[np.uint8]
    labels_N: NDArray[np.int64]


def parse_cifar_binary(content: bytes, name: object) -> CifarBatch:
    """Raises `FormatError` with the byte offset; `name` is the file's name in messages."""
    if not content or len(content) % RECORD_BYTES:
        form = f"a CIFAR-10 file consists of records of {RECORD_BYTES} bytes, but this one has {len(content)} bytes"
        raise FormatError(name, f"byte {len(content) // RECORD_BYTES * RECORD_BYTES}", form)
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD_BYTES)
    wrong = np.flatnonzero(records[:, 0] >= CLASSES)
    if wrong.size:
        place = f"byte {wrong[0] * RECORD_BYTES}"
        raise FormatError(name, place, f"label {records[wrong[0], 0]}; it must be below {CLASSES}")
    return CifarBatch(records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].astype(np.int64))


def read_bytes(path: str | Path) -> bytes:
    """The bytes of a file of at most 1 GiB."""
    file = Path(path)
    if not file.is_file():
        raise MissingDataError(f"{path}: no such file; unpack the official archive and name its folder with --data")
    if file.stat().st_size > MAX_BYTES:
        raise FormatError(path, "", f"{file.stat().st_size} bytes; CIFAR-10's files have 31 MB")
    return file.read_bytes()
