"""The two states of labelled images: as they were found, and as a network takes them but for mean and scale."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from convolve.transforms.transform import Size

Batch = tuple[torch.Tensor, torch.Tensor]  # images_NCHW, grey or in RGB planes, 0..255; labels_N int64


class Pictures(Protocol):
    """Labelled images as they were found, in memory or on disk.

    `size` is the one that all of them have, None if there is none, or nobody looked. `chunk_N` numbers the chunk in
    which CNTK's reader would see each; only CTF and map files have one.
    """

    @property
    def labels_N(self) -> torch.Tensor: ...
    @property
    def chunk_N(self) -> NDArray[np.int64] | None: ...
    @property
    def size(self) -> Size | None: ...
    def __len__(self) -> int: ...

    def picture(self, index: int, *, grey: bool, least: Size | None = None) -> NDArray[np.uint8]:
        """One image (H, W, C): grey, or blue, green and red. With `least` it may come smaller, but not below that."""

    def place(self, index: int) -> str:
        """What to call it in a message."""

    def take(self, indices_N: NDArray[np.int64]) -> Pictures:
        """Those at `indices_N`, in that order."""


class Samples(Protocol):
    """Labelled images of one size, as a network takes them but for mean and scale."""

    @property
    def labels_N(self) -> torch.Tensor: ...
    @property
    def chunk_N(self) -> NDArray[np.int64] | None: ...
    def __len__(self) -> int: ...

    def batches(self, order_N: NDArray[np.int64], batch_size: int, epoch: int = 0) -> Iterator[Batch]:
        """The samples numbered in `order_N`, uint8 or float32; random choices are those of `epoch`."""
