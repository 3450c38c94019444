"""The steps of an epoch, known before it begins: samples, shards, step sizes, reports."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from convolve.errors import TrainingError
from convolve.recipe import Recipe
from convolve.training.extras.plateau import Plateau
from convolve.training.schedule import StepSize, step_size
from convolve.training.snapshot import Position
from convolve.training.workers import Shard, Workers

Batch = tuple[torch.Tensor, torch.Tensor]  # images_NCHW as network input, labels_N


class Loader(Protocol):
    """What the trainer needs of data: a shard of the batches of any epoch, from any batch on."""

    @property
    def samples(self) -> int: ...
    @property
    def loss_K(self) -> tuple[float, ...]: ...
    def sizes(self, epoch: int) -> list[int]: ...
    def order(self, epoch: int, losses_N: torch.Tensor | None = None) -> NDArray[np.int64]: ...
    def epoch(
        self, epoch: int, first_batch: int, order_N: NDArray[np.int64], shard_of: Callable[[int], slice]
    ) -> Iterator[Batch]: ...


class PlannedStep(NamedTuple):
    """A step on `samples` images of all workers together, of which this one has a shard.

    shown: the step size of a full batch, for the report after this step; None: no report.
    """

    samples: int
    shard: Shard
    size: StepSize
    shown: StepSize | None


@dataclass(frozen=True)
class Plan:
    recipe: Recipe
    loader: Loader
    workers: Workers
    plateau: Plateau | None

    def steps(self, at: Position) -> list[PlannedStep]:
        """All steps of the present epoch, including past ones."""
        sizes = self.loader.sizes(at.epoch)
        report_every = self.recipe.run.report_batches or max(1, min(100, len(sizes) // 10))
        report_first = self.recipe.run.report_first_batches
        shards = {count: self.workers.shard(count) for count in {*sizes}}
        seen, steps = at.samples_seen - sum(sizes[: at.batch]), []
        for number, count in enumerate(sizes, 1):
            size, seen = self.size(count, seen), seen + count
            is_shown = number % report_every == 0 or number == len(sizes) or number <= report_first
            shown = self.shown(at.epoch, seen) if is_shown else None
            steps.append(PlannedStep(count, shards[count], size, shown))
        return steps

    def size(self, batch_size: int, samples_seen: int) -> StepSize:
        """The step size for this many samples after `samples_seen`."""
        recipe, samples = self.recipe, self.loader.samples
        total = samples * recipe.run.epochs
        size = step_size(recipe.optimizer, recipe.schedule, samples_seen, batch_size, samples, total_samples=total)
        return size.times(self.plateau.factor) if self.plateau else size

    def shown(self, epoch: int, samples_seen: int) -> StepSize:
        """The step size of the last step before `samples_seen`, as if for a full batch: what logs show."""
        return self.size(self.recipe.run.batch_size(epoch), samples_seen - 1)

    def has_ended(self, at: Position) -> bool:
        """Whether no epoch remains, or the learning rate has fallen below its limit."""
        run, schedule = self.recipe.run, self.recipe.schedule
        lr_per_sample = self.size(run.batch_size(at.epoch), at.samples_seen).lr_per_sample
        return at.epoch >= run.epochs or lr_per_sample < schedule.min_lr_per_sample


def diverged(when: str, epoch: int, size: StepSize) -> TrainingError:
    """The error message for a loss that is not finite, in `epoch` (from 0)."""
    return TrainingError(
        f"the loss is not finite {when} (epoch {epoch + 1}), at learning rate {size.lr:g} on the mean gradient; lower "
        "schedule.learning_rates, or limit the gradient with optimizer.clip_per_sample, and start over with --restart"
    )
