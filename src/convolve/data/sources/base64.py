"""CNTK's base64 map files: the images themselves, one a line."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from convolve.data.sources.map_file import label_names
from convolve.data.sources.source import OnFault
from convolve.formats.base64_map import Base64Map, read_base64_map
from convolve.formats.decode import decode_image
from convolve.transforms.transform import Size


@dataclass(frozen=True, eq=False)
class Base64Source:
    """Those images of `listing` that `index_N` numbers. See `Source`."""

    listing: Base64Map
    all_labels_N: NDArray[np.int64]
    class_names: tuple[str, ...] | None
    index_N: NDArray[np.int64]
    size: Size | None = None
    chunk_N: None = None

    def __len__(self) -> int:
        return len(self.index_N)

    @property
    def labels_N(self) -> torch.Tensor:
        return torch.from_numpy(self.all_labels_N[self.index_N])

    def read(self, index: int) -> bytes:
        return self.listing.read(int(self.index_N[index]))

    def load(self, index: int, *, gray: bool, min_size: Size | None = None) -> NDArray[np.uint8]:
        return decode_image(self.read(index), self.location(index), gray=gray, min_size=min_size)

    def location(self, index: int) -> str:
        return self.listing.place(int(self.index_N[index]))

    file = location

    def take(self, indices_N: NDArray[np.int64]) -> Base64Source:
        return replace(self, index_N=self.index_N[indices_N])

    def digest(self) -> bytes:
        digest = hashlib.sha256(self.listing.ranges_N2.tobytes())
        digest.update(self.all_labels_N.tobytes() + self.index_N.tobytes())
        return digest.digest()


def open_base64(path: Path, classes: Sequence[str] | None = None, on_fault: OnFault | None = None) -> Base64Source:
    """The images that stand in the lines of `path`."""
    names = classes or label_names(path, on_fault)
    listing = read_base64_map(path, None if names is None else len(names))
    index_N = np.arange(len(listing))
    return Base64Source(listing, listing.labels_N, None if names is None else tuple(names), index_N)
