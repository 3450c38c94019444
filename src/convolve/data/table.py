"""Samples that fit in memory: one uint8 tensor of images, one of labels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch

from convolve.errors import DataError

# Legend: N samples, C channels, H rows, W columns.


@dataclass(frozen=True)
class Table:
    """`images_NCHW` uint8 (grey, or RGB planes) and `labels_N` int64, in the order of the files.

    `chunk_N` numbers the chunk in which CNTK's reader would see each sample; only CTF and map files have one.
    """

    images_NCHW: torch.Tensor
    labels_N: torch.Tensor
    chunk_N: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels_N)

    @property
    def shape_CHW(self) -> tuple[int, int, int]:
        _, channels, height, width = self.images_NCHW.shape
        return channels, height, width

    def take(self, indices_N: np.ndarray) -> Table:
        """The samples at `indices_N`, in that order."""
        index = torch.from_numpy(np.ascontiguousarray(indices_N))
        chunk_N = None if self.chunk_N is None else self.chunk_N[indices_N]
        return Table(self.images_NCHW[index], self.labels_N[index], chunk_N)


@dataclass(frozen=True)
class DataSet:
    """Training and test samples with their class names. `source` says in words where they came from."""

    train: Table
    test: Table
    class_names: tuple[str, ...]
    source: str

    def __post_init__(self) -> None:
        for part, table in (("training", self.train), ("test", self.test)):
            if len(table) == 0:
                raise DataError(f"{self.source}: the {part} set is empty; get the files again, or try --data sample")
            if len(table.images_NCHW) != len(table):
                raise DataError(f"{self.source}: {len(table.images_NCHW)} {part} images but {len(table)} labels")
            low, high = int(table.labels_N.min()), int(table.labels_N.max())
            if low < 0 or high >= len(self.class_names):
                raise DataError(
                    f"{self.source}: {part} labels reach from {low} to {high}; with {len(self.class_names)} classes "
                    f"they must lie in 0..{len(self.class_names) - 1}"
                )
        if self.train.shape_CHW != self.test.shape_CHW:
            raise DataError(
                f"{self.source}: training images are {self.train.shape_CHW} (C, H, W), test {self.test.shape_CHW}"
            )

    def fingerprint(self) -> str:
        """SHA-256 over every pixel and label: two runs with the same fingerprint saw the same data."""
        digest = hashlib.sha256()
        for table in (self.train, self.test):
            digest.update(repr(tuple(table.images_NCHW.shape)).encode())
            digest.update(table.images_NCHW.contiguous().numpy().tobytes())
            digest.update(table.labels_N.numpy().tobytes())
        return digest.hexdigest()
