"""Gradients as products of two thin matrices: torch's PowerSGD, on all gradients at once.

Thijs Vogels, Sai Praneeth Karimireddy, Martin Jaggi: PowerSGD: Practical Low-Rank Gradient Compression for Distributed
Optimization, NeurIPS 2019. With error feedback and a warm start, as torch's communication hook has them; vectors and
small matrices are sent in full. DistributedDataParallel orders its buckets anew after the first step, and after a
resume: one bucket of ours, in the order of the parameters, lets a resumed run go on to the same bits.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed import GradBucket  # type: ignore[attr-defined]  # public, but not for mypy
from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState, powerSGD_hook

from convolve.distributed.process_group import ring_bytes
from convolve.errors import ModelError
from convolve.training.workers import Workers

FULL_STEPS = 2  # the fewest that torch allows at the start
_ONLY = 0  # the index of the bucket


class Bucket:
    """What hooks ask of a bucket: a vector, and views of it, matrices in whatever format memory has them."""

    def __init__(self, whole: Tensor, parameters: Sequence[nn.Parameter]) -> None:
        self._whole, self._parameters = whole, parameters
        parts = whole.split([p.numel() for p in parameters])
        each = zip(parts, parameters, strict=True)
        self._gradients = [part.view(len(p), -1) if p.dim() > 1 else part for part, p in each]

    def parameters(self) -> Sequence[nn.Parameter]:
        return self._parameters

    def buffer(self) -> Tensor:
        return self._whole

    def gradients(self) -> list[Tensor]:
        return self._gradients

    def index(self) -> int:
        return _ONLY

    def is_last(self) -> bool:
        return True


class PowerSgdSum:
    """Sums a vector of all gradients over the workers; `rank` is that of the products."""

    def __init__(self, parameters: Sequence[nn.Parameter], workers: Workers, rank: int) -> None:
        self._workers, self._parameters, self._device = workers, parameters, parameters[0].device
        self._torch: Any = PowerSGDState(None, rank, start_powerSGD_iter=FULL_STEPS)

    def __call__(self, whole: Tensor) -> int:
        """Replace `whole` by its sum. Returns the bytes that this worker sent."""
        numbers = self._torch.total_numel_after_compression
        powerSGD_hook(self._torch, cast(GradBucket, Bucket(whole, self._parameters))).wait()
        whole *= self._workers.size  # torch makes the mean
        sent = self._torch.total_numel_after_compression - numbers or whole.numel()
        return ring_bytes(whole.new_empty(sent), self._workers.size)

    def state(self) -> dict[str, Tensor]:
        """Of each worker the residual "own", shape (workers, ...), and the factors that all have."""
        found = {"p": self._torch.p_memory_dict, "q": self._torch.q_memory_dict}
        kept = {f"power.{name}": values[_ONLY].cpu() for name, values in found.items() if values}
        if self._torch.error_dict:
            kept["power.own"] = self._workers.gather(self._torch.error_dict[_ONLY][None].cpu())
        return kept | {"power.steps": torch.tensor(self._torch.iter)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state()`. With another number of workers, worker 0 takes the sum of the residuals."""
        self._torch.iter = int(state.get("power.steps", 0))
        if "power.own" not in state:  # of a single process, or before the first product
            return
        own, rank = state["power.own"], self._workers.rank
        if own.shape[1] != sum(p.numel() for p in self._parameters):
            raise ModelError("the checkpoint's residual does not fit the parameters of this network")
        if len(own) != self._workers.size:
            own = torch.cat([own.sum(0)[None], torch.zeros_like(own[:1]).expand(self._workers.size - 1, -1)])
        self._torch.error_dict[_ONLY] = own[rank].to(self._device, copy=True)
        self._torch.p_memory_dict[_ONLY] = state["power.p"].to(self._device, copy=True)
        self._torch.q_memory_dict[_ONLY] = state["power.q"].to(self._device, copy=True)
