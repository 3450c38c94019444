"""Sums over the workers of one host, through memory that all of them see.

Over connections a sum wakes threads of the other processes again and again: 2 ms for the 0.4 MB that ConvNet_MNIST's
gradient has, of which the additions take a hundredth (benchmarks/distributed.py). Here each worker writes its values
where all can read them, adds up one part of the sum from the values of all, in the order of ranks, and takes the other
parts from where the others wrote them. It waits by looking, and soon with pauses, in which others can have the core.

Linux on x86-64 alone: this processor shows a worker's writes to the others in the order in which they were made.
"""

from __future__ import annotations

import mmap
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch.distributed import Store  # type: ignore[attr-defined]  # public, but not for mypy

from convolve.distributed.lost import STEP_PATIENCE_SECONDS, has_ended, is_silent
from convolve.training.workers import part

FOLDER = Path("/dev/shm")  # the one place on Linux where files are memory
CHUNK_BYTES = 2**21  # of values at a time: they are still in the cache when they are added
LINE_BYTES = 64  # of cache; workers that wrote into the same one would take it from each other
SPIN_SECONDS = 0.0003  # some times what waking up again costs
PAUSE_SECONDS = 0.00005  # sched_yield would give whatever else wants the core a whole slice of time, milliseconds


def open_shared(store: Store, rank: int, size: int) -> SharedMemory | None:
    """The memory of `size` workers on one host; None for all of them where one of them cannot have it."""
    if rank == 0:
        store.set("memory", _create(size))
    path = Path(store.get("memory").decode())
    try:
        memory = SharedMemory(path, rank, size)
    except OSError:  # no such file for this worker: it lives in a container of its own
        memory = None
    store.set(f"memory/{rank}", "yes" if memory else "no")
    agreed = all(store.get(f"memory/{other}") == b"yes" for other in range(size))
    if rank == 0 and memory:  # all have it open; it goes when the last one ends, however that ends
        path.unlink()
    return memory if agreed else None


def is_known() -> bool:
    """Whether this system and processor do what is needed here."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


def _create(size: int) -> str:
    """The path of a new file for `size` workers; empty where there cannot be one."""
    if not is_known():
        return ""
    try:
        file, path = tempfile.mkstemp(prefix="convolve-", dir=FOLDER)
    except OSError:
        return ""
    try:
        os.posix_fallocate(file, 0, bytes_of(size))  # containers have little of it; a write without room would kill
    except OSError:
        Path(path).unlink()
    finally:
        os.close(file)
    return path


def bytes_of(size: int) -> int:
    """A line for each worker, then a chunk of values for each worker and one for their sum."""
    return size * LINE_BYTES + (size + 1) * CHUNK_BYTES


class SharedMemory:
    """What worker `rank` of `size` sees of the file at `path`. Raises OSError if it cannot."""

    def __init__(self, path: Path, rank: int, size: int, patience_seconds: float = STEP_PATIENCE_SECONDS) -> None:
        import fcntl  # not on Windows

        self._rank, self._size, self._patience_seconds = rank, size, patience_seconds
        self._file = path.open("r+b", buffering=0)
        fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, rank)  # as long as this process lives
        self._memory = mmap.mmap(self._file.fileno(), bytes_of(size))
        heads = memoryview(self._memory)[: size * LINE_BYTES].cast("q")
        self._turns = heads[:: LINE_BYTES // heads.itemsize]  # how often each worker has come to a meeting
        values = torch.frombuffer(self._memory, dtype=torch.uint8, offset=size * LINE_BYTES)
        self._chunks = values.view(size + 1, CHUNK_BYTES)
        self._turn = 0

    def sum(self, tensor: torch.Tensor) -> None:
        """Replace `tensor`, which must be contiguous, by its sum over all workers."""
        chunks = self._chunks.view(tensor.dtype)
        for values in tensor.view(-1).split(chunks.shape[1]):
            own, total, mine = chunks[self._rank], chunks[-1], part(len(values), self._rank, self._size)
            own[: len(values)] = values
            self._meet()
            torch.add(chunks[0, mine], chunks[1, mine], out=total[mine])
            for other in range(2, self._size):
                total[mine] += chunks[other, mine]
            self._meet()
            values.copy_(total[: len(values)])

    def _meet(self) -> None:
        """Wait until all have come here; what each wrote before is then seen by all."""
        self._turn += 1
        self._turns[self._rank] = self._turn
        began = time.perf_counter()
        while min(self._turns) < self._turn:
            waited = time.perf_counter() - began
            if waited < SPIN_SECONDS:
                continue
            if self._has_ended():
                raise has_ended()
            if waited > self._patience_seconds:
                raise is_silent(self._patience_seconds)
            time.sleep(PAUSE_SECONDS)

    def _has_ended(self) -> bool:
        """Whether a worker that has not come never will: the lock of one that lives cannot be had."""
        import fcntl

        for other in range(self._size):
            if self._turns[other] < self._turn:
                try:
                    fcntl.lockf(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, other)
                except OSError:
                    continue
                return self._turns[other] < self._turn  # it may have come, and ended, since
        return False
