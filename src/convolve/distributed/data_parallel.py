"""Data parallelism: every step uses the gradient of the whole batch, of which each worker computes its shard.

A worker's loss is the sum over its shard, divided by the size of the whole batch. Gradients are summed, not averaged:
with any number of workers, and a last batch of any size, the update is then that of a single process.

Over a network, PyTorch's DistributedDataParallel sends them during the backward pass. Workers that share a host's
memory sum them after it, because there the core that would move the values is the one that computes.
"""

import inspect
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed import GradBucket  # type: ignore[attr-defined]  # public, but not for mypy
from torch.nn.parallel import DistributedDataParallel

from convolve.distributed.power_sgd import PowerSgdSum
from convolve.distributed.process_group import average, ring_bytes
from convolve.distributed.quantized import BITS, QuantizedSum
from convolve.errors import UsageError
from convolve.training.workers import Workers

Summed = tuple["torch.futures.Future[torch.Tensor]", int]  # the bucket's sum over all workers; the bytes sent


def sum_fully(bucket: GradBucket) -> Summed:
    buffer = bucket.buffer()
    future = dist.all_reduce(buffer, async_op=True).get_future()
    return future.then(lambda done: done.value()[0]), ring_bytes(buffer, dist.get_world_size())


def sum_in_fp16(bucket: GradBucket) -> Summed:
    """Half the bytes. As in torch's own fp16 hook, the sum is also made in fp16."""
    buffer = bucket.buffer()
    short = buffer.half()
    future = dist.all_reduce(short, async_op=True).get_future()
    return future.then(lambda done: buffer.copy_(done.value()[0])), ring_bytes(short, dist.get_world_size())


# torch 2.13 renamed the argument that is broadcast_buffers in 2.9.
_NAMES = inspect.signature(DistributedDataParallel).parameters
_KEEP_BUFFERS: dict[str, Any] = {
    "forward_sync_buffers" if "forward_sync_buffers" in _NAMES else "broadcast_buffers": False
}
IN_FULL = {32: sum_fully, 16: sum_in_fp16}


class DataParallel:
    """After a backward pass through `module`, all workers have the same gradient.

    bits: for each element of a gradient: 32, 16 (fp16), or 8, 4, 2 or 1, quantized with error feedback. The last four
    need fp32 or bf16, as fp16's loss scale would change the unit of the residual.
    after_samples: before this many samples, gradients are sent in full.
    power_rank: above 0, gradients are sent as products of matrices of that rank, see `power_sgd.py`.
    averaged: moving averages of the network, whose statistics are averaged over the workers as its own are.
    """

    def __init__(
        self,
        network: nn.Module,
        workers: Workers,
        bits: int = 32,
        after_samples: int = 0,
        averaged: Sequence[nn.Module] = (),
        power_rank: int = 0,
    ) -> None:
        if bits not in (*BITS, *IN_FULL):
            known = ", ".join(map(str, (*BITS, *sorted(IN_FULL))))
            raise UsageError(f"a gradient's element is sent in {known} bits, got {bits}")
        self.bytes_sent, self.module = 0, network
        self._workers, self._after_samples = workers, after_samples
        self._statistics = [b for each in (network, *averaged) for b in each.buffers() if b.is_floating_point()]
        parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self._quantized = QuantizedSum(parameters, workers, bits) if bits in BITS else None
        self._method, self._early = self._quantized or IN_FULL[bits], False
        self._power = PowerSgdSum(parameters, workers, power_rank) if power_rank else None
        in_memory = workers.shares_memory and not self._quantized and all(p.device.type == "cpu" for p in parameters)
        if self._power or in_memory:
            network.load_state_dict(workers.broadcast_tensors(network.state_dict()))  # as DistributedDataParallel does
            self._vector = _Vector(parameters)
        else:
            self.module = DistributedDataParallel(network, gradient_as_bucket_view=True, **_KEEP_BUFFERS)
            # A lambda, as torch cannot read string annotations; a proxy, as Python's gc finds no cycle through torch.
            this = weakref.proxy(self)
            self.module.register_comm_hook(None, lambda _, bucket: this._sum(bucket))

    @property
    def takes_local_steps(self) -> bool:
        return False

    @property
    def is_inside_block(self) -> bool:
        return False

    def begin_step(self, samples_seen: int) -> None:
        self._early = samples_seen < self._after_samples

    def micro_batch(self, is_last: bool) -> AbstractContextManager[None]:
        if isinstance(self.module, DistributedDataParallel):
            return nullcontext() if is_last else self.module.no_sync()
        return self._sum_gradients() if is_last else nullcontext()

    def end_step(self, samples: int) -> None:
        pass

    def sync(self) -> None:
        """Average the running statistics of batch normalization, which each worker computes from its own shards."""
        self.bytes_sent += average(self._statistics, self._workers)

    def state(self) -> dict[str, torch.Tensor]:
        """The residuals, the statistics of each worker, shape (workers, ...), and the bytes sent."""
        statistics = {f"statistics.{i}": self._workers.gather(b[None].cpu()) for i, b in enumerate(self._statistics)}
        compressed = self._quantized or self._power
        residuals = compressed.state() if compressed else {}
        return statistics | residuals | {"bytes_sent": torch.tensor(self.bytes_sent)}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from `state()`. With another number of workers residuals are kept, statistics are not."""
        self.bytes_sent = int(state.get("bytes_sent", 0))
        for i, own in enumerate(self._statistics):
            kept = state.get(f"statistics.{i}")
            if kept is not None and len(kept) == self._workers.size:
                own.copy_(kept[self._workers.rank])
        if compressed := self._quantized or self._power:
            compressed.load_state(state)

    @contextmanager
    def _sum_gradients(self) -> Iterator[None]:
        yield
        whole = self._vector.filled()
        if whole is None:
            return
        if self._power and not self._early:
            self.bytes_sent += self._power(whole)
            return
        in_full = self._early or self._method is sum_fully
        sent = whole if in_full else whole.half()
        self._workers.sum(sent)
        if not in_full:
            whole.copy_(sent)
        self.bytes_sent += ring_bytes(sent, self._workers.size)

    def _sum(self, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
        future, sent = sum_fully(bucket) if self._early else self._method(bucket)
        self.bytes_sent += sent
        return future


class _Vector:
    """All gradients of `parameters` in one vector, each in its parameter's memory format."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = parameters
        self._whole = torch.cat([torch.zeros_like(p).detach().flatten() for p in parameters])
        parts = self._whole.split([p.numel() for p in parameters])
        self._parts = [part.as_strided(p.shape, p.stride()) for part, p in zip(parts, parameters, strict=True)]

    def filled(self) -> torch.Tensor | None:
        """The vector; each gradient is now a view of it. None if a gradient is missing, which the optimizer reports."""
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        if len(gradients) < len(self._parameters):
            return None
        torch._foreach_copy_(self._parts, gradients)
        for parameter, part in zip(self._parameters, self._parts, strict=True):
            parameter.grad = part
        return self._whole
