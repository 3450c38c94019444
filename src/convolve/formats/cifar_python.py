"""CIFAR-10, Python version: pickled dicts, read without executing anything.

Source: https://www.cs.toronto.edu/~kriz/cifar.html
"""

from typing import Any

import numpy as np

from convolve.errors import FormatError
from convolve.formats.allowed_pickle import read_pickle
from convolve.formats.cifar_binary import CLASSES, PIXELS, CifarBatch

# Legend: N images, P pixels of one image (planes R, G, B of 32 x 32).


def parse_cifar_python(content: bytes, name: object) -> CifarBatch:
    """Raises `FormatError` with the byte or the entry; `name` is the file's name in messages."""
    entries = _entries(content, name)
    known = f"the file has {', '.join(sorted(entries)[:10]) or 'no entries'}"
    pixels_NP, labels = entries.get("data"), entries.get("labels")
    if not isinstance(pixels_NP, np.ndarray) or pixels_NP.dtype != np.uint8 or pixels_NP.shape[1:] != (PIXELS,):
        raise FormatError(name, "entry data", f"an array of bytes, N x {PIXELS}, is expected; {known}")
    if not isinstance(labels, list) or len(labels) != len(pixels_NP):
        raise FormatError(name, "entry labels", f"a list of {len(pixels_NP)} labels is expected; {known}")
    for index, label in enumerate(labels):
        if type(label) is not int or not 0 <= label < CLASSES:
            place = f"entry labels[{index}]"
            raise FormatError(name, place, f"a whole number in 0..{CLASSES - 1} is expected, got {str(label)[:40]!r}")
    return CifarBatch(pixels_NP.reshape(-1, 3, 32, 32), np.array(labels, np.int64))


def _entries(content: bytes, name: object) -> dict[str, Any]:
    """The outermost dict, with its keys as texts: Python 2 wrote them as bytes."""
    value = read_pickle(content, name)
    if not isinstance(value, dict):
        raise FormatError(name, "", f"a dict is expected, as in the files of CIFAR-10; got a {type(value).__name__}")
    return {key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key): value[key] for key in value}
