"""Frozen features: the output of a network's body for each image, computed once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor, nn

from convolve import cache
from convolve.errors import ConvolveError
from convolve.models.fused import PART, fused
from convolve.training.memory import keep_freed_memory
from convolve.training.precision import Precision, whole_fp32
from convolve.training.workers import SINGLE_PROCESS, Workers, part

# Legend: N images, D features, C channels, H rows, W columns.

_GPU_BATCH = 128
Progress = Callable[[int, int], None]  # images computed, images in all
_KEY_BYTES = hashlib.sha256().digest_size


class Bytes(Protocol):
    """The source of a dataset's images."""

    @property
    def labels_N(self) -> Tensor: ...
    def read(self, index: int) -> bytes: ...


class Damaged(Protocol):
    """The record of damaged images that are replaced by others."""

    @property
    def numbers(self) -> set[int]: ...


class Images(Protocol):
    """What is needed of a dataset."""

    @property
    def source(self) -> Bytes: ...
    @property
    def damaged(self) -> Damaged | None: ...
    def __len__(self) -> int: ...
    def batches(self, order_N: NDArray[np.int64], batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(images, labels) of the samples with the numbers `order_N`."""


@dataclass(frozen=True, eq=False)
class FrozenBody:
    """A `body` (images_NCHW -> features_ND) that is not trained; `normalize` converts pixels to its input.

    On a processor it is fused for images of this shape; in bf16 only its convolutions compute in bf16.
    """

    body: nn.Module
    normalize: Callable[[Tensor], Tensor]
    precision: Precision
    device: torch.device
    shape_CHW: tuple[int, int, int]

    @classmethod
    def of(
        cls, body: nn.Module, shape_CHW: tuple[int, int, int], normalize: Callable[[Tensor], Tensor],
        precision: Precision, device: torch.device,
    ) -> FrozenBody:  # fmt: skip
        keep_freed_memory()
        dtype = torch.bfloat16 if precision.name == "bf16" else torch.float32
        ready = fused(body.eval(), shape_CHW, dtype) if device.type == "cpu" else body.eval().to(device)
        return cls(ready, normalize, precision, device, shape_CHW)

    def features(
        self, images: Images, workers: Workers = SINGLE_PROCESS, kept_as: str = "",
        progress: Progress = lambda done, count: None, of: range | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """(features_ND of all `images`, without random transforms, in float32 on the CPU; their labels); several
        `workers` share the work.

        `of`: only these images. `kept_as` describes everything that is done to an image before `normalize`: the
        features are then cached on disk, by the image's bytes. Empty: no cache.
        """
        mine = part(len(images), workers.rank, workers.size)
        numbers_N = np.arange(mine.start, mine.stop) if of is None else np.asarray(of)
        once = partial(self._kept, kept_as) if kept_as else self._computed
        found_ND, labels = once(images, numbers_N, progress)
        return workers.gather(found_ND), workers.gather(labels)

    @torch.inference_mode()
    def _computed(self, images: Images, numbers_N: NDArray[np.int64], progress: Progress) -> tuple[Tensor, Tensor]:
        size = PART if self.device.type == "cpu" else _GPU_BATCH
        found, labels, done = [], [], 0
        for pixels_NCHW, labels_n in images.batches(numbers_N, size):
            images_NCHW = self.normalize(pixels_NCHW)
            missing = size - len(images_NCHW)  # always whole batches: an image's bits do not depend on others
            whole_NCHW = torch.cat([images_NCHW, images_NCHW[-1:].expand(missing, -1, -1, -1)])
            found.append(self._given(whole_NCHW)[: len(images_NCHW)])
            labels.append(labels_n)
            progress(done := done + len(labels_n), len(numbers_N))
        return torch.cat(found), torch.cat(labels)

    def _given(self, images_NCHW: Tensor) -> Tensor:
        with whole_fp32(), self.precision.autocast(self.device):
            features_ND: Tensor = self.body(images_NCHW.to(self.device))
        return features_ND.float().cpu()

    def _kept(
        self, kept_as: str, images: Images, numbers_N: NDArray[np.int64], progress: Progress
    ) -> tuple[Tensor, Tensor]:
        """As `_computed`, with the cache on disk."""
        keys = [_image_key(images.source, int(number)) for number in numbers_N]
        entry = hashlib.sha256(f"{self._identity} {kept_as}".encode()).hexdigest()
        known = _unpacked(cache.read("features", entry))
        missing = [at for at, key in enumerate(keys) if key not in known]
        labels = images.source.labels_N[torch.from_numpy(numbers_N)].clone()
        if missing:
            found_ND, labels[missing] = self._computed(images, numbers_N[missing], progress)
            found = dict(zip((keys[at] for at in missing), found_ND, strict=True))
            damaged = images.damaged.numbers if images.damaged else set()  # known as damaged from here on
            new = {
                keys[at]: found[keys[at]]
                for at in missing
                if numbers_N[at] not in damaged and len(keys[at]) == _KEY_BYTES
            }
            cache.update("features", entry, lambda before: _packed(_unpacked(before) | new))
            known = known | found
        return torch.stack([known[key] for key in keys]), labels

    @cached_property
    def _identity(self) -> str:
        """What identifies this body: its exact output for noise, here and in this precision."""
        generator = torch.Generator().manual_seed(0)
        noise_NCHW = torch.randint(0, 256, (PART, *self.shape_CHW), dtype=torch.uint8, generator=generator)
        with torch.inference_mode():
            given_ND = self._given(self.normalize(noise_NCHW))
        return hashlib.sha256(given_ND.numpy().tobytes()).hexdigest()


def _image_key(source: Bytes, number: int) -> bytes:
    """A key from the image's bytes; a short one if it cannot be read."""
    try:
        content = source.read(number)
    except (OSError, ConvolveError):
        return f"{number}".encode()
    return hashlib.sha256(content).digest()


def _unpacked(content: bytes | None) -> dict[bytes, Tensor]:
    """key -> features_D"""
    if content is None:
        return {}
    tensors = load(content)
    return dict(zip(map(bytes, tensors["keys"].numpy()), tensors["features_ND"], strict=True))


def _packed(known: Mapping[bytes, Tensor]) -> bytes:
    keys = torch.from_numpy(np.array([np.frombuffer(key, np.uint8) for key in known]).reshape(len(known), -1))
    return save({"keys": keys, "features_ND": torch.stack(list(known.values())) if known else torch.zeros(0)})
