"""Several processes that train one program, started by mpiexec, torchrun or Slurm."""

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch

from convolve.cntk import device as devices
from convolve.distributed.block_momentum import BlockMomentum, block_momentum
from convolve.distributed.process_group import all_workers, take
from convolve.distributed.quantized import BITS, QuantizedSum
from convolve.training.workers import Workers

__all__ = [
    "Communicator", "DistributedLearner", "WorkerDescriptor", "block_momentum_distributed_learner",
    "data_parallel_distributed_learner", "mpi_communicator",
]  # fmt: skip
FULL_BITS = 32
_state = {"is_finalized": False}


def _workers() -> Workers:
    """The processes of this job; each uses its share of the host's cores."""
    workers = all_workers()
    if workers.threads:
        torch.set_num_threads(workers.threads)
    return workers


class WorkerDescriptor(NamedTuple):
    global_rank: int
    host_id: str = ""


class Communicator:
    """All processes that were started together; a single one is number 0 of 1."""

    @staticmethod
    def num_workers() -> int:
        return _workers().size

    @staticmethod
    def rank() -> int:
        return _workers().rank

    @staticmethod
    def is_main() -> bool:
        return _workers().rank == 0

    @staticmethod
    def barrier() -> None:
        _workers().barrier()

    @staticmethod
    def finalize() -> None:
        """A program's last call. Connections end with the process, but no distributed learner can be
        created after it."""
        _state["is_finalized"] = True

    @staticmethod
    def current_worker() -> WorkerDescriptor:
        return WorkerDescriptor(_workers().rank)

    @staticmethod
    def workers() -> list[WorkerDescriptor]:
        return [WorkerDescriptor(rank) for rank in range(_workers().size)]


def mpi_communicator() -> Communicator:
    return Communicator()


class _Bucket(NamedTuple):
    """What the quantized sum of one step needs."""

    weights: Sequence[Any]
    values: Sequence[torch.Tensor]

    def parameters(self) -> Sequence[Any]:
        return self.weights

    def gradients(self) -> Sequence[torch.Tensor]:
        return self.values

    def buffer(self) -> torch.Tensor:
        return self.values[0]


class DistributedLearner:
    """A learner that sums gradients over all workers; data_parallel_distributed_learner creates it.

    Each worker has its own part of a minibatch; rates, momenta and counts are those of the whole minibatch.
    """

    rates_used: ClassVar[dict[str, float]] = {}  # CNTK prints none for distributed learners

    def __init__(self, learner: Any, after: int) -> None:
        if _state["is_finalized"]:
            raise RuntimeError("MPI was ended by Communicator.finalize(); create distributed learners before that call")
        self.learner, self.after, self._group = learner, int(after), _workers()
        if self._group.size > 1 and devices.used().type != "cpu":
            raise NotImplementedError(
                "several processes can compute on CPUs only; do not choose a GPU, or start one process"
            )

    def __getattr__(self, name: str) -> Any:
        return getattr(self.learner, name)

    @property
    def total_number_of_samples_seen(self) -> int:
        """A number, as in CNTK; other learners have a method of this name."""
        return int(self.learner.samples_seen)

    def communicator(self) -> Communicator:
        return Communicator()

    get_communicator = communicator

    def shares(self, samples_seen: int) -> bool:
        """Whether the workers train together after this many samples."""
        return self._group.size > 1 and samples_seen >= self.after

    def totals(self, figures: Sequence[float]) -> list[float]:
        """The figures summed over all workers."""
        tensor = torch.tensor(figures, dtype=torch.float64)
        self._group.sum(tensor)
        return tensor.tolist()

    def shared_step(self, own: int, total: int, is_sweep_end: bool = False) -> bool:
        """A step from `.grad`, the gradient of the loss summed over this worker's `own` samples of `total`."""
        weights = [parameter.data for parameter in self.learner.parameters]
        gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
        self._sum(weights, gradients)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient / total
        return bool(self.learner.step(total, is_sweep_end))

    def sync(self) -> None:
        """Make the weights of all workers equal."""

    def _sum(self, weights: list[torch.Tensor], gradients: list[torch.Tensor]) -> None:
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        self._group.sum(flat)
        take(gradients, flat)


class _Quantized(DistributedLearner):
    def __init__(self, learner: Any, after: int, bits: int) -> None:
        super().__init__(learner, after)
        self._bits, self._summed = bits, None  # type: int, QuantizedSum | None

    def _sum(self, weights: list[Any], gradients: list[torch.Tensor]) -> None:
        self._summed = self._summed or QuantizedSum(weights, self._group, self._bits)
        self._summed(_Bucket(weights, gradients))  # type: ignore[arg-type]


class _BlockMomentum(DistributedLearner):
    """Each worker steps on its own; after a block of samples (of all workers together), the weights are combined."""

    def __init__(self, learner: Any, after: int, block_size: int, **settings: Any) -> None:
        super().__init__(learner, after)
        self._block_size, self._settings, self._blocks = block_size, settings, None  # type: int, Any, Any

    def shared_step(self, own: int, total: int, is_sweep_end: bool = False) -> bool:
        seen, learner = self.learner.samples_seen, self.learner
        if self._blocks is None:
            network = torch.nn.ParameterList([parameter.data for parameter in learner.parameters])
            self._blocks = BlockMomentum(
                network, self._group, self._block_size, optimizer=learner.optimizer, like_cntk=True, **self._settings
            )
        self._blocks.begin_step(seen)
        if own:
            for parameter in learner.parameters:
                if parameter.data.grad is not None:
                    parameter.data.grad /= own
            learner.step(own, is_sweep_end)
        self._blocks.end_step(total)
        learner.samples_seen = seen + total
        return True

    def sync(self) -> None:
        if self._blocks is not None:
            self._blocks.sync()


def data_parallel_distributed_learner(
    learner: Any, distributed_after: int = 0, num_quantization_bits: int = FULL_BITS,
    use_async_buffered_parameter_update: bool = False,
) -> DistributedLearner:  # fmt: skip
    """`num_quantization_bits`: 32, or 1, 2, 4 or 8 with error feedback. Samples are counted over all workers."""
    if use_async_buffered_parameter_update:
        raise RuntimeError("Asynchronous parameter update is not yet supported for the DataParallelDistributedLearner.")
    if num_quantization_bits == FULL_BITS:
        return DistributedLearner(learner, distributed_after)
    if num_quantization_bits not in BITS:
        raise ValueError(
            f"num_quantization_bits={num_quantization_bits}: gradients can be sent in {', '.join(map(str, BITS))} or "
            f"{FULL_BITS} bits"
        )
    return _Quantized(learner, distributed_after, num_quantization_bits)


def block_momentum_distributed_learner(
    learner: Any, block_size: int, block_momentum_as_time_constant: float | None = None,
    use_nestrov_momentum: bool = True, reset_sgd_momentum_after_aggregation: bool = True,
    block_learning_rate: float = 1.0, distributed_after: int = 0,
) -> DistributedLearner:  # fmt: skip
    momentum = block_momentum(block_size, block_momentum_as_time_constant, _workers().size)
    return _BlockMomentum(
        learner, distributed_after, int(block_size), momentum=momentum, learning_rate=block_learning_rate,
        nesterov=use_nestrov_momentum, resets=reset_sgd_momentum_after_aggregation,
    )  # fmt: skip
