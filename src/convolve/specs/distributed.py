"""What a recipe says of several workers."""

from dataclasses import dataclass
from typing import Literal

from convolve.errors import UsageError
from convolve.specs.setting import setting
from convolve.transforms.transform import require

IN_EACH_STEP = ("gradients", "power_sgd", "auto")  # as a single process; the other methods take local steps
GRADIENT_BITS = (32, 16, 8, 4, 2, 1)


Method = Literal["gradients", "power_sgd", "auto", "block_momentum", "model_averaging"]


@dataclass(frozen=True)
class DistributedSpec:
    """How several workers train one network; a single process ignores it.

    With a method `IN_EACH_STEP` they train as a single process does, or nearly so. Otherwise each takes local steps, on
    batches of the recipe's size, and the weights are combined after each block; see `distributed/block_momentum.py`.
    """

    method: Method = setting(
        "gradients",
        "gradients: summed in each step; power_sgd: as products of thin matrices; auto: how fits the network between "
        "the hosts; otherwise local steps, with weights combined in blocks",
    )
    power_sgd_rank: int = setting(2, "rank of the matrices of power_sgd; more is closer, and more to send")
    quantization_bits: int = setting(
        32, "bits of a gradient's element when it is sent: 32, 16, or 8, 4, 2, 1 as CNTK's 1-bit SGD"
    )
    after_samples: int = setting(0, "samples at the start with full gradients, summed in each step")
    block_samples: int = setting(0, "samples in a block, of all workers together")
    block_momentum_time_constant: float | None = setting(
        None, "in samples; 0: no momentum; null: 1 - 1/workers a block"
    )
    block_learning_rate: float = setting(1.0, "factor for a block's step; 1: as far as all workers together")
    nesterov: bool = setting(True, "for block momentum: look ahead")
    timeout_seconds: float = setting(
        300.0, "wait so long for another worker within a step, and six times as long between steps"
    )
    reset_momentum: bool = setting(True, "restart each worker's own momentum after a block; otherwise it is kept")

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
                "distributed.block_samples and distributed.method=block_momentum (or model_averaging) need each other"
            )
        if self.method != "gradients" and bits != 32:
            raise UsageError(f"distributed.quantization_bits is for method=gradients, not {self.method}; leave it out")
        own = (constant, rate, self.nesterov, self.reset_momentum)
        if self.method == "model_averaging" and own != (None, 1.0, True, True):
            raise UsageError("the settings of block momentum are not for distributed.method=model_averaging")
