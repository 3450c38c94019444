"""Learners: CNTK's arithmetic, computed by the optimizers of recipes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import torch

from convolve.cntk import seeds
from convolve.cntk.learning_rules import Adamax, MeanAdagrad, Rmsprop, RmspropFactors
from convolve.cntk.schedules import (
    MinibatchSizeUnit,
    Schedule,
    UnitType,
    as_schedule,
    learning_parameter_schedule,
    learning_parameter_schedule_per_sample,
    learning_rate_schedule,
    minibatch_size_schedule,
    momentum_as_time_constant_schedule,
    momentum_schedule,
    momentum_schedule_per_sample,
    training_parameter_schedule,
)
from convolve.cntk.variables import Constant, Parameter
from convolve.cntk_random import Draws
from convolve.specs.optimizer import OptimizerSpec
from convolve.training.optimizers import OPTIMIZERS, CntkOptimizer, take_step
from convolve.training.schedule import StepSize

__all__ = [
    "IGNORE", "Learner", "MinibatchSizeUnit", "Schedule", "UnitType", "UniversalLearner", "UserLearner", "adadelta",
    "adagrad", "adam", "default_unit_gain_value", "default_use_mean_gradient_value", "fsadagrad",
    "learning_parameter_schedule", "learning_parameter_schedule_per_sample", "learning_rate_schedule",
    "minibatch_size_schedule", "momentum_as_time_constant_schedule", "momentum_schedule",
    "momentum_schedule_per_sample", "momentum_sgd", "nesterov", "rmsprop", "set_default_unit_gain_value",
    "set_default_use_mean_gradient_value", "sgd", "training_parameter_schedule", "universal",
]  # fmt: skip

IGNORE = 0  # as reference size: the value is used as given, on the mean gradient
_defaults = {"unit_gain": True, "mean_gradient": False}


def default_unit_gain_value() -> bool:
    return _defaults["unit_gain"]


def set_default_unit_gain_value(value: bool) -> None:
    """The value of default_unit_gain_value. As in CNTK, learners ignore it: their default is unit gain."""
    _defaults["unit_gain"] = bool(value)


def default_use_mean_gradient_value() -> bool:
    return _defaults["mean_gradient"]


def set_default_use_mean_gradient_value(value: bool) -> None:
    _defaults["mean_gradient"] = bool(value)


class _Counts:
    """How much a learner has seen."""

    samples_seen = minibatches_seen = sweeps_seen = 0

    def total_number_of_samples_seen(self) -> int:
        return self.samples_seen

    def total_number_of_minibatches_seen(self) -> int:
        return self.minibatches_seen

    def total_number_of_sweeps_seen(self) -> int:
        return self.sweeps_seen

    @cached_property
    def rates_told(self) -> dict[str, float]:
        """What progress writers were last told; each value is told once, whatever the writers, as in CNTK."""
        return {}

    def _now(self, schedule: Schedule) -> float:
        return schedule[self.sweeps_seen if schedule.is_by_sweep else self.samples_seen]

    def _count(self, samples: int, is_sweep_end: bool) -> None:
        self.samples_seen += samples
        self.minibatches_seen += 1
        self.sweeps_seen += is_sweep_end


class Learner(_Counts):
    """An optimizer over some parameters, with its schedules and counts.

    uses_mean: CNTK's "compatible mode", in which every rate, momentum and penalty is for the mean gradient, whatever
    the size of the minibatch.
    """

    def __init__(
        self, parameters: Sequence[Parameter], lr: Schedule, spec: OptimizerSpec, momentum: Schedule | None = None,
        variance: Schedule | None = None, uses_mean: bool = False, noise: Schedule | None = None,
        minibatch_size: int = IGNORE, rule: Callable[..., CntkOptimizer] | None = None, kind: str = "",
    ) -> None:  # fmt: skip
        if not parameters:
            raise ValueError("The parameters list specified to a Learner must not be empty.")
        self.parameters = tuple(parameters)
        self.learning_rate_schedule, self.momentum_schedule, self.variance_schedule = lr, momentum, variance
        self.spec, self.kind, self.uses_mean, self._minibatch_size = spec, kind or spec.name, uses_mean, minibatch_size
        self.noise, self.noise_seed = noise, seeds.taken()  # as in CNTK, every learner takes a seed
        self.rates_used: dict[str, float] = {}  # of the last step, by what CNTK prints before them
        self._rule = rule or OPTIMIZERS[spec.name]
        self._optimizer: CntkOptimizer | None = None

    @property
    def optimizer(self) -> CntkOptimizer:
        """Created when the shapes of the parameters are known."""
        if self._optimizer is None:
            weights = [parameter.data for parameter in self.parameters]
            self._optimizer = self._rule([{"params": weights, "rate": 1.0}], self.spec)
        return self._optimizer

    @property
    def minibatch_size(self) -> int:
        return self._minibatch_size

    @minibatch_size.setter
    def minibatch_size(self, size: int) -> None:
        self._minibatch_size, self.uses_mean = size, size == IGNORE

    @property
    def _learning_rate_schedule(self) -> Schedule:  # private in CNTK; programs read it
        return self.learning_rate_schedule

    def is_compatible_mode(self) -> bool:
        return self.uses_mean

    def learning_rate(self) -> float:
        return self._now(self.learning_rate_schedule)

    def reset_learning_rate(self, learning_rate: Any) -> None:
        """Another schedule, which begins now; the number of samples that a rate is for stays the same."""
        if not isinstance(learning_rate, Schedule):
            raise ValueError(
                f"learning_rate type ({type(learning_rate)}) not supported. learning_rate must be a training schedule "
                "(output of learning_parameter_schedule() function)"
            )
        so_far = self.sweeps_seen if learning_rate.is_by_sweep else self.samples_seen
        own = self.learning_rate_schedule
        self.learning_rate_schedule = learning_rate.meant_for(own.minibatch_size, later=so_far)

    def reset_smoothed_gradients(self) -> None:
        self.optimizer.state.clear()

    def step(self, samples: int, is_sweep_end: bool = False) -> bool:
        """One update from `.grad`, the gradient of the mean loss over `samples` samples.

        As in CNTK, a rate of 0 stops a learner for good: the samples are not counted.
        """
        schedule = self.learning_rate_schedule
        self.rates_used = {f"Learning rate {schedule.unit}": self.learning_rate()}
        if self.kind == "momentum_sgd" and self.momentum_schedule:
            self.rates_used[f"Momentum {self.momentum_schedule.unit}"] = self._now(self.momentum_schedule)
        if not self.learning_rate():
            return False
        for parameter in self.parameters:
            if parameter.data.grad is None:
                parameter.data.grad = torch.zeros_like(parameter.data)
        reference = schedule.minibatch_size or samples
        count = 1 if self.uses_mean else samples  # of samples in the gradient, as the rules see it
        momentum, variance = (self._decay(each, samples) for each in (self.momentum_schedule, self.variance_schedule))
        rate = self.learning_rate() * (samples / reference)
        take_step(self.optimizer, StepSize(rate, rate / count, momentum, variance), count)
        if self.noise:
            self._add_noise(self._now(self.noise))
        self._count(samples, is_sweep_end)
        return True

    def _decay(self, schedule: Schedule | None, samples: int) -> float:
        if schedule is None:
            return 0.0
        value, reference = self._now(schedule), schedule.minibatch_size
        return float(value ** (samples / reference)) if reference and value else value

    def _add_noise(self, deviation: float) -> None:
        """Add normal numbers to each parameter, each from its own stream: CNTK's, bit for bit."""
        with torch.no_grad():
            for parameter in self.parameters:
                numbers = Draws(self.noise_seed).normal(parameter.data.numel()) * deviation
                parameter.data.add_(torch.from_numpy(numbers).reshape(parameter.shape).to(parameter.data))
                self.noise_seed += 1

    def update(self, gradient_values: Any, training_sample_count: int, is_sweep_end: bool = False) -> bool:
        """One update from gradients that the program gives, summed over the samples."""
        for parameter, gradient in gradient_values.items():
            array = torch.as_tensor(getattr(gradient, "array", gradient)).to(parameter.data)
            parameter.data.grad = array.reshape(parameter.data.shape) / training_sample_count
        has_learned = self.step(training_sample_count, is_sweep_end)
        self.optimizer.zero_grad()
        return has_learned

    def create_checkpoint(self) -> dict[str, Any]:
        from convolve.cntk import checkpoint

        return checkpoint.of_learner(self)

    def restore_from_checkpoint(self, values: Mapping[str, Any]) -> None:
        from convolve.cntk import checkpoint

        checkpoint.restore_learner(self, values)


OPTIONS: dict[str, Any] = {  # that every learner takes
    "epoch_size": None, "minibatch_size": None, "gradient_clipping_threshold_per_sample": math.inf,
    "gradient_clipping_with_truncation": True, "l1_regularization_weight": 0.0, "l2_regularization_weight": 0.0,
    "gaussian_noise_injection_std_dev": 0.0, "use_mean_gradient": None,
}  # fmt: skip


def _made(
    name: str, parameters: Any, lr: Any, options: dict[str, Any], momentum: Any = None, variance: Any = None,
    rule: Any = None, kind: str = "", **spec: Any,
) -> Learner:  # fmt: skip
    unknown = set(options) - set(OPTIONS)
    if unknown:
        raise TypeError(f"{name}() got an unexpected keyword argument '{min(unknown)}'")
    epoch_size, minibatch_size, clip, truncates, l1, l2, noise, uses_mean = (OPTIONS | options).values()
    has_mean = default_use_mean_gradient_value() if uses_mean is None else bool(uses_mean)
    rates = as_schedule(lr, minibatch_size, epoch_size)
    reference = rates.minibatch_size or minibatch_size or IGNORE
    is_on_mean = has_mean or minibatch_size == IGNORE
    if is_on_mean and name == "fsadagrad":
        raise NotImplementedError("fsadagrad on the mean gradient is not supported; leave use_mean_gradient out")
    if has_mean and reference == 1:
        reference = IGNORE  # CNTK then takes a per-sample rate as one for the mean gradient
    if reference != rates.minibatch_size:
        rates = rates.meant_for(reference)
    momenta, variances = (
        None if each is None else as_schedule(each, minibatch_size, epoch_size) for each in (momentum, variance)
    )
    settings = OptimizerSpec(
        name=name, l1=l1, l2=l2, clip_per_sample=0.0 if math.isinf(clip) else float(clip),
        clip_by="truncation" if truncates else "norm", **spec,
    )  # fmt: skip
    listed = [parameters] if isinstance(parameters, Parameter) else list(parameters)
    return Learner(
        listed, rates, settings, momentum=momenta, variance=variances, uses_mean=is_on_mean,
        noise=as_schedule(noise) if noise else None, minibatch_size=minibatch_size or IGNORE, rule=rule, kind=kind,
    )  # fmt: skip


def sgd(parameters: Any, lr: Any, **options: Any) -> Learner:
    return _made("sgd", parameters, lr, options)


def momentum_sgd(parameters: Any, lr: Any, momentum: Any, unit_gain: Any = True, **options: Any) -> Learner:
    return _made("momentum_sgd", parameters, lr, options, momentum, unit_gain=bool(unit_gain))


def nesterov(parameters: Any, lr: Any, momentum: Any, unit_gain: Any = True, **options: Any) -> Learner:
    return _made("nesterov", parameters, lr, options, momentum, unit_gain=bool(unit_gain))


def adagrad(parameters: Any, lr: Any, need_ave_multiplier: bool = True, **options: Any) -> Learner:
    return _made("adagrad", parameters, lr, options, rule=MeanAdagrad if need_ave_multiplier else None)


def adadelta(parameters: Any, lr: Any = None, rho: float = 0.95, epsilon: float = 1e-8, **options: Any) -> Learner:
    rate = Schedule(1.0, 1) if lr is None else lr
    return _made("adadelta", parameters, rate, options, adadelta_rho=float(rho), epsilon=float(epsilon))


def adam(
    parameters: Any, lr: Any, momentum: Any, unit_gain: Any = True, variance_momentum: Any = None,
    epsilon: float = 1e-8, adamax: bool = False, **options: Any,
) -> Learner:  # fmt: skip
    return _made(
        "adam", parameters, lr, options, momentum, variance=_variance(variance_momentum),
        rule=Adamax if adamax else None, unit_gain=bool(unit_gain), epsilon=float(epsilon),
    )  # fmt: skip


def fsadagrad(
    parameters: Any, lr: Any, momentum: Any, unit_gain: Any = True, variance_momentum: Any = None, **options: Any
) -> Learner:
    variance = _variance(variance_momentum)
    return _made("fsadagrad", parameters, lr, options, momentum, variance=variance, unit_gain=bool(unit_gain))


def rmsprop(
    parameters: Any, lr: Any, gamma: float, inc: float, dec: float, max: float, min: float,
    need_ave_multiplier: bool = True, **options: Any,
) -> Learner:  # fmt: skip
    factors = RmspropFactors(gamma, inc, dec, max=max, min=min, has_mean=bool(need_ave_multiplier))
    return _made("sgd", parameters, lr, options, rule=partial(Rmsprop, factors=factors), kind="rmsprop")


def universal(update_func: Any, parameters: Any) -> UniversalLearner:
    """A learner whose update is a Function of parameters and gradients."""
    return UniversalLearner(update_func, parameters)


def _variance(momentum: Any) -> Any:
    """CNTK's default is a time constant of 720,000 samples."""
    return momentum_schedule_per_sample(0.9999986111120757) if momentum is None else momentum


class UserLearner(_Counts):
    """A program's own learner, which defines `update(gradient_values, training_sample_count, sweep_end)`; the gradients
    are summed over the samples, as views of arrays."""

    kind = "user"

    def __init__(self, parameters: Any, lr_schedule: Any, as_numpy: bool = True) -> None:
        self.parameters = tuple(parameters)
        self.learning_rate_schedule, self.as_numpy = as_schedule(lr_schedule), as_numpy

    def learning_rate(self) -> float:
        return self._now(self.learning_rate_schedule)

    def step(self, samples: int, is_sweep_end: bool = False) -> bool:
        """One update from `.grad`, the gradient of the mean loss over `samples` samples."""
        from convolve.cntk.core import NDArrayView

        grads = {p: torch.zeros_like(p.data) if p.data.grad is None else p.data.grad for p in self.parameters}
        views = {p: NDArrayView.from_dense((grad * samples).cpu().numpy()) for p, grad in grads.items()}
        has_learned = bool(self.update(views, samples, is_sweep_end))
        self._count(samples, is_sweep_end)
        return has_learned

    def update(self, gradient_values: Any, training_sample_count: int, sweep_end: bool) -> bool:
        raise NotImplementedError("UserLearner.update must be overriden")

    def create_checkpoint(self) -> dict[str, Any]:
        """The counts. A program's own learner may add to them, and read its additions when it is restored."""
        from convolve.cntk import checkpoint

        return checkpoint.of_counts(self)

    def restore_from_checkpoint(self, values: Mapping[str, Any]) -> None:
        from convolve.cntk import checkpoint

        checkpoint.restore_counts(self, values)


class UniversalLearner(UserLearner):
    """Gradients become constants; evaluating the function then assigns to the parameters."""

    def __init__(self, update_func: Any, parameters: Any, gradients: Any = None) -> None:
        super().__init__(parameters, Schedule(1.0))
        for each in self.parameters:
            if -1 in each.shape:
                raise ValueError(
                    f"parameter {each} has inferred dimensions. Please create the learner after all parameter shapes "
                    "have been determined"
                )
        self._gradients = gradients or [
            Constant(0, shape=p.shape, dtype=p.dtype, name="gradient") for p in self.parameters
        ]
        self._update = update_func(self.parameters, self._gradients)
        if not hasattr(self._update, "outputs"):
            raise TypeError(
                f"universal: the update function returned {self._update!r}, not a Function; combine the assignments"
            )
        self.rates_used = {"Learning rate per minibatch": 1.0}

    def update(self, gradient_values: Any, training_sample_count: int, sweep_end: bool = False) -> bool:
        for constant, parameter in zip(self._gradients, self.parameters, strict=True):
            constant.take(gradient_values[parameter])
        self._update.eval()
        return True
