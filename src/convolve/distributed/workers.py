"""The group of processes that train together: who is in it, and what they can tell each other."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from torch.distributed import Store  # type: ignore[attr-defined]  # public, but not for mypy

from convolve.distributed.meeting import PATIENCE_SECONDS, Card, meet
from convolve.distributed.process import Place
from convolve.errors import TrainingError
from convolve.training.workers import Share, Workers, part


class Together:
    """Worker `rank` of `size`. `local_rank` counts on its host; `threads` is its part of the host's cores."""

    def __init__(self, store: Store, place: Place, cards: Sequence[Card], cuda: bool = False) -> None:
        self.rank, self.size = place.rank, place.size
        here = [rank for rank, card in enumerate(cards) if card.host == cards[self.rank].host]
        self.local_rank = here.index(self.rank)
        self.threads = threads_of(self.local_rank, [cards[rank].cores for rank in here])
        if cuda:
            torch.cuda.set_device(self.local_rank)
        backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
        dist.init_process_group(backend, store=store, rank=self.rank, world_size=self.size)

    def share(self, count: int) -> Share:
        mine = part(count, self.rank, self.size)
        return Share(mine, 1.0) if mine.start < mine.stop else Share(slice(0, 1), 0.0)

    def sum(self, tensor: torch.Tensor) -> None:
        dist.all_reduce(tensor)

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(lengths, torch.tensor([len(tensor)]))
        longest = max(int(length) for length in lengths)
        padded = tensor.new_zeros(longest, *tensor.shape[1:])
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded)
        return torch.cat([part[: int(length)] for part, length in zip(parts, lengths, strict=True)])

    def require_same(self, values: Mapping[str, str]) -> None:
        text = torch.tensor(list(f"{json.dumps(values)}\n".encode()), dtype=torch.uint8)
        everyone = [json.loads(line) for line in bytes(self.gather(text).tolist()).splitlines()]
        for rank, theirs in enumerate(everyone):
            for name, first in everyone[0].items():
                if theirs.get(name) != first:
                    raise TrainingError(
                        f"{name} is {first} for worker 0 and {theirs.get(name)} for worker {rank}; all need the same"
                    )

    def barrier(self) -> None:
        self.sum(torch.zeros(1))

    def leave(self) -> None:
        """Part in good order; not after a failure, when the others may wait for something else."""
        dist.destroy_process_group()


def join(
    place: Place, environ: Mapping[str, str], cuda: bool = False, patience_seconds: float = PATIENCE_SECONDS
) -> Together:
    """Meet the other processes of the job. `cuda`: each of them has a GPU of its own, the one of its `local_rank`."""
    store, cards = meet(place, environ, patience_seconds)
    return Together(store, place, cards, cuda)


def threads_of(local_rank: int, cores: Sequence[Sequence[int]]) -> int:
    """The part of the cores that falls to one of the processes on a host, where each may run on `cores`.

    Launchers may bind each process to cores of its own, or leave all cores to all.
    """
    users = Counter(core for allowed in cores for core in allowed)
    return max(1, math.floor(sum(1 / users[core] for core in cores[local_rank]) + 1e-9))


def average(tensors: Sequence[torch.Tensor], workers: Workers) -> int:
    """Replace each of `tensors` by its mean over all workers. Returns the bytes that this worker sent."""
    if not tensors:
        return 0
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    workers.sum(flat)
    take(tensors, flat / workers.size)
    return ring_bytes(flat, workers.size)


def take(tensors: Sequence[torch.Tensor], flat: torch.Tensor) -> None:
    """Fill `tensors` from the vector of all their elements; each keeps its memory format."""
    parts = flat.split([tensor.numel() for tensor in tensors])
    for tensor, values in zip(tensors, parts, strict=True):
        tensor.copy_(values.view(tensor.shape))


def ring_bytes(tensor: torch.Tensor, size: int) -> int:
    """What each of `size` workers sends for an all-reduce of `tensor`: all but its own part of it, twice."""
    return 2 * (size - 1) * tensor.numel() * tensor.element_size() // size
