"""How the workers' gradients or weights meet, as a recipe says it."""

from __future__ import annotations

from convolve.distributed.block_momentum import BlockMomentum, block_momentum
from convolve.distributed.data_parallel import DataParallel
from convolve.errors import UsageError
from convolve.recipe import DistributedSpec
from convolve.training.state import TrainingState
from convolve.training.workers import GradientSync, NoSync, Workers


def gradient_sync_for(spec: DistributedSpec, state: TrainingState, workers: Workers) -> GradientSync:
    """The exchange between `workers` that train the network of `state`, which is now the first one's."""
    network, size = state.module, workers.size
    if size == 1:
        return NoSync(network)
    if spec.method == "gradients":
        if state.loss_scale.enabled and spec.quantization_bits < 16:
            raise UsageError(
                f"distributed.quantization_bits={spec.quantization_bits} keeps gradients back, which the loss scale of "
                "run.precision=fp16 would change; set run.precision=bf16 or fp32"
            )
        averaged = [state.average.module] if state.average else []
        return DataParallel(network, workers, spec.quantization_bits, spec.after_samples, averaged)
    if state.loss_scale.enabled:
        raise UsageError(
            f"distributed.method={spec.method} leaves each worker to itself for a while, and with it the loss scale of "
            "run.precision=fp16; set run.precision=bf16 or fp32"
        )
    if spec.method == "model_averaging":
        momentum, rate = 0.0, 1 / size
    else:
        momentum = block_momentum(spec.block_samples, spec.block_momentum_time_constant, size)
        rate = spec.block_learning_rate
    return BlockMomentum(
        network, workers, spec.block_samples, momentum, rate, spec.nesterov, state.optimizer, spec.reset_momentum,
        spec.after_samples,
    )  # fmt: skip
