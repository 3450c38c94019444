"""The group of processes that train together, and its collectives."""

import atexit
import gc
import json
import math
import os
import socket
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from safetensors.torch import load, save
from torch.distributed import FileStore, Store  # type: ignore[attr-defined]  # public, but not for mypy

from convolve.distributed.launcher import LOOPBACK, RankInfo, master_address, rank_info
from convolve.distributed.lost import TIMEOUT_SECONDS, has_ended, is_silent
from convolve.distributed.rendezvous import PATIENCE_SECONDS, WorkerInfo, interface_to, rendezvous
from convolve.distributed.shared_memory import open_shared
from convolve.errors import TrainingError
from convolve.specs.distributed import DistributedSpec
from convolve.training.workers import SINGLE_PROCESS, Shard, Workers, part

T = TypeVar("T")
BETWEEN_STEPS = 6  # times the patience within a step: one worker may do something alone, such as a download
CLOCK_SECONDS = 10.0  # by which clocks may differ; what is measured includes the way of a message


class ProcessGroup(Workers):
    """Worker `rank` of `size`. Workers of one host sum tensors in its memory if they can, others over connections."""

    def __init__(
        self, store: Store, infos: Sequence[WorkerInfo], own: RankInfo, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        self.hosts = tuple(info.host for info in infos)
        self.at_close = ExitStack()
        self.rank, self.size, self._is_one_host = own.rank, own.size, isinstance(store, FileStore)
        here = [rank for rank, info in enumerate(infos) if info.host == infos[self.rank].host]
        self.local_rank = here.index(self.rank)
        self.threads = threads_of(self.local_rank, [infos[rank].cores for rank in here])
        # DistributedDataParallel imports it, and its functions keep the current group as a default: here there is none.
        import torch.distributed.nn.functional

        self.uses_nccl = torch.cuda.is_available() and dist.is_nccl_available()
        backend = "cpu:gloo,cuda:nccl" if self.uses_nccl else "gloo"
        step = timedelta(seconds=timeout_seconds)
        try:
            dist.init_process_group(backend, timeout=step, store=store, rank=self.rank, world_size=self.size)
            self._between_steps = dist.new_group(backend="gloo", timeout=BETWEEN_STEPS * step)
            # Its path is in the store, which on several hosts anyone who reaches the port can change.
            shares = self._is_one_host and self.size > 1
            self._memory = open_shared(store, self.rank, self.size, timeout_seconds) if shares else None
        except dist.DistNetworkError as error:  # from worker 0's store, which answered before
            raise has_ended() from error
        except RuntimeError as error:
            if self._is_one_host and "imeout" in str(error):
                raise is_silent(timeout_seconds) from error
            raise TrainingError(
                f"worker {self.rank} of {self.size} found the others but cannot connect to them: {error}; set "
                f"GLOO_SOCKET_IFNAME to the network interface that leads there"
            ) from error

    @property
    def shares_memory(self) -> bool:
        return self._memory is not None

    def shard(self, count: int) -> Shard:
        mine = part(count, self.rank, self.size)
        return Shard(mine, 1.0) if mine.start < mine.stop else Shard(slice(0, 1), 0.0)

    def sum(self, tensor: torch.Tensor) -> None:
        if self._memory and tensor.device.type == "cpu":
            self._memory.sum(tensor)
        else:
            dist.all_reduce(tensor)

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(lengths, torch.tensor([len(tensor)]), self._between_steps)
        longest = max(int(length) for length in lengths)
        padded = tensor.new_zeros(longest, *tensor.shape[1:])
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded, self._between_steps)
        return torch.cat([part[: int(length)] for part, length in zip(parts, lengths, strict=True)])

    def broadcast(self, value: T) -> T:
        return cast(T, json.loads(self._broadcast(b"" if self.rank else json.dumps(value).encode())))

    def broadcast_tensors(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if self.rank:
            return load(self._broadcast(b""))
        contiguous = torch.contiguous_format  # and cloned, as safetensors takes no views
        copies = {name: each.detach().cpu().clone(memory_format=contiguous) for name, each in tensors.items()}
        return load(self._broadcast(save(copies)))

    def _broadcast(self, content: bytes) -> bytes:
        length = torch.tensor([len(content)])
        dist.broadcast(length, 0, self._between_steps)
        buffer = torch.empty(int(length), dtype=torch.uint8)
        if self.rank == 0:
            buffer.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        dist.broadcast(buffer, 0, self._between_steps)
        return buffer.numpy().tobytes()

    def require_same(self, values: Mapping[str, str]) -> None:
        text = torch.tensor(list(f"{json.dumps(values)}\n".encode()), dtype=torch.uint8)
        everyone = [json.loads(line) for line in bytes(self.gather(text).tolist()).splitlines()]
        for rank, theirs in enumerate(everyone):
            for name, first in everyone[0].items():
                if theirs.get(name) != first:
                    raise TrainingError(
                        f"{name} is {first} for worker 0 and {theirs.get(name)} for worker {rank}; all need the same"
                    )

    def compare_clocks(self) -> None:
        """Find hosts whose clock is another than worker 0's."""
        self.barrier()
        seconds = self.gather(torch.tensor([time.time()], dtype=torch.float64))
        for rank, off in enumerate((seconds - seconds[0]).tolist()):
            if abs(off) > CLOCK_SECONDS and self.hosts.index(self.hosts[rank]) == rank:
                ahead = "ahead of" if off > 0 else "behind"
                self.warnings += (
                    f"the clock of host {self.hosts[rank]} is {abs(off):,.0f} s {ahead} that of worker 0, whose times "
                    "the log has; set the clocks alike (NTP) before you compare times of files",
                )

    def barrier(self) -> None:
        dist.all_reduce(torch.zeros(1), group=self._between_steps)

    def close(self) -> None:
        """Close the connections. Gloo's threads end with the last object that uses them.

        A thread that outlives the interpreter and frees a tensor ends the process with SIGABRT
        (github.com/pytorch/pytorch/issues/190489).
        """
        gc.collect()  # the DistributedDataParallel of a finished training
        del self._between_steps
        if dist.is_initialized():  # Ray ends it, too
            dist.destroy_process_group()
        self.at_close.close()


def join(
    own: RankInfo,
    environ: Mapping[str, str],
    patience_seconds: float = PATIENCE_SECONDS,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> ProcessGroup:
    """The process group of this job."""
    address = master_address(own, environ) or ("127.0.0.1", 1)
    is_reached_otherwise = not own.is_one_host and address[0] in LOOPBACK  # the first pod of a PyTorchJob
    if "GLOO_SOCKET_IFNAME" not in os.environ and not is_reached_otherwise and (name := interface_to(*address)):
        os.environ["GLOO_SOCKET_IFNAME"] = name
    if "RAY_JOB_ID" in environ and dist.is_initialized():
        dist.destroy_process_group()  # Ray's, which on GPUs takes no tensors of the CPU
    with ExitStack() as stack:
        workers = ProcessGroup(*stack.enter_context(rendezvous(own, environ, patience_seconds)), own, timeout_seconds)
        workers.compare_clocks()  # all are connected; gloo does not need the store any more
        if workers.uses_nccl:  # it connects at its first all-reduce
            workers.at_close = stack.pop_all()
    return workers


_joined: list[Workers] = []


def all_workers(spec: DistributedSpec | None = None) -> Workers:
    """The processes that a launcher has started with this one, connected until this one ends."""
    own, timeout_seconds = rank_info(os.environ), (spec or DistributedSpec()).timeout_seconds
    job = os.environ.get("TORCHELASTIC_RUN_ID", "none")  # torchrun's own word for no name
    if own.size == 1 and job == "none":
        return SINGLE_PROCESS
    if not _joined:
        workers = join(own, os.environ, timeout_seconds=timeout_seconds) if own.size > 1 else Workers()
        workers.job, workers.timeout_seconds = "" if job == "none" else job, timeout_seconds
        workers.hosts = workers.hosts or (socket.gethostname(),)
        _joined.append(workers)
        atexit.register(workers.close)
    return _joined[0]


def threads_of(local_rank: int, cores: Sequence[Sequence[int]]) -> int:
    """The number of threads for process `local_rank` on a host; process i may run on `cores[i]`.

    Launchers may bind each process to its own cores, or leave all cores to all.
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
    """Fill `tensors` from one vector of all their elements; each keeps its memory format."""
    parts = flat.split([tensor.numel() for tensor in tensors])
    for tensor, values in zip(tensors, parts, strict=True):
        tensor.copy_(values.view(tensor.shape))


def ring_bytes(tensor: torch.Tensor, size: int) -> int:
    """What each of `size` workers sends in a ring all-reduce of `tensor`: all but its own part, twice."""
    return 2 * (size - 1) * tensor.numel() * tensor.element_size() // size
