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

UNLABELED = -1  # the label of an image whose line could not be read, where faults are collected

_TABS = "put a tab before the class number: sed -i -E 's/[ ]+([0-9]+[ \\r]*)$/\\t\\1/' FILE"

T = TypeVar("T")


def strata(labels: torch.Tensor) -> NDArray[np.int64]:
    """What each image counts as where every class is to be on both sides of a split: its class; of several, the one
    that the fewest images are of; -1 for none, and where the labels are numbers."""
    if labels.ndim == 1:
        return labels.numpy()
    is_NK = labels.numpy() == 1
    if not (is_NK | (labels.numpy() == 0)).all():
        return np.full(len(labels), -1)
    counts_K = np.where(is_NK, is_NK.sum(0), len(labels) + 1)
    return np.where(is_NK.any(1), counts_K.argmin(1), -1)


# Hears of a fault: its kind (see checking/finding.py), where it is, what it is, and what to do about it.
OnFault = Callable[[str, str, str, str], None]


class Source(Protocol):
    """Labeled images as they were found.

    `labels_N` are int64, the class of each, or float32 (N, K): 0 or 1 for each of several classes, or K numbers.
    `class_names` is None where the classes have no names but their numbers. `chunk_N` numbers the chunk in which CNTK's
    reader would see each image; only CTF and map files have one. `size`: what all images have, as far as known.
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
        """The bytes of one image, as they lie there: two images with the same bytes are the same."""

    def load(self, index: int, decoding: Decoding) -> NDArray[np.uint8]:
        """One image (H, W, C): gray, or blue, green and red."""

    def location(self, index: int) -> str:
        """What to call an image in a message: its file, or the file and line that list it."""

    def file(self, index: int) -> str:
        """The file that the image lies in, or its `location` where it has none of its own."""

    def take(self, indices_N: NDArray[np.int64]) -> Source:
        """The images at `indices_N`, in that order."""

    def digest(self) -> bytes:
        """What tells this source from any other, wherever it lies."""


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Images in memory: `images_NCHW` (gray, or RGB planes) and `labels_N`. See `Source`. Pixels are uint8, any other
    numbers float32.

    `locate` says what to call an image in a message.
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
    """What `read` gives; None where that fails and `on_fault` hears of it."""
    if on_fault is None:
        return read()
    try:
        return read()
    except FileNotFoundError:
        on_fault("unreadable", str(path), "the file is not there", "put it there")
    except (DataError, OSError) as error:
        on_fault("unreadable", str(path), str(error).removeprefix(f"{path}: "), "get the file again")
    return None


def refusal(path: Path, on_fault: OnFault | None, remedy: str) -> Refuse | None:
    """What hears of a line that cannot be read; None where that is an error."""
    if on_fault is None:
        return None

    def refuse(line: int, error: BadLine) -> None:
        kind, way = "bad line", remedy
        if isinstance(error, BlanksForTab):
            kind, way = "blanks for tabs", _TABS.replace("FILE", shlex.quote(str(path)))
        on_fault(kind, f"{path}: line {line}", str(error), way)

    return refuse
