"""Block momentum: workers take local steps for a block of samples, then the model moves by a filtered mean update.

Kai Chen and Qiang Huo: Scalable Training of Deep Learning Machines by Incremental Block Training with Intra-block
Parallel Optimization and Blockwise Model-Update Filtering, ICASSP 2016. In block t, worker k starts from the common
weights S and arrives at W_k. N is the number of workers, h the block momentum:

    G = mean of W_k - S;   D(t) = h D(t-1) + z G;   W(t) = W(t-1) + D(t);   S = W(t), or with Nesterov S = W(t) + h D(t)

z = N (1 - h) r with CNTK's block learning rate r: at r = 1 the model moves, in the long run, as far as all steps of
all workers together. h = exp(-block / time constant). The default 1 - 1/N makes z = r. CNTK 2.7's Nesterov form uses
S in place of W(t-1), so that its model moves 1 + h times as far; here it is as in the paper.

Model averaging is h = 0 and z = 1.
"""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from convolve.distributed.data_parallel import DataParallel
from convolve.distributed.process_group import ring_bytes, take
from convolve.errors import ModelError, UsageError
from convolve.training.optimizer_state import load_state_tensors, state_tensors
from convolve.training.workers import Workers


def block_momentum(block_samples: int, time_constant_samples: float | None, workers: int) -> float:
    """h for blocks of `block_samples` of all workers: 1 - 1/N by default, as in CNTK; 0 for a time constant of 0."""
    if time_constant_samples is None:
        return 1 - 1 / workers
    return math.exp(-block_samples / time_constant_samples) if time_constant_samples else 0.0


class BlockMomentum(DataParallel):
    """Each worker updates its own weights; they are combined after `block_samples` of all workers together.

    momentum: h, see `block_momentum`. learning_rate: r. A momentum of 0 with a rate of 1/N is model averaging.
    optimizer: this worker's; after each block it is reset, or keeps its momentum if not `resets`.
    after_samples: before this many samples, gradients are summed in each step, as in `DataParallel`.
    like_cntk: Nesterov's form as CNTK 2.7 has it.
    """

    def __init__(
        self,
        network: nn.Module,
        workers: Workers,
        block_samples: int,
        momentum: float,
        learning_rate: float = 1.0,
        nesterov: bool = True,
        optimizer: torch.optim.Optimizer | None = None,
        resets: bool = True,
        after_samples: int = 0,
        like_cntk: bool = False,
    ) -> None:
        if block_samples < workers.size or not 0 <= momentum < 1 or learning_rate <= 0:
            raise UsageError(
                f"a block needs a sample for each of {workers.size} workers, a momentum in [0, 1) and a learning rate "
                f"above 0, got {block_samples}, {momentum:g} and {learning_rate:g}"
            )
        super().__init__(network, workers)
        self._block_samples, self._apart_after_samples = block_samples, after_samples
        self._momentum, self._gain, self._nesterov = momentum, (1 - momentum) * learning_rate, nesterov
        self._goes_back = nesterov and not like_cntk
        self._optimizer, self._resets = optimizer, resets
        self._weights: list[Tensor] = [weight for weight in network.parameters() if weight.requires_grad]
        self._moves = [torch.zeros_like(weight) for weight in self._weights]  # D
        self._start: list[Tensor] = []  # S; empty until the first local step
        self._samples = 0  # of the current block

    @property
    def takes_local_steps(self) -> bool:
        return bool(self._start)

    @property
    def is_inside_block(self) -> bool:
        return self._samples > 0

    def begin_step(self, samples_seen: int) -> None:
        if samples_seen >= self._apart_after_samples and not self._start:
            self._start = [weight.detach().clone() for weight in self._weights]

    def micro_batch(self, is_last: bool) -> AbstractContextManager[None]:
        return super().micro_batch(is_last and not self._start)

    def end_step(self, samples: int) -> None:
        if not self._start:
            return
        self._samples += samples
        if self._samples >= self._block_samples:
            self._combine()

    def sync(self) -> None:
        """End the current block, however short it is."""
        if self._samples:
            self._combine()
        super().sync()

    @torch.no_grad()
    def _combine(self) -> None:
        flat = torch.cat([(w - s).reshape(-1) for w, s in zip(self._weights, self._start, strict=True)])
        self._workers.sum(flat)  # N G; hence the gain without its N
        self.bytes_sent += ring_bytes(flat, self._workers.size)
        if self._goes_back:  # from S back to W(t-1)
            torch._foreach_add_(self._start, self._moves, alpha=-self._momentum)
        take(self._weights, flat)  # the weights hold N G now, in their own memory format
        torch._foreach_mul_(self._moves, self._momentum)
        torch._foreach_add_(self._moves, self._weights, alpha=self._gain)
        torch._foreach_add_(self._start, self._moves, alpha=1 + self._momentum if self._nesterov else 1.0)
        torch._foreach_copy_(self._weights, self._start)
        self._samples = 0
        if self._optimizer and self._resets:
            self._optimizer.state.clear()

    def state(self) -> dict[str, Tensor]:
        """D of each parameter; of each worker the statistics, and the momentum if it is kept, shape (workers, ...).

        After `sync` the rest of the state is the weights themselves.
        """
        moves = {f"moves.{i}": move.contiguous() for i, move in enumerate(self._moves)}
        own = state_tensors(self._optimizer) if self._optimizer and not self._resets else {}
        local = {f"local.{name}": self._workers.gather(tensor[None].cpu()) for name, tensor in own.items()}
        return moves | local | super().state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self._start, self._samples = [], 0
        super().load_state(state)
        if not any(name.startswith("moves.") for name in state):  # of a single process
            return
        local = {name.removeprefix("local."): kept for name, kept in state.items() if name.startswith("local.")}
        if self._optimizer and all(len(kept) == self._workers.size for kept in local.values()):
            load_state_tensors(self._optimizer, {name: kept[self._workers.rank] for name, kept in local.items()})
        for i, move in enumerate(self._moves):
            kept = state.get(f"moves.{i}")
            if kept is None or kept.shape != move.shape:
                raise ModelError(f"the checkpoint's block momentum does not fit parameter {i} of this network")
            move.copy_(kept)
