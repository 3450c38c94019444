"""Frozen features: what the body of a network gives for each image, computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from convolve.models.fused import PART, fused
from convolve.training.memory import keep_freed_memory
from convolve.training.precision import Precision, whole_fp32
from convolve.training.workers import SINGLE_PROCESS, Workers, part

# Legend: N images, V views of each, D features, C channels, H rows, W columns.

_GPU_BATCH = 128


class Images(Protocol):
    """What is asked of a dataset."""

    def __len__(self) -> int: ...
    def batches(self, order_N: NDArray[np.int64], batch_size: int, epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """(images, labels) of the samples that `order_N` numbers, with the random choices of `epoch`."""


@dataclass(frozen=True)
class FrozenBody:
    """A `body` (images_NCHW -> features_ND) that no longer learns; `normalize` makes of pixels what it sees.

    On a processor it is fused for images of this shape, and in bf16 its convolutions compute in bf16.
    """

    body: nn.Module
    normalize: Callable[[Tensor], Tensor]
    precision: Precision
    device: torch.device

    @classmethod
    def of(
        cls, body: nn.Module, shape_CHW: tuple[int, int, int], normalize: Callable[[Tensor], Tensor],
        precision: Precision, device: torch.device,
    ) -> FrozenBody:  # fmt: skip
        keep_freed_memory()
        dtype = torch.bfloat16 if precision.name == "bf16" else torch.float32
        ready = fused(body.eval(), shape_CHW, dtype) if device.type == "cpu" else body.eval().to(device)
        return cls(ready, normalize, precision, device)

    @torch.inference_mode()
    def features(
        self, images: Images, views: int = 1, epochs: int = 1, workers: Workers = SINGLE_PROCESS
    ) -> tuple[Tensor, Tensor]:
        """(features_NVD of all `images`, in float32 on the CPU; their labels); several `workers` share the work.

        The dataset gives so many `views` of an image, one behind the other, and other ones in each of the `epochs`.
        """
        mine = part(len(images), workers.rank, workers.size)
        numbers_N = np.arange(mine.start, mine.stop)
        found, labels = zip(*(self._once(images, numbers_N, views, epoch) for epoch in range(epochs)), strict=True)
        return workers.gather(torch.cat(found, dim=1)), workers.gather(labels[0])

    def _once(self, images: Images, numbers_N: NDArray[np.int64], views: int, epoch: int) -> tuple[Tensor, Tensor]:
        size = max(1, (PART if self.device.type == "cpu" else _GPU_BATCH) // views)
        found, labels = [], []
        for pixels_NCHW, labels_n in images.batches(numbers_N, size, epoch):
            with whole_fp32(), self.precision.autocast(self.device):
                images_NCHW = self.normalize(pixels_NCHW).to(self.device)
                missing = size * views - len(images_NCHW)  # whole batches always: the bits of an image are its own
                whole_NCHW = torch.cat([images_NCHW, images_NCHW[-1:].expand(missing, -1, -1, -1)])
                found.append(self.body(whole_NCHW)[: len(images_NCHW)].float().cpu())
            labels.append(labels_n)
        return torch.cat(found).unflatten(0, (-1, views)), torch.cat(labels)
