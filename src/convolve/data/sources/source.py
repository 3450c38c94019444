"""What a source is: labeled images as they were found, in memory or on disk."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from convolve.errors import DataError
from convolve.formats.decode import Decoding
from convolve.formats.map_lines import BadLine, BlanksForTab, Refuse
from convolve.transforms.transform import Size

# Legend of this room: N images, C channels, H rows, W columns.

UNLABELED = -1  # the label of an image whose line could not be read, if faults are collected

_TABS = "put a tab before the class number: sed -i -E 's/[ ]+([0-9]+[ \\r]*)$/\\t\\1/' FILE"

T = TypeVar("T")


def strata(labels: torch.Tensor) -> NDArray[np.int64]:
    """The class of each image where every class is to be on both sides of a split: of several classes, the rarest; -1
    if an image has no class, or the labels are numbers."""
    if labels.ndim == 1:
        return labels.numpy()
    is_NK = labels.numpy() == 1
    if not (is_NK | (labels.numpy() == 0)).all():
        return np.full(len(labels), -1)
    counts_K = np.where(is_NK, is_NK.sum(0), len(labels) + 1)
    return np.where(is_NK.any(1), counts_K.argmin(1), -1)


# Is told of a fault: its kind (see checking/finding.py), where it is, what it is, and what to do about it.
OnFault = Callable[[str, str, str, str], None]


class Source(Protocol):
    """Labeled images as they were found.

    `labels_N` are int64, the class of each, or float32 (N, K): 0 or 1 for each of several classes, or K numbers.
    `class_names` is None if the classes have only numbers. `chunk_N` is the number of the chunk that an image has in
    CNTK's reader; only CTF and map files have chunks. `size`: that of all images, if known.
    """

    @property
    def labels_N(self) -> torch.Tensor: ...
    @property
    def class_names(self) -> tuple[str, ...] | None: ...
    @property
    def chunk_N(self) -> NDArray[np.int64] | None: ...
    @property
    def size(self) -> Size | None: ...
    def __len__(self) -> int: ...

    def read(self, index: int) -> bytes:
        """The stored bytes of one image: two images with the same bytes are equal."""

    def load(self, index: int, decoding: Decoding) -> NDArray[np.uint8]:
        """One image (H, W, C): gray, or blue, green and red."""

    def location(self, index: int) -> str:
        """The name of an image in messages: its file, or the file and line that list it."""

    def file(self, index: int) -> str:
        """The file that contains the image, or its `location` if it has no file of its own."""

    def take(self, indices_N: NDArray[np.int64]) -> Source:
        """The images at `indices_N`, in that order."""

    def digest(self) -> bytes:
        """A hash that identifies this source, wherever it is stored."""


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Images in memory: `images_NCHW` (gray, or RGB planes) and `labels_N`. See `Source`. Pixels are uint8, any other
    numbers float32.

    `locate` gives the name of an image in messages.
    """

    images_NCHW: torch.Tensor
    labels_N: torch.Tensor
    chunk_N: NDArray[np.int64] | None = None
    class_names: tuple[str, ...] | None = None
    locate: Callable[[int], str] = "image {}".format

    def __len__(self) -> int:
        return len(self.labels_N)

    @property
    def shape_CHW(self) -> tuple[int, int, int]:
        _, channels, height, width = self.images_NCHW.shape
        return channels, height, width

    @property
    def size(self) -> Size:
        return self.shape_CHW[1:]

    def read(self, index: int) -> bytes:
        return self.images_NCHW[index].numpy().tobytes()

    def load(self, index: int, decoding: Decoding) -> NDArray[np.uint8]:
        image_HWC = np.ascontiguousarray(self.images_NCHW[index].numpy()[::-1].transpose(1, 2, 0))
        if decoding.gray and image_HWC.shape[2] == 3:
            return cv2.cvtColor(image_HWC, cv2.COLOR_BGR2GRAY)[:, :, None].astype(image_HWC.dtype, copy=False)
        return image_HWC

    def location(self, index: int) -> str:
        return self.locate(index)

    file = location

    def take(self, indices_N: NDArray[np.int64]) -> ArraySource:
        index = torch.from_numpy(np.ascontiguousarray(indices_N))
        chunk_N = None if self.chunk_N is None else self.chunk_N[indices_N]
        return ArraySource(
            self.images_NCHW[index], self.labels_N[index], chunk_N, self.class_names,
            lambda number: self.locate(int(indices_N[number])),
        )  # fmt: skip

    def digest(self) -> bytes:
        """A hash of every pixel and label."""
        digest = hashlib.sha256(repr(tuple(self.images_NCHW.shape)).encode())
        digest.update(self.images_NCHW.contiguous().numpy().tobytes())
        digest.update(self.labels_N.numpy().tobytes())
        return digest.digest()


def attempt(read: Callable[[], T], path: object, on_fault: OnFault | None) -> T | None:
    """The result of `read`; None if that fails and `on_fault` is told."""
    if on_fault is None:
        return read()
    try:
        return read()
    except FileNotFoundError:
        on_fault("unreadable", str(path), "the file is not there", "put it there")
    except (DataError, OSError) as error:
        on_fault("unreadable", str(path), str(error).removeprefix(f"{path}: "), "copy or download the file again")
    return None


def refusal(path: Path, on_fault: OnFault | None, remedy: str) -> Refuse | None:
    """What is told of lines that cannot be read; None if such a line is an error."""
    if on_fault is None:
        return None

    def refuse(line: int, error: BadLine) -> None:
        kind, way = "bad line", remedy
        if isinstance(error, BlanksForTab):
            kind, way = "blanks for tabs", _TABS.replace("FILE", shlex.quote(str(path)))
        on_fault(kind, f"{path}: line {line}", str(error), way)

    return refuse
