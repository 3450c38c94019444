"""Simple aggregation: every step uses the gradient of the whole batch, of which each worker computes its share.

A worker's loss is the sum over its share divided by the size of the whole batch. The gradients are added, not averaged:
a last batch of any size, and any number of workers, then give the update of one worker.

Over a network they travel while the backward pass goes on, by PyTorch's DistributedDataParallel. Workers that share a
host's memory add them up after it: what moves the values there is the core that computes.
"""

from __future__ import annotations

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

from convolve.distributed.process_group import average, ring_bytes
from convolve.distributed.quantized import BITS, QuantizedSum
from convolve.errors import UsageError
from convolve.training.workers import Workers

Summed = tuple["torch.futures.Future[torch.Tensor]", int]  # the bucket's sum over all workers, and the bytes sent


def sum_fully(bucket: GradBucket) -> Summed:
    buffer = bucket.buffer()
    future = dist.all_reduce(buffer, async_op=True).get_future()
    return future.then(lambda done: done.value()[0]), ring_bytes(buffer, dist.get_world_size())


def sum_in_fp16(bucket: GradBucket) -> Summed:
    """Half the bytes. As in torch's own hook of that kind, the sum too is made in fp16."""
    buffer = bucket.buffer()
    short = buffer.half()
    future = dist.all_reduce(short, async_op=True).get_future()
    return future.then(lambda done: buffer.copy_(done.value()[0])), ring_bytes(short, dist.get_world_size())


# torch 2.13 has another name for what 2.9 calls broadcast_buffers.
_NAMES = inspect.signature(DistributedDataParallel).parameters
_KEEP_BUFFERS: dict[str, Any] = {
    "forward_sync_buffers" if "forward_sync_buffers" in _NAMES else "broadcast_buffers": False
}
IN_FULL = {32: sum_fully, 16: sum_in_fp16}


class DataParallel:
    """`module` is `network`, one backward pass of which leaves the same gradient on all workers.

    bits: of a gradient's element on the wire: 32, 16 (fp16), or 8, 4, 2 or 1, quantized with error feedback, for a
    gradient in fp32 or bf16 (a loss scale, as fp16 needs it, would change under what was kept back).
    after_samples: until so many samples were seen, gradients travel in full.
    averaged: moving averages of the network, whose statistics meet as its own do.
    """

    def __init__(
        self,
        network: nn.Module,
        workers: Workers,
        bits: int = 32,
        after_samples: int = 0,
        averaged: Sequence[nn.Module] = (),
    ) -> None:
        if bits not in (*BITS, *IN_FULL):
            known = ", ".join(map(str, (*BITS, *sorted(IN_FULL))))
            raise UsageError(f"the elements of a gradient travel in {known} bits, got {bits}")
        self.bytes_sent, self.takes_local_steps = 0, False
        self._workers, self._after_samples = workers, after_samples
        self._statistics = [b for each in (network, *averaged) for b in each.buffers() if b.is_floating_point()]
        parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self._quantized = QuantizedSum(parameters, workers, bits) if bits in BITS else None
        self._method, self._early = self._quantized or IN_FULL[bits], False
        self.module: nn.Module = network
        if workers.shares_memory and not self._quantized and all(p.device.type == "cpu" for p in parameters):
            network.load_state_dict(workers.broadcast_tensors(network.state_dict()))  # as DistributedDataParallel does
            self._vector = _Vector(parameters)
        else:
            self.module = DistributedDataParallel(network, gradient_as_bucket_view=True, **_KEEP_BUFFERS)
            # A lambda, as torch cannot read annotations that are text; no cycle, as Python sees none through torch.
            this = weakref.proxy(self)
            self.module.register_comm_hook(None, lambda _, bucket: this._sum(bucket))

    def begin_step(self, samples_seen: int) -> None:
        self._early = samples_seen < self._after_samples

    def micro_batch(self, is_last: bool) -> AbstractContextManager[None]:
        if isinstance(self.module, DistributedDataParallel):
            return nullcontext() if is_last else self.module.no_sync()
        return self._adding_up() if is_last else nullcontext()

    def end_step(self, samples: int) -> None:
        pass

    def sync(self) -> None:
        """Average what each worker has seen of its own share: the running statistics of batch normalization."""
        self.bytes_sent += average(self._statistics, self._workers)

    def state(self) -> dict[str, torch.Tensor]:
        """What was not sent yet, the statistics of each worker, shape (workers, ...), and the bytes sent."""
        statistics = {f"statistics.{i}": self._workers.gather(b[None].cpu()) for i, b in enumerate(self._statistics)}
        unsent = self._quantized.state() if self._quantized else {}
        return statistics | unsent | {"bytes_sent": torch.tensor(self.bytes_sent)}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from `state()`. Of another number of workers, what was not sent is taken over, statistics are not."""
        self.bytes_sent = int(state.get("bytes_sent", 0))
        for i, own in enumerate(self._statistics):
            kept = state.get(f"statistics.{i}")
            if kept is not None and len(kept) == self._workers.size:
                own.copy_(kept[self._workers.rank])
        if self._quantized:
            self._quantized.load_state(state)

    @contextmanager
    def _adding_up(self) -> Iterator[None]:
        yield
        whole = self._vector.filled()
        if whole is None:
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
    """The gradients of `parameters` one after the other, each in its parameter's memory format."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = parameters
        self._whole = torch.cat([torch.zeros_like(p).detach().flatten() for p in parameters])
        parts = self._whole.split([p.numel() for p in parameters])
        self._parts = [part.as_strided(p.shape, p.stride()) for part, p in zip(parts, parameters, strict=True)]

    def filled(self) -> torch.Tensor | None:
        """The vector, of which each parameter's gradient is now a part; None if one has none, as the optimizer says."""
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        if len(gradients) < len(self._parameters):
            return None
        torch._foreach_copy_(self._parts, gradients)
        for parameter, part in zip(self._parameters, self._parts, strict=True):
            parameter.grad = part
        return self._whole
