"""What training asks of the processes that train together. One alone is the trivial case; distributed/ has the rest."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import nn

T = TypeVar("T")


class Shard(NamedTuple):
    """A worker's `rows` of a batch, and what it counts.

    The weight is 1, or 0 where a short batch leaves nothing for a worker: it computes one sample all the same, as
    its gradient must be there to be added, and counts it for nothing.
    """

    rows: slice
    weight: float


def part(count: int, rank: int, size: int) -> slice:
    """The slice of `count` things that is `rank`'s: the slices are disjoint, complete and differ by one at most."""
    each, rest = divmod(count, size)
    start = rank * each + min(rank, rest)
    return slice(start, start + each + (rank < rest))


class Workers(Protocol):
    """The processes that train together, seen from one of them. `rank` counts from 0; rank 0 alone writes files."""

    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def local_rank(self) -> int:
        """The rank among the workers on this host."""

    @property
    def threads(self) -> int:
        """This worker's part of the host's cores; 0: all of them."""

    @property
    def shares_memory(self) -> bool:
        """Whether sums on the processor go through memory, so that there is no connection to wait for."""

    def shard(self, count: int) -> Shard:
        """The shard of this worker in a batch of `count` samples."""

    def sum(self, tensor: torch.Tensor) -> None:
        """Replace `tensor` by its sum over all workers."""

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensors of all workers, one after the other in the order of ranks; they may differ in length."""

    def broadcast(self, value: T) -> T:
        """Worker 0's `value`, which must be JSON, whatever the others give."""

    def broadcast_tensors(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Worker 0's `tensors`, on the processor, whatever the others give."""

    def require_same(self, values: Mapping[str, str]) -> None:
        """Raise TrainingError, naming the first of `values` in which the workers differ."""

    def barrier(self) -> None:
        """Wait for all the others."""


class GradientSync(Protocol):
    """How the workers' gradients or weights meet. `module` is to be called in place of the network."""

    @property
    def module(self) -> nn.Module: ...
    @property
    def bytes_sent(self) -> int:
        """By this worker, so far."""

    @property
    def takes_local_steps(self) -> bool:
        """Whether each worker takes a step of its own in this round, on the mean gradient of its share alone."""

    def begin_step(self, samples_seen: int) -> None:
        """Before a step, which comes after `samples_seen` of all workers together."""

    def micro_batch(self, is_last: bool) -> AbstractContextManager[None]:
        """Around forward and backward of one piece of a batch; gradients travel with the last one."""

    def end_step(self, samples: int) -> None:
        """After a step of `samples` of all workers together."""

    def sync(self) -> None:
        """Make the weights of all workers the same, as they must be for an evaluation or a checkpoint."""

    def state(self) -> dict[str, torch.Tensor]:
        """What a checkpoint needs of all workers; every one of them has to ask for it."""

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from a `state()`, be it of another number of workers."""


class SingleProcess:
    """One process."""

    rank, size, local_rank, threads, shares_memory = 0, 1, 0, 0, False

    def shard(self, count: int) -> Shard:
        return Shard(slice(0, count), 1.0)

    def sum(self, tensor: torch.Tensor) -> None:
        pass

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor

    def broadcast(self, value: T) -> T:
        return value

    def broadcast_tensors(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return dict(tensors)

    def require_same(self, values: Mapping[str, str]) -> None:
        pass

    def barrier(self) -> None:
        pass


SINGLE_PROCESS = SingleProcess()
