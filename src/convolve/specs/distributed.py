"""The part of a recipe about several workers."""

from dataclasses import dataclass
from typing import Literal

from convolve.errors import UsageError
from convolve.specs.setting import setting
from convolve.transforms.transform import require

IN_EACH_STEP = ("gradients", "power_sgd", "auto")  # the updates of one process; the others take local steps
GRADIENT_BITS = (32, 16, 8, 4, 2, 1)


Method = Literal["gradients", "power_sgd", "auto", "block_momentum", "model_averaging"]


@dataclass(frozen=True)
class DistributedSpec:
    """How several workers train one network; ignored in a single process.

    A method `IN_EACH_STEP` gives the updates of a single process, or nearly so. With the others, each worker takes
    local steps on batches of the recipe's size, and the weights are combined after each block; see
    `distributed/block_momentum.py`.
    """

    method: Method = setting(
        "gradients",
        "gradients: summed in each step; power_sgd: the same, compressed to low rank; auto: whichever suits the "
        "network between the hosts; otherwise local steps, with weights combined after each block",
    )
    power_sgd_rank: int = setting(2, "rank of power_sgd's matrices; a higher rank is more accurate and sends more")
    quantization_bits: int = setting(
        32, "bits per gradient element that is sent: 32, 16, or 8, 4, 2, 1 as in CNTK's 1-bit SGD"
    )
    after_samples: int = setting(0, "samples at the start for which full gradients are summed in each step")
    block_samples: int = setting(0, "samples in a block, of all workers together")
    block_momentum_time_constant: float | None = setting(
        None, "block momentum, in samples; 0: none; null: 1 - 1/workers per block"
    )
    block_learning_rate: float = setting(1.0, "learning rate of a block's step; 1: the mean of the workers' steps")
    nesterov: bool = setting(True, "for block momentum: Nesterov's look-ahead")
    timeout_seconds: float = setting(
        300.0, "seconds to wait for another worker within a step; six times as long between steps"
    )
    reset_momentum: bool = setting(True, "reset each worker's own momentum after a block; otherwise it is kept")

    def __post_init__(self) -> None:
        bits, known = self.quantization_bits, ", ".join(map(str, GRADIENT_BITS))
        require(bits in GRADIENT_BITS, "distributed.quantization_bits", f"one of {known}", bits)
        for name in ("after_samples", "block_samples"):
            require(getattr(self, name) >= 0, f"distributed.{name}", "at least 0", getattr(self, name))
        constant, rate = self.block_momentum_time_constant, self.block_learning_rate
        require(constant is None or constant >= 0, "distributed.block_momentum_time_constant", "at least 0", constant)
        seconds = self.timeout_seconds
        require(1 <= seconds <= 86400, "distributed.timeout_seconds", "1 to 86400", seconds)
        require(rate > 0, "distributed.block_learning_rate", "above 0", rate)
        require(self.power_sgd_rank >= 1, "distributed.power_sgd_rank", "at least 1", self.power_sgd_rank)
        if (self.method in IN_EACH_STEP) == bool(self.block_samples):
            raise UsageError(
                "distributed.block_samples and distributed.method=block_momentum (or model_averaging) must be given "
                "together"
            )
        if self.method != "gradients" and bits != 32:
            raise UsageError(f"distributed.quantization_bits is for method=gradients, not {self.method}; leave it out")
        own = (constant, rate, self.nesterov, self.reset_momentum)
        if self.method == "model_averaging" and own != (None, 1.0, True, True):
            raise UsageError(
                "the settings of block momentum do not apply to distributed.method=model_averaging; leave them out"
            )
