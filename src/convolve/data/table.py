"""Samples that fit in memory: one uint8 tensor of images, one of labels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from convolve.data.pictures import Batch, Pictures
from convolve.errors import DataError
from convolve.transforms.transform import Size

# Legend: N samples, C channels, H rows, W columns.

RESIDENT_BYTES = 1 << 31  # of one part of a data set; what is larger is read anew in each epoch


@dataclass(frozen=True)
class Table:
    """`images_NCHW` uint8 (grey, or RGB planes) and `labels_N` int64, in the order of the files.

    `chunk_N` numbers the chunk in which CNTK's reader would see each sample; only CTF and map files have one.
    """

    images_NCHW: torch.Tensor
    labels_N: torch.Tensor
    chunk_N: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.labels_N)

    @property
    def shape_CHW(self) -> tuple[int, int, int]:
        _, channels, height, width = self.images_NCHW.shape
        return channels, height, width

    @property
    def size(self) -> Size:
        return self.shape_CHW[1:]

    def picture(self, index: int, *, grey: bool, least: Size | None = None) -> NDArray[np.uint8]:
        """As `Pictures` has it; the channels are always those of the table."""
        del grey, least
        return np.ascontiguousarray(self.images_NCHW[index].numpy()[::-1].transpose(1, 2, 0))

    def place(self, index: int) -> str:
        return f"image {index}"

    def take(self, indices_N: NDArray[np.int64]) -> Table:
        """The samples at `indices_N`, in that order."""
        index = torch.from_numpy(np.ascontiguousarray(indices_N))
        chunk_N = None if self.chunk_N is None else self.chunk_N[indices_N]
        return Table(self.images_NCHW[index], self.labels_N[index], chunk_N)

    def batches(self, order_N: NDArray[np.int64], batch_size: int, epoch: int = 0) -> Iterator[Batch]:
        """As `Samples` has it; nothing is random here."""
        del epoch
        order = torch.from_numpy(np.ascontiguousarray(order_N)).to(self.images_NCHW.device)
        for chosen in order.split(batch_size):
            yield self.images_NCHW.index_select(0, chosen), self.labels_N[chosen]  # a tenth of the time of [chosen]


@dataclass(frozen=True)
class DataSet:
    """Training and test samples with their class names. `source` says in words where they came from."""

    train: Table
    test: Table
    class_names: tuple[str, ...]
    source: str

    def __post_init__(self) -> None:
        for part, table in (("training", self.train), ("test", self.test)):
            if len(table.images_NCHW) != len(table):
                raise DataError(f"{self.source}: {len(table.images_NCHW)} {part} images but {len(table)} labels")
        check_labels(self.source, self.train, self.test, len(self.class_names))
        if self.train.shape_CHW != self.test.shape_CHW:
            raise DataError(
                f"{self.source}: training images are {self.train.shape_CHW} (C, H, W), test {self.test.shape_CHW}"
            )

    @property
    def shape_CHW(self) -> tuple[int, int, int]:
        """What a network takes unless its recipe says otherwise."""
        return self.train.shape_CHW

    def fingerprint(self) -> str:
        """SHA-256 over every pixel and label: two runs with the same fingerprint saw the same data."""
        digest = hashlib.sha256()
        for table in (self.train, self.test):
            digest.update(repr(tuple(table.images_NCHW.shape)).encode())
            digest.update(table.images_NCHW.contiguous().numpy().tobytes())
            digest.update(table.labels_N.numpy().tobytes())
        return digest.hexdigest()


def check_labels(source: str, train: Pictures, test: Pictures, classes: int) -> None:
    """Raise `DataError` for an empty part, or labels that are none of the classes."""
    for part, pictures in (("training", train), ("test", test)):
        if len(pictures) == 0:
            raise DataError(f"{source}: the {part} set is empty; get the files again, or try --data sample")
        low, high = int(pictures.labels_N.min()), int(pictures.labels_N.max())
        if low < 0 or high >= classes:
            raise DataError(
                f"{source}: {part} labels reach from {low} to {high}; with {classes} classes they must lie in "
                f"0..{classes - 1}"
            )
