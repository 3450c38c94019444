"""parallelTrain and the ParallelTrain block of a configuration -> fields of a recipe, for a number of workers.

Keys and defaults are those of CNTK 2.7's SGD.cpp: 40,000 samples a worker between two syncs with model averaging,
120,000 with block momentum, which is 1 - 1/workers.
"""

import math
from dataclasses import dataclass, replace

from convolve.errors import UnsupportedError, UsageError
from convolve.importers.brainscript.config import Block
from convolve.specs.distributed import DistributedSpec

METHODS = ("none", "DataParallelSGD", "BlockMomentumSGD", "ModelAveragingSGD", "DataParallelASGD")
_PERIODS = {"BlockMomentumSGD": 120_000, "ModelAveragingSGD": 40_000}


@dataclass(frozen=True)
class Parallel:
    """What a configuration says about several workers; a single process ignores it.

    `gradient_bits`: one value per epoch; the last one stays. `block_samples`: of all workers together, or
    `of_each_worker`. `block_momentum`: that of one block, if the configuration gives it so. `refused`: sentences about
    what is known but not supported.
    """

    enabled: bool
    method: str = "none"
    start_epoch: int = 1
    gradient_bits: tuple[int, ...] = (32,)
    block_samples: int = 0
    of_each_worker: bool = True
    block_momentum: float | None = None
    time_constant_samples: float | None = None
    learning_rate: float = 1.0
    nesterov: bool = True
    reset_momentum: bool = True
    refused: tuple[str, ...] = ()

    def for_workers(self, workers: int, epoch_samples: int) -> DistributedSpec:
        """The fields of a recipe. Raises UsageError if the configuration is for one worker, or UnsupportedError."""
        if not self.enabled or self.method == "none":
            raise UsageError(
                f"{workers} workers, but the configuration is for one: set parallelTrain=true, with a "
                "parallelizationMethod in SGD.ParallelTrain, or start one process"
            )
        if self.refused:
            raise UnsupportedError("; ".join(self.refused))
        after_samples = (self.start_epoch - 1) * epoch_samples
        if self.method == "DataParallelSGD":
            whole = len([bits for bits in self.gradient_bits[:-1] if bits == 32])
            return DistributedSpec(
                quantization_bits=self.gradient_bits[-1], after_samples=max(after_samples, whole * epoch_samples)
            )
        block_samples = self.block_samples * (workers if self.of_each_worker else 1)
        if self.method == "ModelAveragingSGD":
            return DistributedSpec("model_averaging", after_samples=after_samples, block_samples=block_samples)
        time_constant = self.time_constant_samples
        if self.block_momentum is not None:
            time_constant = -block_samples / math.log(self.block_momentum) if self.block_momentum else 0.0
        return DistributedSpec(
            "block_momentum", after_samples=after_samples, block_samples=block_samples,
            block_momentum_time_constant=time_constant, block_learning_rate=self.learning_rate, nesterov=self.nesterov,
            reset_momentum=self.reset_momentum,
        )  # fmt: skip


def read_parallel(root: Block, sgd: Block) -> Parallel:
    """What `block` says about several workers. Raises FormatError for invalid values."""
    enabled, settings = root.flag("parallelTrain"), sgd.block("ParallelTrain", inherit=False)
    if settings is None:
        return Parallel(enabled)
    for key in ("distributedMBReading", "syncPerfStats"):  # keys that change no result
        settings.find(key, inherit=False)
    method = settings.choice("parallelizationMethod", METHODS, "none", inherit=False)
    start_epoch = settings.integer("parallelizationStartEpoch", 1, inherit=False)
    blocks = {name: settings.block(name, inherit=False) for name in METHODS[1:]}
    refused: list[str] = []
    own = blocks.get(method)
    bits: tuple[int, ...] = (32,)
    if method == "DataParallelASGD":
        refused.append(settings.unsupported("parallelizationMethod", "asynchronous SGD"))
    if method == "DataParallelSGD" and own is not None:
        bits = _gradient_bits(own, refused)
    for name, block in blocks.items():
        if block is not None and name != method:
            block.pass_over()
    parallel = Parallel(enabled, method, max(start_epoch, 1), bits, _PERIODS.get(method, 0))
    if method in _PERIODS and own is not None:
        parallel = _with_block(parallel, own, refused)
    return replace(parallel, refused=tuple(refused))


def _gradient_bits(block: Block, refused: list[str]) -> tuple[int, ...]:
    """A recipe has one change only: from full gradients to quantized ones."""
    if block.flag("useBufferedAsyncGradientAggregation", inherit=False):
        refused.append(block.unsupported("useBufferedAsyncGradientAggregation", "true"))
    if not block.flag("useZeroThresholdFor1BitQuantization", True, inherit=False):
        refused.append(block.unsupported("useZeroThresholdFor1BitQuantization", "false"))
    bits = block.integers("gradientBits", (32,), inherit=False)
    later = [each for each in bits if each != 32]
    if list(bits) != [32] * (len(bits) - len(later)) + later or len({*later}) > 1:
        refused.append(block.unsupported("gradientBits", "anything but one change, from 32 bits,"))
    return bits


def _with_block(parallel: Parallel, block: Block, refused: list[str]) -> Parallel:
    """The settings of block momentum and model averaging."""
    of_each = [key for key in ("blockSizePerWorker", "syncPeriod", "syncFrequencyInFrames") if block.find(key, False)]
    whole = block.find("blockSize", inherit=False) is not None
    key = "blockSize" if whole else of_each[0] if of_each else "blockSizePerWorker"
    resets = block.flag("resetSGDMomentum", True, inherit=False)
    if not resets and parallel.method == "ModelAveragingSGD":
        refused.append(block.unsupported("resetSGDMomentum", "false"))
    momentum = _number_or_none(block, "blockMomentumPerSync")
    if momentum is not None and not 0 <= momentum < 1:
        raise block.error("blockMomentumPerSync", "blockMomentumPerSync must be in [0, 1)")
    return replace(
        parallel, block_samples=block.integer(key, parallel.block_samples, inherit=False), of_each_worker=not whole,
        block_momentum=momentum,
        time_constant_samples=_number_or_none(block, "blockMomentumAsTimeConstant"),
        learning_rate=block.number("blockLearningRate", 1.0, inherit=False),
        nesterov=block.flag("useNesterovMomentum", True, inherit=False), reset_momentum=resets,
    )  # fmt: skip


def _number_or_none(block: Block, key: str) -> float | None:
    return None if block.find(key, inherit=False) is None else block.number(key, 0.0, inherit=False)
