"""The learning-rate finder: a short training in which the rate grows from step to step, and what its loss says.

L. Smith, Cyclical learning rates for training neural networks (2017), section 3.3; the ramp, the smoothing and the end
are those of fastai's `lr_find`.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from convolve.data.options import AS_FOUND, DataOptions
from convolve.data.splits import Splits
from convolve.errors import UsageError
from convolve.inputs import open_images
from convolve.recipe import Recipe, ScheduleSpec
from convolve.recipe_values import Steps, steps_text
from convolve.run import build_training
from convolve.training.events import Callback, silent
from convolve.training.extras.extra import Extra
from convolve.training.plan import PlannedStep
from convolve.training.run_folder import RunFolder
from convolve.training.trainer import Trainer
from convolve.training.workers import SINGLE_PROCESS

STEPS = 100  # as fastai has it
LOWEST, HIGHEST = 1e-6, 10.0  # on the mean gradient; a decade further up than fastai's, and one less below
_SMOOTHING = 0.98  # of the moving average of the loss, fastai's
_DIVERGED = 4.0  # times the smallest smoothed loss: the ramp ends, as in fastai
_BELOW_SMALLEST = 10.0  # the suggestion is so many times below the rate with the smallest loss, as in fastai


@dataclass(frozen=True)
class RateCurve:
    """The smoothed loss after each step of the ramp, by its rate in the unit of the recipe's schedule.

    `suggested` is the largest of the recipe's `learning_rates` to take, which `setting` spells out.
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
    from_model: str | Path | None = None,
    progress: Callback = silent,
    options: DataOptions = AS_FOUND,
) -> RateCurve:
    """Train `recipe` for `STEPS` steps, or until the loss has grown, at rates from `LOWEST` to `HIGHEST`.

    Nothing of it is kept. The rates of a recipe that has several are scaled alike. Raises `UsageError` where the loss
    never falls.
    """
    ramp = ramp_of(recipe)
    with TemporaryDirectory(prefix="convolve-") as place:
        splits = open_images(ramp.data, data, options, progress, SINGLE_PROCESS)
        trainer = build_training(ramp, splits, RunFolder(Path(place)), from_model, progress).trainer
        progress("start", vars(trainer.session.start) | {"step": 0, "samples_seen": 0})
        finder = _Finder()
        trainer.on_step.append(finder.on_step)
        with suppress(_Diverged):
            trainer.train_epoch()
    return _curve(recipe, finder)


def ramp_of(recipe: Recipe) -> Recipe:
    """A training of one epoch whose rate grows by the same factor in each step; all else is as it begins in `recipe`."""
    size, schedule = recipe.run.batch_size(0), recipe.schedule
    unit = (schedule.reference_batch_size or size) / size
    rates = tuple(unit * LOWEST * (HIGHEST / LOWEST) ** (step / (STEPS - 1)) for step in range(STEPS))
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
            recipe.run, epochs=1, epoch_samples=STEPS * size, global_batch_size=size, global_batch_sizes=(), keep="last",
            early_stopping_epochs=0, ema_epochs=0.0, checkpoint_seconds=0.0,
        ),
        plateau=None,
        distributed=None,
    )  # fmt: skip


class _Diverged(Exception):
    """The loss has grown: to go on would tell nothing."""


class _Finder(Extra):
    """`points` are (rate, smoothed loss)."""

    def __init__(self) -> None:
        self.points: list[tuple[float, float]] = []
        self.average, self.smallest = 0.0, math.inf

    def on_step(self, trainer: Trainer, losses_M: Tensor, step: PlannedStep) -> None:
        rate = step.size.lr_per_sample * (trainer.recipe.schedule.reference_batch_size or step.samples)
        loss = float(losses_M.mean())
        self.average = _SMOOTHING * self.average + (1 - _SMOOTHING) * loss
        smoothed = self.average / (1 - _SMOOTHING ** (len(self.points) + 1))
        self.smallest = min(self.smallest, smoothed)
        if not smoothed <= _DIVERGED * self.smallest:
            raise _Diverged
        self.points.append((rate, smoothed))


def _curve(recipe: Recipe, finder: _Finder) -> RateCurve:
    rates, losses = zip(*finder.points, strict=True)
    lowest = losses.index(min(losses))
    if lowest == 0:
        raise UsageError(
            f"the loss falls at no rate between {rates[0]:g} and {rates[-1]:g}: look at the labels with `convolve "
            "check-data`, or try another model.name"
        )
    suggested = float(f"{rates[lowest] / _BELOW_SMALLEST:.2g}")
    factor = suggested / max(recipe.schedule.learning_rates)
    scaled = tuple(float(f"{rate * factor:.3g}") for rate in recipe.schedule.learning_rates)
    return RateCurve(rates, losses, suggested, scaled)
