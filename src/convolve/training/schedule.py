"""Step sizes: a recipe's learning rate and momentum as numbers for one batch.

Pure functions over values. The arithmetic is CNTK's (Python API 2.7, `learning_parameter_schedule` and
`momentum_schedule`), checked against traces of the real CNTK in tests/training/test_optimizers.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from convolve.recipe import Recipe
from convolve.recipe_values import Steps
from convolve.specs.model import ModelSpec
from convolve.specs.optimizer import OptimizerSpec
from convolve.specs.schedule import ScheduleSpec
from convolve.torch_optim import PREFIX, torch_optimizer

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class StepSize:
    """The step size of one update, for a batch of N samples.

    lr: the learning rate; multiplies the gradient of the mean loss; equals N * lr_per_sample.
    lr_per_sample: multiplies the gradient of the loss summed over the batch (CNTK's count).
    momentum: the decay of the velocity in this batch.
    variance_momentum: the decay of the mean square in this batch (adam, fsadagrad).
    """

    lr: float
    lr_per_sample: float
    momentum: float
    variance_momentum: float

    def times(self, factor: float) -> StepSize:
        """The same step with another learning rate."""
        return replace(self, lr=self.lr * factor, lr_per_sample=self.lr_per_sample * factor)


def step_size(
    optimizer: OptimizerSpec,
    schedule: ScheduleSpec,
    samples_seen: int,
    batch_size: int,
    samples_per_epoch: int,
    total_samples: int,
) -> StepSize:
    """The step for a batch of `batch_size` samples after `samples_seen`.

    `batch_size` is the actual size: a short last batch has its own momentum and, unless the rate is for the mean
    gradient, a smaller rate.
    """
    rate = learning_rate(schedule, samples_seen, samples_per_epoch, total_samples)
    reference_batch_size = schedule.reference_batch_size or batch_size
    decay = optimizer.variance_momentum
    return StepSize(
        lr=rate * (batch_size / reference_batch_size),
        lr_per_sample=rate / reference_batch_size,
        momentum=momentum(optimizer, schedule, samples_seen, batch_size, samples_per_epoch),
        variance_momentum=decay**batch_size if optimizer.variance_momentum_unit == "per_sample" else decay,
    )


def learning_rate(schedule: ScheduleSpec, samples_seen: int, samples_per_epoch: int, total_samples: int) -> float:
    """The rate in the schedule's own unit (see `ScheduleSpec.reference_batch_size`) after `samples_seen`."""
    if schedule.kind == "steps":
        return value_at(schedule.learning_rates, samples_seen, schedule.period_samples or samples_per_epoch)
    peak, warmup, final = schedule.learning_rates[0], schedule.warmup_fraction, schedule.final_fraction
    progress = min(samples_seen / max(total_samples, 1), 1.0)  # without epochs, none
    if progress < warmup:
        return peak * progress / warmup
    fallen = (progress - warmup) / (1 - warmup) if warmup < 1 else 0.0
    height = 1 - fallen if schedule.kind == "one_cycle" else (1 + math.cos(math.pi * fallen)) / 2
    return peak * (final + (1 - final) * height)


def momentum(
    optimizer: OptimizerSpec, schedule: ScheduleSpec, samples_seen: int, batch_size: int, samples_per_epoch: int
) -> float:
    """The momentum for a batch of `batch_size` samples: m, m^(N / M) or exp(-N / T), as `momentum_unit` says."""
    value = value_at(optimizer.momentum, samples_seen, schedule.period_samples or samples_per_epoch)
    if optimizer.momentum_unit == "time_constant_samples":
        return math.exp(-batch_size / value) if value else 0.0
    if optimizer.momentum_unit == "per_reference_batch":
        return float(value ** (batch_size / optimizer.momentum_reference_batch_size))
    return value


def value_at(steps: Steps, samples_seen: int, period_samples: int) -> float:
    """The entry of `steps` for the period of sample number `samples_seen` (from 0); the last one stays."""
    return steps[min(samples_seen // period_samples, len(steps) - 1)]


def set_epoch_values(network: nn.Module, spec: ModelSpec, epoch: int, sets_dropout: bool) -> None:
    """Apply the recipe's per-epoch values for `epoch` to the layers of `network`."""
    from torch import nn  # the report shows schedules without torch

    if sets_dropout:
        for layer in network.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = value_at(spec.dropout, epoch, 1)
    constants = spec.batch_norm_time_constants
    if any(constants[: epoch + 1]):  # once a value was not 0, all of them apply
        for layer in network.modules():
            if hasattr(layer, "normalization_time_constant_samples"):
                vars(layer)["normalization_time_constant_samples"] = value_at(constants, epoch, 1)
                vars(layer)["blend_time_constant_samples"] = 0.0


@dataclass(frozen=True)
class ScheduleRow:
    """A stretch of training and its step for a full batch, in the units of three toolkits; None: it has no such
    optimizer.

    CNTK: the rate on the summed gradient, whether the gradient is weighted by 1 - momentum (unit gain), and the
    momentum as a time constant in samples (0: none). PyTorch and Caffe: for a loss that is the mean over the batch.
    The momentum of Adam is the first of its betas; that of Caffe's AdaDelta is its rho, as Caffe names it.
    """

    from_epoch: float
    to_epoch: float
    cntk_lr_per_sample: float
    cntk_unit_gain: bool
    cntk_momentum_time_constant_samples: float
    pytorch_optimizer: str | None
    pytorch_lr: float | None
    pytorch_momentum: float | None
    pytorch_dampening: float | None
    pytorch_weight_decay: float | None
    caffe_solver: str | None
    caffe_base_lr: float | None
    caffe_momentum: float | None
    caffe_weight_decay: float | None


# Our optimizer -> torch.optim class and Caffe solver type.
COUNTERPARTS: dict[str, tuple[str | None, str | None]] = {
    "sgd": ("SGD", "SGD"),
    "momentum_sgd": ("SGD", "SGD"),
    "nesterov": ("SGD(nesterov)", "Nesterov"),
    "adagrad": ("Adagrad", "AdaGrad"),
    "adadelta": ("Adadelta", "AdaDelta"),
    "adam": ("Adam", "Adam"),
    "fsadagrad": (None, None),
    "muon": (None, None),  # torch.optim's version keeps no norms and accepts only matrices
}


def schedule_rows(recipe: Recipe, samples_per_epoch: int) -> list[ScheduleRow]:
    """Every stretch of constant step size; for one-cycle and cosine every epoch, with the rate in its middle."""
    total_samples = recipe.run.epochs * samples_per_epoch
    starts = [start for start in _starts(recipe, samples_per_epoch) if start < total_samples]
    rows = []
    for start, end in zip(starts, [*starts[1:], total_samples], strict=True):
        middle = (start + end) // 2
        n = recipe.run.batch_size(start // samples_per_epoch)
        size = step_size(recipe.optimizer, recipe.schedule, middle, n, samples_per_epoch, total_samples=total_samples)
        rows.append(_row(recipe.optimizer, size, n, start / samples_per_epoch, end / samples_per_epoch))
    return rows


def _starts(recipe: Recipe, samples_per_epoch: int) -> list[int]:
    """The sample counts at which a row begins."""
    schedule, momenta = recipe.schedule, recipe.optimizer.momentum
    if schedule.kind != "steps" or recipe.run.global_batch_sizes:
        return [epoch * samples_per_epoch for epoch in range(recipe.run.epochs)]
    period, count = schedule.period_samples or samples_per_epoch, max(len(schedule.learning_rates), len(momenta))
    values = [(value_at(schedule.learning_rates, i, 1), value_at(momenta, i, 1)) for i in range(count)]
    return [i * period for i in range(count) if i == 0 or values[i] != values[i - 1]]


def _row(optimizer: OptimizerSpec, size: StepSize, n: int, from_epoch: float, to_epoch: float) -> ScheduleRow:
    """`size` in the units of the three toolkits.

    CNTK's documentation gives, for a classic rate eta, momentum mu and batch size n, with unit gain:
    lr_per_sample = eta / n / (1 - mu) and T = -n / ln(mu). Solved for eta: `_classic_lr`.
    CNTK's L2 is per sample on the summed gradient, theirs on the mean gradient: the same number.
    """
    is_torchs = optimizer.name.startswith(PREFIX)
    beta = 0.0 if is_torchs or optimizer.name in ("sgd", "adagrad", "adadelta") else size.momentum
    pytorch, caffe = (torch_optimizer(optimizer.name)[0].__name__, None) if is_torchs else COUNTERPARTS[optimizer.name]
    lr = size.lr if is_torchs else _classic_lr(optimizer, size, beta)
    return ScheduleRow(
        from_epoch=from_epoch,
        to_epoch=to_epoch,
        cntk_lr_per_sample=size.lr_per_sample,
        cntk_unit_gain=optimizer.unit_gain,
        cntk_momentum_time_constant_samples=-n / math.log(beta) if beta else 0.0,
        pytorch_optimizer=pytorch,
        pytorch_lr=lr if pytorch else None,
        pytorch_momentum=optimizer.arguments.get("momentum", 0.0) if is_torchs else beta if pytorch else None,
        # torch's buffer starts at the undamped gradient, so dampening would make the first step differ.
        pytorch_dampening=0.0 if pytorch else None,
        pytorch_weight_decay=_torch_weight_decay(optimizer) if is_torchs else optimizer.l2 if pytorch else None,
        caffe_solver=caffe,
        caffe_base_lr=lr if caffe else None,
        caffe_momentum=optimizer.adadelta_rho if caffe == "AdaDelta" else beta if caffe else None,
        caffe_weight_decay=optimizer.l2 if caffe else None,
    )


def _torch_weight_decay(optimizer: OptimizerSpec) -> float:
    default = torch_optimizer(optimizer.name)[1].get("weight_decay", 0.0)
    return float(optimizer.arguments.get("weight_decay", default))


def _classic_lr(optimizer: OptimizerSpec, size: StepSize, beta: float) -> float:
    """The rate of an optimizer without unit gain that takes the same step on the mean gradient."""
    if optimizer.name == "adam":  # the others' Adam always weights the gradient by 1 - beta
        return size.lr_per_sample if optimizer.unit_gain else size.lr_per_sample / (1 - beta)
    if optimizer.name in ("adagrad", "adadelta"):  # unlike CNTK's, independent of the batch size
        return size.lr_per_sample
    return size.lr * (1 - beta) if optimizer.unit_gain else size.lr
