"""What training needs of the processes that train together: here for one process, in distributed/ for several."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import nn

from convolve.errors import ConvolveError

T = TypeVar("T")


class Shard(NamedTuple):
    """A worker's `rows` of a batch, and their weight.

    The weight is 1. A worker with an empty shard runs one sample with weight 0, so that the all-reduce still completes.
    """

    rows: slice
    weight: float


def part(count: int, rank: int, size: int) -> slice:
    """The slice of `count` things for worker `rank` of `size`: disjoint, complete, lengths differ by at most 1."""
    each, rest = divmod(count, size)
    start = rank * each + min(rank, rest)
    return slice(start, start + each + (rank < rest))


class Workers:
    """The processes that train together, seen from one of them; here the only one. Rank 0 alone writes files.

    local_rank: the rank among the workers on this host. threads: this worker's part of the host's cores; 0: all.
    hosts: the host name of each worker. job: the name of elastic workers. timeout_seconds: see `DistributedSpec`.
    warnings: notes about them for the user. shares_memory: sums on the CPU go through shared memory, so that no
    connection is needed.
    """

    rank = local_rank = threads = 0
    size = 1
    hosts: tuple[str, ...] = ()
    job, timeout_seconds = "", 0.0
    warnings: tuple[str, ...] = ()

    @property
    def shares_memory(self) -> bool:
        return False

    def shard(self, count: int) -> Shard:
        """This worker's shard of a batch of `count` samples."""
        return Shard(slice(0, count), 1.0)

    def rows(self, count: int) -> slice:
        return self.shard(count).rows

    def sum(self, tensor: torch.Tensor) -> None:
        """Replace `tensor` by its sum over all workers."""

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """Concatenate the tensors of all workers in the order of ranks; their lengths may differ."""
        return tensor

    def broadcast(self, value: T) -> T:
        """Worker 0's `value`, which must be JSON."""
        return value

    def broadcast_tensors(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Worker 0's `tensors`, on the CPU."""
        return dict(tensors)

    def require_same(self, values: Mapping[str, str]) -> None:
        """Raise TrainingError that names the first of `values` in which the workers differ."""

    def barrier(self) -> None:
        """Wait for all the others."""

    def close(self) -> None:
        """Close the connections to the others."""


SINGLE_PROCESS = Workers()


def one_first_on_each_host(workers: Workers, make: Callable[[], T]) -> T:
    """The result of `make`; one worker on each host calls it before the others, since it may download something."""
    made: T | ConvolveError | None = None
    for comes_first in (True, False):
        if comes_first == (workers.local_rank == 0):
            try:
                made = make()
            except ConvolveError as error:
                made = error
        workers.barrier()
    if isinstance(made, ConvolveError):
        raise made
    assert made is not None  # each had its turn
    return made


class GradientSync(Protocol):
    """How several workers keep their weights in sync. `module` is called in place of the network."""

    @property
    def module(self) -> nn.Module: ...
    @property
    def bytes_sent(self) -> int:
        """The bytes that this worker has sent so far."""

    @property
    def takes_local_steps(self) -> bool:
        """Whether each worker now updates its own weights, with the mean gradient of its own batch."""

    @property
    def is_inside_block(self) -> bool:
        """Whether workers have taken local steps since their weights were equal: then no checkpoint can be written."""

    def begin_step(self, samples_seen: int) -> None:
        """Called before a step, when all workers together have seen `samples_seen`."""

    def micro_batch(self, is_last: bool) -> AbstractContextManager[None]:
        """A context for forward and backward of a micro-batch; gradients are sent with the last one of a step."""

    def end_step(self, samples: int) -> None:
        """Called after a step of `samples` of all workers together."""

    def sync(self) -> None:
        """Make the weights of all workers equal, as an evaluation or a checkpoint needs them."""

    def state(self) -> dict[str, torch.Tensor]:
        """The state of all workers for a checkpoint; each of them must call this."""

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from a `state()`, also that of another number of workers."""
