"""The gradient synchronization that a recipe describes."""

from __future__ import annotations

from convolve.distributed.block_momentum import BlockMomentum, block_momentum
from convolve.distributed.data_parallel import DataParallel
from convolve.errors import UsageError
from convolve.recipe import DistributedSpec
from convolve.training.state import TrainingState
from convolve.training.workers import GradientSync, Workers


def gradient_sync_for(spec: DistributedSpec, state: TrainingState, workers: Workers) -> GradientSync:
    """Between `workers`, for the network of `state`, which from now on has worker 0's weights."""
    network, size = state.module, workers.size
    if size == 1:
        return GradientSync(network)
    if spec.method == "gradients":
        if state.loss_scale.enabled and spec.quantization_bits < 16:
            raise UsageError(
                f"distributed.quantization_bits={spec.quantization_bits} keeps residuals, whose unit the loss scale of "
                "run.precision=fp16 changes; set run.precision=bf16 or fp32"
            )
        averaged = [state.average.module] if state.average else []
        return DataParallel(network, workers, spec.quantization_bits, spec.after_samples, averaged)
    if state.loss_scale.enabled:
        raise UsageError(
            f"distributed.method={spec.method} takes local steps, in which the loss scales of run.precision=fp16 would "
            "differ between workers; set run.precision=bf16 or fp32"
        )
    if spec.method == "model_averaging":
        momentum, learning_rate = 0.0, 1 / size
    else:
        momentum = block_momentum(spec.block_samples, spec.block_momentum_time_constant, size)
        learning_rate = spec.block_learning_rate
    return BlockMomentum(
        network, workers, spec.block_samples, momentum,
        learning_rate=learning_rate, nesterov=spec.nesterov, optimizer=state.optimizer, resets=spec.reset_momentum,
        after_samples=spec.after_samples,
    )  # fmt: skip
