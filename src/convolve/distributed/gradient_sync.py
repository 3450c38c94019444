"""How the workers' gradients or weights meet, as a recipe says it."""

from __future__ import annotations

from convolve.distributed.block_momentum import BlockMomentum, block_momentum
from convolve.distributed.data_parallel import DataParallel
from convolve.errors import UsageError
from convolve.training.trainer import Trainer
from convolve.training.workers import GradientSync


def gradient_sync_for(trainer: Trainer) -> GradientSync | None:
    """How the workers of `trainer` train its network, which is now the first one's; one process alone: None."""
    spec, network, workers = trainer.recipe.distributed, trainer.network, trainer.workers
    if workers.size == 1:
        return None
    if spec.method == "gradients":
        if trainer.loss_scale and spec.quantization_bits < 16:
            raise UsageError(
                f"distributed.quantization_bits={spec.quantization_bits} keeps gradients back, which the loss scale of "
                "run.precision=fp16 would change; set run.precision=bf16 or fp32"
            )
        averaged = [trainer.extras.ema.network] if trainer.extras.ema else []
        return DataParallel(network, workers, spec.quantization_bits, spec.after_samples, averaged)
    if trainer.loss_scale:
        raise UsageError(
            f"distributed.method={spec.method} leaves each worker to itself for a while, and with it the loss scale of "
            "run.precision=fp16; set run.precision=bf16 or fp32"
        )
    if spec.method == "model_averaging":
        momentum, rate = 0.0, 1 / workers.size
    else:
        momentum = block_momentum(spec.block_samples, spec.block_momentum_time_constant, workers.size)
        rate = spec.block_learning_rate
    return BlockMomentum(
        network, workers, spec.block_samples, momentum, rate, spec.nesterov, trainer.optimizer, spec.reset_momentum,
        spec.after_samples,
    )  # fmt: skip
