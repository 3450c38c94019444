"""An all-reduce between the workers of one host, through shared memory.

Over connections an all-reduce wakes threads of the other processes many times: 2 ms for the 0.4 MB of ConvNet_MNIST's
gradient, of which the additions take a hundredth (benchmarks/distributed.py). Here each worker writes its values to
shared memory, sums one part over all workers, in the order of ranks, and reads the other parts. It spins for 0.3 ms,
then polls with short sleeps.

Only for Linux on x86-64: this processor shows a worker's writes to the others in the order in which they were made.
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

from convolve.distributed.lost import TIMEOUT_SECONDS, has_ended, is_silent
from convolve.training.workers import part

FOLDER = Path("/dev/shm")  # where Linux keeps files in memory
CHUNK_BYTES = 2**21  # of values at a time: they are still in the cache when they are summed
LINE_BYTES = 64  # a cache line; workers that write to the same one would wait for each other
SPIN_SECONDS = 0.0003  # a few times what it costs to wake up
PAUSE_SECONDS = 0.00005  # sched_yield would give other processes a whole time slice, milliseconds


def open_shared(store: Store, rank: int, size: int, patience_seconds: float = TIMEOUT_SECONDS) -> SharedMemory | None:
    """The memory of `size` workers on one host; None for all of them if one of them cannot open it."""
    if rank == 0:
        store.set("memory", _create(size))
    path = Path(store.get("memory").decode())
    if path == Path():  # worker 0 has made none
        return None
    try:
        memory = SharedMemory(path, rank, size, patience_seconds)
    except OSError:  # this worker runs in a container of its own
        memory = None
    store.set(f"memory/{rank}", "yes" if memory else "no")
    agreed = all(store.get(f"memory/{other}") == b"yes" for other in range(size))
    if rank == 0 and memory:  # all have it open; the system frees it when the last one ends
        path.unlink()
    return memory if agreed else None


def is_supported() -> bool:
    """Whether this system and processor are supported."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


def _create(size: int) -> str:
    """The path of a new file for `size` workers; empty if it cannot be made."""
    if not is_supported():
        return ""
    try:
        file, path = tempfile.mkstemp(prefix="convolve-", dir=FOLDER)
    except OSError:
        return ""
    try:
        os.posix_fallocate(file, 0, bytes_of(size))  # a write without room would kill the process
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

    def __init__(self, path: Path, rank: int, size: int, patience_seconds: float = TIMEOUT_SECONDS) -> None:
        import fcntl  # not on Windows

        self._rank, self._size, self._patience_seconds = rank, size, patience_seconds
        self._file = path.open("r+b", buffering=0)
        fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, rank)  # held as long as this process lives
        self._memory = mmap.mmap(self._file.fileno(), bytes_of(size))
        heads = memoryview(self._memory)[: size * LINE_BYTES].cast("q")
        self._turns = heads[:: LINE_BYTES // heads.itemsize]  # how many barriers each worker has reached
        values = torch.frombuffer(self._memory, dtype=torch.uint8, offset=size * LINE_BYTES)
        self._chunks = values.view(size + 1, CHUNK_BYTES)
        self._turn = 0

    def sum(self, tensor: torch.Tensor) -> None:
        """Replace `tensor`, which must be contiguous, by its sum over all workers."""
        chunks = self._chunks.view(tensor.dtype)
        for values in tensor.view(-1).split(chunks.shape[1]):
            own, total, mine = chunks[self._rank], chunks[-1], part(len(values), self._rank, self._size)
            own[: len(values)] = values
            self._barrier()
            torch.add(chunks[0, mine], chunks[1, mine], out=total[mine])
            for other in range(2, self._size):
                total[mine] += chunks[other, mine]
            self._barrier()
            values.copy_(total[: len(values)])

    def _barrier(self) -> None:
        """Wait for all workers; all then see what each wrote before."""
        self._turn += 1
        self._turns[self._rank] = self._turn
        began = time.perf_counter()
        while min(self._turns) < self._turn:
            waited = time.perf_counter() - began
            if waited < SPIN_SECONDS:
                continue
            if (ended := self._ended()) is not None:
                raise has_ended(f"worker {ended}")
            if waited > self._patience_seconds:
                silent = min(range(self._size), key=self._turns.__getitem__)
                raise is_silent(self._patience_seconds, f"worker {silent}")
            time.sleep(PAUSE_SECONDS)

    def _ended(self) -> int | None:
        """A worker that has not reached the barrier and has ended, if there is one: its lock is then free."""
        import fcntl

        for other in range(self._size):
            if self._turns[other] < self._turn:
                try:
                    fcntl.lockf(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, other)
                except OSError:
                    continue
                if self._turns[other] < self._turn:  # it may have reached the barrier, and ended, since
                    return other
        return None
