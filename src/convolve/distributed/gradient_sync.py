"""The gradient synchronization that a recipe describes."""

from convolve.distributed.block_momentum import BlockMomentum, block_momentum
from convolve.distributed.data_parallel import DataParallel
from convolve.errors import UsageError
from convolve.specs.distributed import IN_EACH_STEP, DistributedSpec
from convolve.training.trainer import Trainer
from convolve.training.workers import GradientSync


def gradient_sync_for(trainer: Trainer) -> GradientSync | None:
    """For the workers of `trainer`, whose network now has worker 0's weights; None for a single process."""
    spec, network = trainer.recipe.distributed or DistributedSpec(), trainer.network
    workers = trainer.workers
    if workers.size == 1:
        return None
    if spec.method in IN_EACH_STEP:
        keeps = f"method={spec.method}" if spec.method == "power_sgd" else f"quantization_bits={spec.quantization_bits}"
        if trainer.loss_scale and (spec.method == "power_sgd" or spec.quantization_bits < 16):
            raise UsageError(
                f"distributed.{keeps} keeps residuals, whose unit the loss scale of run.precision=fp16 changes; set "
                "run.precision=bf16 or fp32"
            )
        averaged = [trainer.extras.ema.network] if trainer.extras.ema else []
        rank = spec.power_sgd_rank if spec.method == "power_sgd" else 0
        return DataParallel(network, workers, spec.quantization_bits, spec.after_samples, averaged, power_rank=rank)
    if trainer.loss_scale:
        raise UsageError(
            f"distributed.method={spec.method} takes local steps, in which the loss scales of run.precision=fp16 would "
            "differ between workers; set run.precision=bf16 or fp32"
        )
    if spec.method == "model_averaging":
        momentum, learning_rate = 0.0, 1 / workers.size
    else:
        momentum = block_momentum(spec.block_samples, spec.block_momentum_time_constant, workers.size)
        learning_rate = spec.block_learning_rate
    return BlockMomentum(
        network, workers, spec.block_samples, momentum,
        learning_rate=learning_rate, nesterov=spec.nesterov, optimizer=trainer.optimizer, resets=spec.reset_momentum,
        after_samples=spec.after_samples,
    )  # fmt: skip
