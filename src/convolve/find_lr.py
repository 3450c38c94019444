"""The learning-rate finder: a short training in which the rate grows from step to step, and the rate that its loss
suggests.

L. Smith, Cyclical learning rates for training neural networks (2017), section 3.3; the ramp, the smoothing and the end
are those of fastai's `lr_find`.
"""

import math
import statistics
from contextlib import suppress
from dataclasses import dataclass, replace

from torch import Tensor

from convolve.atomic import scratch
from convolve.data.options import AS_FOUND, DataOptions
from convolve.data.splits import Splits
from convolve.errors import UsageError
from convolve.inputs import open_inputs
from convolve.recipe import Recipe
from convolve.recipe_values import Steps, steps_text
from convolve.run import build_training
from convolve.specs.schedule import ScheduleSpec
from convolve.training.events import Callback, silent
from convolve.training.extras.extra import Extra
from convolve.training.plan import PlannedStep
from convolve.training.run_folder import RunFolder
from convolve.training.trainer import Trainer
from convolve.training.workers import SINGLE_PROCESS

STEPS = (100, 400)  # as fastai has it; where the loss does not fall in these, so many
LOWEST, HIGHEST = 1e-6, 10.0  # on the mean gradient; a decade further up than fastai's, and one less below
_SMOOTHING = 0.98  # of the moving average of the loss, fastai's
_DIVERGED = 4.0  # times the smallest smoothed loss: the ramp ends, as in fastai
_BELOW_SMALLEST = 10.0  # the suggestion is so many times below the rate with the smallest loss, as in fastai
# Part of the ramp, below 1e-4, in which next to nothing is learned: the noise of the loss is measured there.
_FLAT = 0.25
_SIGNIFICANT = 4.0  # standard deviations of the average by which the loss must fall


@dataclass(frozen=True)
class RateCurve:
    """The smoothed loss after each step of the ramp, by learning rate in the unit of the recipe's schedule.

    `suggested` is the peak of the recipe's `learning_rates` to use; `setting` is the option that sets it.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggested: float
    learning_rates: Steps

    @property
    def setting(self) -> str:
        return f"schedule.learning_rates={steps_text(self.learning_rates)}"


def find_lr(
    recipe: Recipe,
    data: str | Splits | None = None,
    progress: Callback = silent,
    options: DataOptions = AS_FOUND,
) -> RateCurve:
    """Train `recipe` for a hundred steps, or until the loss has grown, at rates from `LOWEST` to `HIGHEST`.

    The trained weights are discarded. If the recipe has several rates, all are scaled by the same factor. Raises
    `UsageError` if the loss falls at no rate.
    """
    recipe, splits = open_inputs(recipe, data, options, progress, SINGLE_PROCESS)
    if not recipe.run.epochs:
        raise UsageError("--find-lr: run.epochs is 0, so no training step is taken; set it to 1 or more")
    for steps in STEPS:
        finder = _Finder(int(_FLAT * steps))
        with scratch() as place, suppress(_GrownError):
            folder = RunFolder(place)
            trainer = build_training(ramp_of(recipe, steps), splits, folder, progress).trainer
            trainer.on_step.append(finder.on_step)
            trainer.train_epoch()
        if lowest := finder.lowest():
            return _curve(recipe, finder, lowest)
    raise UsageError(
        f"the loss falls at no learning rate between {LOWEST:g} and {HIGHEST:g} on the mean gradient; check the "
        f"labels with `convolve check-data`, or try another model.name"
    )


def ramp_of(recipe: Recipe, steps: int) -> Recipe:
    """A training of this many `steps` whose rate grows with each; otherwise as `recipe` begins."""
    size, schedule = recipe.run.batch_size(0), recipe.schedule
    unit = (schedule.reference_batch_size or size) / size
    rates = tuple(unit * LOWEST * (HIGHEST / LOWEST) ** (step / (steps - 1)) for step in range(steps))
    momenta = recipe.optimizer.momentum
    at_peak = momenta[min(schedule.learning_rates.index(max(schedule.learning_rates)), len(momenta) - 1)]
    return replace(
        recipe,
        data=replace(recipe.data, hard_fraction=1.0, progressive_sizes=()),
        optimizer=replace(recipe.optimizer, momentum=(at_peak,)),
        schedule=ScheduleSpec(
            learning_rates=rates, reference_batch_size=schedule.reference_batch_size, period_samples=size
        ),
        run=replace(
            recipe.run, epochs=1, epoch_samples=steps * size, global_batch_size=size, global_batch_sizes=(),
            keep="last", early_stopping_epochs=0, ema_epochs=0.0, checkpoint_seconds=0.0,
        ),
        plateau=None,
        distributed=None,
    )  # fmt: skip


class _GrownError(Exception):
    """The loss has grown: further steps would tell nothing."""


class _Finder(Extra):
    """`points` are (rate, smoothed loss); during the first `flat` of them the loss hardly falls yet."""

    def __init__(self, flat: int) -> None:
        self.flat, self.losses = flat, list[float]()
        self.points: list[tuple[float, float]] = []
        self.average, self.smallest = 0.0, math.inf

    def on_step(self, trainer: Trainer, losses_M: Tensor, step: PlannedStep) -> None:
        rate = step.size.lr_per_sample * (trainer.recipe.schedule.reference_batch_size or step.samples)
        self.losses.append(float(losses_M.mean()))
        self.average = _SMOOTHING * self.average + (1 - _SMOOTHING) * self.losses[-1]
        smoothed = self.average / (1 - _SMOOTHING ** len(self.losses))
        self.smallest = min(self.smallest, smoothed)
        if not smoothed <= _DIVERGED * self.smallest:
            raise _GrownError
        self.points.append((rate, smoothed))

    def lowest(self) -> int:
        """The index of the point with the smallest loss; 0 if that is no smaller than by chance."""
        if len(self.points) <= self.flat:
            return 0
        start, deviation = statistics.fmean(self.losses[: self.flat]), statistics.stdev(self.losses[: self.flat])
        number = min(range(self.flat, len(self.points)), key=lambda point: self.points[point][1])
        of_average = deviation * math.sqrt((1 - _SMOOTHING) / (1 + _SMOOTHING))
        return number if self.points[number][1] < start - _SIGNIFICANT * of_average else 0


def _curve(recipe: Recipe, finder: _Finder, lowest: int) -> RateCurve:
    rates, losses = zip(*finder.points, strict=True)
    suggested = float(f"{rates[lowest] / _BELOW_SMALLEST:.2g}")
    factor = suggested / max(recipe.schedule.learning_rates)
    scaled = tuple(float(f"{rate * factor:.3g}") for rate in recipe.schedule.learning_rates)
    return RateCurve(rates, losses, suggested, scaled)
