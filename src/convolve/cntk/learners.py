"""Learners and schedules: CNTK's arithmetic, by the optimizers that recipes use."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import Enum, IntEnum
from typing import Any

import torch

from convolve.cntk.variables import Constant, Parameter
from convolve.specs.optimizer import OptimizerSpec
from convolve.training.optimizers import OPTIMIZERS, CntkOptimizer, take_step
from convolve.training.schedule import StepSize

IGNORE = 0  # of a reference size: the value is used as it stands, on the mean gradient


class UnitType(Enum):
    """What a rate of CNTK before 2.2 is meant for."""

    sample = "sample"
    minibatch = "minibatch"


class MinibatchSizeUnit(IntEnum):
    samples = 0


class Schedule:
    """A value for each period of `epoch_size` samples, the last one for good; `minibatch_size`: what it is meant for,
    0: whatever comes."""

    def __init__(self, schedule: Any, minibatch_size: int | None = None, epoch_size: int | None = None) -> None:
        self.minibatch_size, self.epoch_size = minibatch_size or 0, epoch_size or 1
        self.is_minibatch_size_explicitly_specified = bool(minibatch_size)
        pairs = [(1, schedule)] if isinstance(schedule, int | float) else _pairs(schedule)
        self.values = [(count, float(value)) for count, value in pairs]

    def __getitem__(self, samples: int) -> float:
        period, end = samples // self.epoch_size, 0
        for count, value in self.values:
            end += count
            if period < end:
                return value
        return self.values[-1][1]

    def in_words(self, samples: int) -> str:
        """As CNTK prints it: per 1 samples: 0.001."""
        unit = f"{self.minibatch_size} samples" if self.minibatch_size else "minibatch"
        return f"per {unit}: {self[samples]}"

    def mapping(self) -> dict[int, float]:
        """First sample -> value, as checkpoints have it."""
        found, start = {}, 0
        for count, value in self.values:
            found[start * self.epoch_size] = value
            start += count
        return found


def _pairs(schedule: Any) -> list[tuple[int, float]]:
    if not isinstance(schedule, list | tuple) or not schedule:
        raise ValueError("schedule must be either a float or a list, not " + type(schedule).__name__)
    if isinstance(schedule[0], tuple | list):
        return [(int(count), value) for count, value in schedule]
    return [(1, value) for value in schedule]


def _schedule(schedule: Any, minibatch_size: int | None, epoch_size: int | None) -> Schedule:
    if isinstance(schedule, Schedule):
        if epoch_size is not None:
            raise ValueError("Wrong Syntax: epoch_size is specified for a schedule that exists already")
        return schedule
    if isinstance(minibatch_size, int) and minibatch_size < 0:
        raise ValueError("minibatch_size must be a positive integer, not " + str(minibatch_size))
    return Schedule(schedule, minibatch_size, epoch_size)


def training_parameter_schedule(
    schedule: Any, unit: Any = UnitType.minibatch, epoch_size: int | None = None
) -> Schedule:
    return _schedule(schedule, 1 if unit in (UnitType.sample, "sample") else None, epoch_size)


def learning_parameter_schedule(
    schedule: Any, minibatch_size: int | None = None, epoch_size: int | None = None
) -> Schedule:
    return _schedule(schedule, minibatch_size, epoch_size)


def learning_parameter_schedule_per_sample(schedule: Any, epoch_size: int | None = None) -> Schedule:
    return _schedule(schedule, 1, epoch_size)


def learning_rate_schedule(lr: Any, unit: Any, epoch_size: int | None = None) -> Schedule:
    return training_parameter_schedule(lr, unit, epoch_size)


def momentum_schedule(momentum: Any, epoch_size: int | None = None, minibatch_size: int | None = None) -> Schedule:
    return _schedule(momentum, minibatch_size, epoch_size)


def momentum_schedule_per_sample(momentum: Any, epoch_size: int | None = None) -> Schedule:
    return _schedule(momentum, 1, epoch_size)


def momentum_as_time_constant_schedule(momentum: Any, epoch_size: int | None = None) -> Schedule:
    """T samples -> exp(-1 / T) a sample; 0: none."""
    if isinstance(momentum, Schedule):
        return momentum
    pairs = [(1, momentum)] if isinstance(momentum, int | float) else _pairs(momentum)
    return Schedule([(count, math.exp(-1.0 / t) if t else 0.0) for count, t in pairs], 1, epoch_size)


minibatch_size_schedule = learning_parameter_schedule_per_sample
_unit_gain = {"default": True}


def default_unit_gain_value() -> bool:
    return _unit_gain["default"]


def set_default_unit_gain_value(value: bool) -> None:
    _unit_gain["default"] = bool(value)


def default_use_mean_gradient_value() -> bool:
    return _unit_gain.get("mean", False)


def set_default_use_mean_gradient_value(value: bool) -> None:
    _unit_gain["mean"] = bool(value)


class Learner:
    """An optimizer over some parameters, with its schedules, and how far it is."""

    def __init__(
        self, parameters: Sequence[Parameter], lr: Schedule, spec: OptimizerSpec, momentum: Schedule | None = None,
        variance: Schedule | None = None, uses_mean: bool = False,
    ) -> None:  # fmt: skip
        if not parameters:
            raise ValueError("Learner: the parameter list is empty")
        self.parameters = tuple(parameters)
        self.learning_rate_schedule, self.momentum_schedule, self.variance_schedule = lr, momentum, variance
        self.spec, self.uses_mean = spec, uses_mean
        self.total_number_of_samples_seen = self.minibatches_seen = 0
        self.minibatch_size = IGNORE
        self.rates_used: dict[str, str] = {}  # of the last step, in words
        self._optimizer: CntkOptimizer | None = None

    @property
    def optimizer(self) -> CntkOptimizer:
        """Made when the shapes of the parameters are known."""
        if self._optimizer is None:
            weights = [parameter.data for parameter in self.parameters]
            self._optimizer = OPTIMIZERS[self.spec.name]([{"params": weights, "rate": 1.0}], self.spec)
        return self._optimizer

    def learning_rate(self) -> float:
        return self.learning_rate_schedule[self.total_number_of_samples_seen]

    def reset_learning_rate(self, learning_rate: Any) -> None:
        self.learning_rate_schedule = _schedule(learning_rate, None, None)

    def step(self, samples: int) -> None:
        """One update from `.grad`, the gradient of the mean loss over so many samples."""
        seen = self.total_number_of_samples_seen
        rate, reference = self.learning_rate_schedule[seen], self.learning_rate_schedule.minibatch_size or samples
        variance = _decay(self.variance_schedule, seen, samples)
        size = StepSize(
            rate * (samples / reference), rate / reference, _decay(self.momentum_schedule, seen, samples), variance
        )
        self.rates_used = {"Learning rate": self.learning_rate_schedule.in_words(seen)}
        if self.spec.name == "momentum_sgd" and self.momentum_schedule:
            self.rates_used["Momentum"] = self.momentum_schedule.in_words(seen)
        for parameter in self.parameters:
            if parameter.data.grad is None:
                parameter.data.grad = torch.zeros_like(parameter.data)
        take_step(self.optimizer, size, samples)
        self.total_number_of_samples_seen += samples
        self.minibatches_seen += 1

    def update(self, gradient_values: Any, training_sample_count: int, is_sweep_end: bool = False) -> bool:
        """One update from the gradients, summed over the samples, of a program's own."""
        for parameter, gradient in gradient_values.items():
            array = torch.as_tensor(getattr(gradient, "array", gradient), dtype=parameter.data.dtype)
            parameter.data.grad = array.reshape(parameter.data.shape) / training_sample_count
        self.step(training_sample_count)
        self.optimizer.zero_grad()
        return True


def _decay(schedule: Schedule | None, seen: int, samples: int) -> float:
    if schedule is None:
        return 0.0
    value = schedule[seen]
    return float(value ** (samples / schedule.minibatch_size)) if schedule.minibatch_size and value else value


def _made(
    name: str,
    parameters: Any,
    lr: Any,
    options: dict[str, Any],
    momentum: Any = None,
    variance: Any = None,
    **spec: Any,
) -> Learner:
    minibatch_size = options.pop("minibatch_size", None)
    epoch_size = options.pop("epoch_size", None)
    clip = options.pop("gradient_clipping_threshold_per_sample", math.inf)
    truncates = options.pop("gradient_clipping_with_truncation", True)
    l1, l2 = options.pop("l1_regularization_weight", 0.0), options.pop("l2_regularization_weight", 0.0)
    noise = options.pop("gaussian_noise_injection_std_dev", 0.0)
    uses_mean = options.pop("use_mean_gradient", None)
    if options:
        raise TypeError(f"{name}() got an unexpected keyword argument '{next(iter(options))}'")
    if noise:
        raise NotImplementedError("gaussian_noise_injection_std_dev is not supported; leave it out")
    rates = _schedule(lr, minibatch_size, epoch_size)
    if minibatch_size and not rates.is_minibatch_size_explicitly_specified:
        rates = Schedule(rates.values, minibatch_size, rates.epoch_size)
    momenta = None if momentum is None else _schedule(momentum, minibatch_size, None)
    settings = OptimizerSpec(
        name=name, l1=l1, l2=l2, clip_per_sample=0.0 if math.isinf(clip) else float(clip),
        clip_by="truncation" if truncates else "norm", **spec,
    )  # fmt: skip
    listed = [parameters] if isinstance(parameters, Parameter) else list(parameters)
    return Learner(listed, rates, settings, momentum=momenta, variance=variance, uses_mean=bool(uses_mean))


def sgd(parameters: Any, lr: Any, **options: Any) -> Learner:
    return _made("sgd", parameters, lr, options)


def momentum_sgd(parameters: Any, lr: Any, momentum: Any, unit_gain: Any = None, **options: Any) -> Learner:
    return _made("momentum_sgd", parameters, lr, options, momentum, unit_gain=_gain(unit_gain))


def nesterov(parameters: Any, lr: Any, momentum: Any, unit_gain: Any = None, **options: Any) -> Learner:
    return _made("nesterov", parameters, lr, options, momentum, unit_gain=_gain(unit_gain))


def adagrad(parameters: Any, lr: Any, need_ave_multiplier: bool = True, **options: Any) -> Learner:
    return _made("adagrad", parameters, lr, options)


def adadelta(parameters: Any, lr: Any = None, rho: float = 0.95, epsilon: float = 1e-8, **options: Any) -> Learner:
    rate = Schedule(1.0, 1) if lr is None else lr
    return _made("adadelta", parameters, rate, options, adadelta_rho=float(rho), epsilon=float(epsilon))


def adam(
    parameters: Any, lr: Any, momentum: Any, unit_gain: Any = None, variance_momentum: Any = None,
    epsilon: float = 1e-8, adamax: bool = False, **options: Any,
) -> Learner:  # fmt: skip
    if adamax:
        raise NotImplementedError("adam(adamax=True) is not supported; leave it out")
    variance = _variance(variance_momentum)
    return _made(
        "adam", parameters, lr, options, momentum, variance=variance, unit_gain=_gain(unit_gain), epsilon=float(epsilon)
    )


def fsadagrad(
    parameters: Any, lr: Any, momentum: Any, unit_gain: Any = None, variance_momentum: Any = None, **options: Any
) -> Learner:
    variance = _variance(variance_momentum)
    return _made("fsadagrad", parameters, lr, options, momentum, variance=variance, unit_gain=_gain(unit_gain))


def rmsprop(
    parameters: Any, lr: Any, gamma: float, inc: float, dec: float, max: float, min: float,
    need_ave_multiplier: bool = True, **options: Any,
) -> Any:  # fmt: skip
    return _made("sgd", parameters, lr, options)


def universal(update_func: Any, parameters: Any) -> UniversalLearner:
    """A learner whose update is a function of parameters and gradients, made of operations."""
    return UniversalLearner(update_func, parameters)


def _variance(momentum: Any) -> Schedule:
    """CNTK's default is a time constant of 720,000 samples."""
    return momentum_schedule_per_sample(0.9999986111120757) if momentum is None else _schedule(momentum, None, None)


def _gain(unit_gain: Any) -> bool:
    return default_unit_gain_value() if unit_gain is None else bool(unit_gain)


class UserLearner:
    """A learner of a program's own: `update(gradient_values, training_sample_count, is_sweep_end)`."""

    def __init__(self, parameters: Sequence[Parameter], lr_schedule: Any, as_numpy: bool = True) -> None:
        self.parameters = tuple(parameters)
        self.learning_rate_schedule = _schedule(lr_schedule, None, None)
        self.as_numpy, self.total_number_of_samples_seen = as_numpy, 0

    def learning_rate(self) -> float:
        return self.learning_rate_schedule[self.total_number_of_samples_seen]

    def step(self, samples: int) -> None:
        zeros = {p: torch.zeros_like(p.data) if p.data.grad is None else p.data.grad for p in self.parameters}
        gradients = {p: (g * samples).numpy() for p, g in zeros.items()}
        self.update(gradients, samples, False)
        self.total_number_of_samples_seen += samples

    def update(self, gradient_values: Any, training_sample_count: int, sweep_end: bool) -> bool:
        raise NotImplementedError("UserLearner.update() is to be defined by the program")


class UniversalLearner(UserLearner):
    def __init__(self, update_func: Any, parameters: Any) -> None:
        super().__init__(parameters, Schedule(1.0))
        self._gradients = [Constant(0, shape=p.shape, dtype=p.dtype, name="gradient") for p in parameters]
        self._update = update_func(parameters, self._gradients)

    def update(self, gradient_values: Any, training_sample_count: int, sweep_end: bool) -> bool:
        for constant, parameter in zip(self._gradients, self.parameters, strict=True):
            constant.value = gradient_values[parameter]
        self._update.eval()
        return True


Update = Callable[..., Any]
