"""CIFAR-10 and CIFAR-100, Python version: pickled dicts, of which nothing is run.

Source: https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convolve.errors import FormatError
from convolve.formats.allowed_pickle import read_pickle
from convolve.formats.cifar_binary import COARSE_CLASSES, PIXELS, CifarBatch, Classes, read_bytes

# Legend: N images, P pixels of one image (planes R, G, B of 32 x 32).


def read_cifar_python(path: str | Path, classes: Classes = 10) -> CifarBatch:
    """Read `data_batch_1`, `test_batch`, `train` or `test`. `FormatError` names the byte or the entry."""
    return parse_cifar_python(read_bytes(path), path, classes)


def parse_cifar_python(content: bytes, name: object, classes: Classes = 10) -> CifarBatch:
    """As `read_cifar_python`, from bytes; `name` stands for the file in messages."""
    entries = _entries(content, name)
    pixels_NP = entries.get("data")
    if not isinstance(pixels_NP, np.ndarray) or pixels_NP.dtype != np.uint8 or pixels_NP.shape[1:] != (PIXELS,):
        raise FormatError(name, "entry data", f"an array of bytes, N x {PIXELS}, is expected; {_known(entries)}")
    images_NCHW = pixels_NP.reshape(-1, 3, 32, 32)
    if classes == 10:
        return CifarBatch(images_NCHW, _labels(entries, name, "labels", len(images_NCHW), 10))
    fine_N = _labels(entries, name, "fine_labels", len(images_NCHW), 100)
    return CifarBatch(images_NCHW, fine_N, _labels(entries, name, "coarse_labels", len(images_NCHW), COARSE_CLASSES))


def read_cifar_python_names(path: str | Path, classes: Classes = 10) -> tuple[str, ...]:
    """The class names in `batches.meta` (CIFAR-10) or `meta` (CIFAR-100, the fine ones)."""
    entries = _entries(read_bytes(path), path)
    key = "label_names" if classes == 10 else "fine_label_names"
    names = entries.get(key)
    if not isinstance(names, list) or len(names) != classes or not all(isinstance(n, bytes | str) for n in names):
        raise FormatError(path, f"entry {key}", f"a list of {classes} class names is expected; {_known(entries)}")
    return tuple(_text(name) for name in names)


def _entries(content: bytes, name: object) -> dict[str, Any]:
    """The outermost dict, its keys as texts: Python 2 wrote them as bytes."""
    value = read_pickle(content, name)
    if not isinstance(value, dict):
        raise FormatError(name, "", f"a dict is expected, as in the files of CIFAR; it holds a {type(value).__name__}")
    return {_text(key): item for key, item in value.items()}


def _labels(entries: dict[str, Any], name: object, key: str, count: int, classes: int) -> NDArray[np.int64]:
    labels = entries.get(key)
    if not isinstance(labels, list) or len(labels) != count:
        raise FormatError(name, f"entry {key}", f"a list of {count} labels is expected; {_known(entries)}")
    for index, label in enumerate(labels):
        if type(label) is not int or not 0 <= label < classes:
            place = f"entry {key}[{index}]"
            raise FormatError(name, place, f"a whole number in 0..{classes - 1} is expected, it is {str(label)[:40]!r}")
    return np.array(labels, np.int64)


def _known(entries: dict[str, Any]) -> str:
    return f"the file has {', '.join(sorted(entries)[:10]) or 'no entries'}"


def _text(text: object) -> str:
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
