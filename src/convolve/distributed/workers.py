"""The group of processes that train together: who is in it, and what they can tell each other."""

from __future__ import annotations

import atexit
import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch
import torch.distributed as dist
from torch.distributed import Store  # type: ignore[attr-defined]  # public, but not for mypy

from convolve.distributed.meeting import PATIENCE_SECONDS, Card, interface_to, meet
from convolve.distributed.process import Place, find_place, meeting_point
from convolve.errors import TrainingError
from convolve.training.workers import ALONE, Share, Workers, part

T = TypeVar("T")


class Together:
    """Worker `rank` of `size`. `local_rank` counts on its host; `threads` is its part of the host's cores."""

    def __init__(self, store: Store, place: Place, cards: Sequence[Card]) -> None:
        self.rank, self.size = place.rank, place.size
        here = [rank for rank, card in enumerate(cards) if card.host == cards[self.rank].host]
        self.local_rank = here.index(self.rank)
        self.threads = threads_of(self.local_rank, [cards[rank].cores for rank in here])
        has_nccl = torch.cuda.is_available() and dist.is_nccl_available()
        backend = "cpu:gloo,cuda:nccl" if has_nccl else "gloo"
        try:
            dist.init_process_group(backend, store=store, rank=self.rank, world_size=self.size)
        except RuntimeError as error:
            raise TrainingError(
                f"worker {self.rank} of {self.size} has met the others and cannot reach them: {error}; "
                "GLOO_SOCKET_IFNAME says which network interface leads there"
            ) from error

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

    def hand_out(self, value: T) -> T:
        values = [value]
        dist.broadcast_object_list(values, device=torch.device("cpu"))
        return values[0]

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
        dist.destroy_process_group()


def join(place: Place, environ: Mapping[str, str], patience_seconds: float = PATIENCE_SECONDS) -> Together:
    """Meet the other processes of the job."""
    store, cards = meet(place, environ, patience_seconds)
    point = meeting_point(place, environ)
    if point and "GLOO_SOCKET_IFNAME" not in os.environ and (name := interface_to(*point)):
        os.environ["GLOO_SOCKET_IFNAME"] = name
    return Together(store, place, cards)


@cache
def all_workers() -> Workers:
    """The processes that a launcher has started with this one: they meet once, and part as the process ends."""
    place = find_place(os.environ)
    if place.size == 1:
        return ALONE
    workers = join(place, os.environ)
    atexit.register(workers.leave)
    return workers


@contextmanager
def naming_lost_workers() -> Iterator[None]:
    """Say in one sentence what torch's errors about a closed connection mean."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo/transport" not in str(error):
            raise
        raise TrainingError(
            "another worker has ended; see its message. The same command again goes on, but without --restart"
        ) from error


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
