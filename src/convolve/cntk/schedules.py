"""Schedules: learning rates and momenta over the samples of a training."""

import copy
import itertools
import math
from enum import Enum, IntEnum
from typing import Any, Self

FULL_DATA_SWEEP = 2**64 - 2  # as an epoch's size, or as the number of samples to evaluate


class UnitType(Enum):
    """What a rate of CNTK before 2.2 is for."""

    sample = "sample"
    minibatch = "minibatch"


class MinibatchSizeUnit(IntEnum):
    samples = 0


class Schedule:
    """One value for each period of `epoch_size` samples (or of one sweep, if that is not given); the last one stays.
    `ends`: up to where each value holds. `minibatch_size`: the number of samples that a value is for, 0: any."""

    def __init__(self, schedule: Any, minibatch_size: int | None = None, epoch_size: int | None = None) -> None:
        self.is_by_sweep = not epoch_size or epoch_size >= FULL_DATA_SWEEP
        self.minibatch_size, self.epoch_size = minibatch_size or 0, 1 if self.is_by_sweep else int(epoch_size or 1)
        self.is_minibatch_size_explicitly_specified = bool(minibatch_size)
        is_constant = isinstance(schedule, int | float)
        pairs = [(0, schedule)] if is_constant else _pairs(schedule)
        totals = itertools.accumulate(count * self.epoch_size for count, _ in pairs)
        self.ends = [(end, float(value)) for end, (_, value) in zip(totals, pairs, strict=True)]

    def __getitem__(self, place: int) -> float:
        """The value from this sample on, or from this sweep on."""
        return next((value for end, value in self.ends if place < end), self.ends[-1][1])

    def meant_for(self, minibatch_size: int, later: int = 0) -> Self:
        """The same values for another minibatch size, starting this many samples or sweeps later."""
        other = copy.copy(self)
        other.minibatch_size, other.ends = minibatch_size, [(end + later, value) for end, value in self.ends]
        return other

    @property
    def unit(self) -> str:
        """As CNTK prints it: "per 1 samples"."""
        return f"per {self.minibatch_size} samples" if self.minibatch_size else "per minibatch"


def _pairs(schedule: Any) -> list[tuple[int, float]]:
    if not isinstance(schedule, list | tuple) or not schedule:
        raise ValueError("schedule must be either a float or a list, not " + type(schedule).__name__)
    if isinstance(schedule[0], tuple | list):
        return [(int(count), value) for count, value in schedule]
    return [(1, value) for value in schedule]


def as_schedule(schedule: Any, minibatch_size: int | None = None, epoch_size: int | None = None) -> Schedule:
    """A schedule as given, or one made from a number or a list."""
    return schedule if isinstance(schedule, Schedule) else _schedule(schedule, minibatch_size, epoch_size)


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
    if unit not in (*UnitType, "sample", "minibatch"):
        raise ValueError(f"schedule unit must be UnitType.sample or UnitType.minibatch, not {unit!r}")
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
    """T samples -> exp(-1 / T) per sample; 0: no momentum."""
    if isinstance(momentum, Schedule):
        return momentum
    pairs = [(1, momentum)] if isinstance(momentum, int | float) else _pairs(momentum)
    return Schedule([(count, math.exp(-1.0 / t) if t else 0.0) for count, t in pairs], 1, epoch_size)


class MinibatchSizes(Schedule):
    """The size of minibatches over the samples of a training."""


def minibatch_size_schedule(schedule: Any, epoch_size: int = 1) -> MinibatchSizes:
    return MinibatchSizes(schedule, 1, epoch_size)
