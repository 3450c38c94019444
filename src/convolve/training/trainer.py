"""The trainer: an epoch, a step, and their hooks.

It is given a network, batches and a folder, and does not know where they come from.
"""

import math
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn

from convolve.models.frozen_start import behind_frozen_start
from convolve.recipe import Recipe
from convolve.records import EVENT_NAMES, ONE_CLASS, Event, Target
from convolve.training.criteria import criterion_for
from convolve.training.evaluate import evaluate
from convolve.training.events import Callback
from convolve.training.extras.build import build_extras
from convolve.training.extras.extra import Extra
from convolve.training.finetune import begin_epoch
from convolve.training.optimizers import gradients_of, optimizer_for, take_step
from convolve.training.plan import Batch, Loader, Plan, PlannedStep, diverged
from convolve.training.precision import LossScale
from convolve.training.rate_watch import RateWatch
from convolve.training.run_folder import RunFolder
from convolve.training.schedule import StepSize
from convolve.training.session import Session
from convolve.training.snapshot import EpochMetrics, Position, save
from convolve.training.stopping import SavePoints
from convolve.training.workers import GradientSync, Workers


@dataclass
class Trainer:
    """One training, from `position` to its end.

    `validation` yields the batches on which each epoch is evaluated; its name is "test" if there is no validation part.
    `callback` receives each event of metrics.jsonl, and each step in between ("step").
    """

    recipe: Recipe
    session: Session
    network: nn.Module
    loader: Loader
    validation: Callable[[], Iterable[Batch]]
    validation_name: str
    folder: RunFolder
    workers: Workers
    callback: Callback
    gradient_sync: GradientSync | None = None  # None: one process
    distill: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor] | None = None  # see distillation.py
    target: Target = ONE_CLASS
    sets_dropout: bool = True  # an imported network keeps its own
    each_epoch: Callable[[int], None] = lambda epoch: None  # is given each epoch that is done and not undone
    position: Position = field(default_factory=Position)
    metrics: EpochMetrics = field(default_factory=EpochMetrics)

    def __post_init__(self) -> None:
        recipe, device = self.recipe, self.session.device
        self.optimizer = optimizer_for(recipe, self.network)
        self.extras = build_extras(recipe, self.network, self.loader.samples, device)
        self.loss_scale = LossScale() if self.session.precision.name == "fp16" else None
        self._network = behind_frozen_start(self.network, recipe.model.freezes)
        self._autocast = self.session.precision.autocast(device)
        self._rate_watch = RateWatch()
        self._plan = Plan(recipe, self.loader, self.workers, self.extras.plateau)
        self._criterion = criterion_for(recipe.run, self.target, self.loader.loss_K)
        self._save_points = SavePoints(self)
        self.sums = torch.zeros(
            2 + len(self._criterion.names), dtype=torch.float64, device=device
        )  # since the last report
        self.on_step = [extra.on_step for _, extra in self.extras.items() if type(extra).on_step is not Extra.on_step]

    @property
    def evaluated(self) -> nn.Module:
        """The network that is evaluated and shipped: the average of the weights if the recipe asks for one."""
        return self.extras.ema.network if self.extras.ema else self.network

    def fit(self) -> None:
        best = self.extras.best
        with self._save_points.held():
            while not (self._plan.has_ended(self.position) or (best and best.stops(self.position.epoch))):
                self.train_epoch()
                self.end_epoch()
                save(self)
                self._save_points.after_epoch()
        if best and best.weights:
            self.evaluated.load_state_dict(best.weights)

    def train_epoch(self) -> None:
        at, metrics = self.position, self.metrics
        begin_epoch(self)
        hard = self.extras.hard_examples
        order_N = hard.order(self.loader, at.epoch) if hard else self.loader.order(at.epoch)
        steps = self._plan.steps(at)
        start = time.perf_counter()
        for images_NCHW, labels_N in self.loader.epoch(at.epoch, at.batch, order_N, self.workers.rows):
            metrics.wait_seconds += time.perf_counter() - start
            step = steps[at.batch]
            self.train_step(images_NCHW, labels_N, step)
            self.callback("step", {"epoch": at.epoch + 1, "samples_seen": at.samples_seen})
            if step.shown:
                self._collect(step.size)
            metrics.seconds += time.perf_counter() - start
            if step.shown:
                self._log(metrics.progress_event(at, step.shown, self._criterion.names))
                if at.train_seconds + metrics.seconds >= self._rate_watch.due:
                    self._rate_watch.watch(self, tuple(images_NCHW.shape[1:]))
            self._save_points.after_step(bool(step.shown), is_last=at.batch == len(steps))
            start = time.perf_counter()

    def train_step(self, images_NCHW: torch.Tensor, labels_N: torch.Tensor, step: PlannedStep) -> None:
        """Forward, backward, update, on this worker's shard of a batch.

        The gradient is that of the mean loss over the whole batch, independent of the number of micro-batches. A shard
        that replaces an empty one has weight 0 and adds nothing to it.
        """
        at, sync, device = self.position, self.gradient_sync, self.session.device
        samples, size = step.samples, step.size
        if sync:
            sync.begin_step(at.samples_seen)
            if sync.takes_local_steps:
                samples, size = len(labels_N), self._plan.size(len(labels_N), at.samples_seen)
        divisor = samples / step.shard.weight if step.shard.weight else math.inf
        losses, counts = [], torch.zeros(len(self._criterion.names), device=device)
        rows = -(-len(labels_N) // self.recipe.run.accumulation_steps)
        micro_batches = list(zip(images_NCHW.split(rows), labels_N.split(rows), strict=True))
        for number, (images, labels) in enumerate(micro_batches, 1):
            images, labels = images.to(device), labels.to(device)  # noqa: PLW2901
            with sync.micro_batch(is_last=number == len(micro_batches)) if sync else nullcontext():
                with self._autocast:
                    logits_NK = (sync.module if sync else self._network)(images)
                loss_N = self._criterion.loss(logits_NK.float(), labels)
                loss_N = self.distill(loss_N, logits_NK.float(), images) if self.distill else loss_N
                loss = loss_N.sum() / divisor
                (loss * self.loss_scale.scale if self.loss_scale else loss).backward()
            losses.append(loss_N.detach())
            counts += self._criterion.counts(logits_NK, labels).sum(0) if self._criterion.counts else 0
        if not self.loss_scale or self.loss_scale.unscale(gradients_of(self.optimizer)):
            take_step(self.optimizer, size, samples)
        self.optimizer.zero_grad()
        if sync:
            sync.end_step(step.samples)
        self._count(torch.cat(losses), counts, step)

    def _count(self, losses_M: torch.Tensor, counts: torch.Tensor, step: PlannedStep) -> None:
        """Add up a step's results, on the device, and advance the position."""
        at, loss_sum = self.position, losses_M.sum()
        if step.shard.weight:
            self.sums += torch.hstack([loss_sum, (~loss_sum.isfinite()).float(), counts])
        at.batch, at.step, at.samples_seen = at.batch + 1, at.step + 1, at.samples_seen + step.samples
        self.metrics.samples += step.samples
        for on_step in self.on_step:
            on_step(self, losses_M, step)

    def end_epoch(self) -> None:
        """Evaluate and go to the next epoch."""
        at, metrics, start = self.position, self.metrics, time.perf_counter()
        if self.gradient_sync:
            self.gradient_sync.sync()
        judge = partial(evaluate, self.evaluated, device=self.session.device, workers=self.workers, target=self.target)
        found = judge(self._save_points.watching(self.validation())) if self.validation_name else None
        size = self._plan.shown(at.epoch, at.samples_seen)
        if found and not math.isfinite(found.loss):
            raise diverged(f"after step {at.step}", at.epoch, size)
        seconds, names = time.perf_counter() - start, self._criterion.names
        event = metrics.epoch_event(at, found, self.validation_name, names, lr=size.lr, evaluation_seconds=seconds)
        self._log(event)
        at.train_seconds, at.wait_seconds = at.train_seconds + metrics.seconds, at.wait_seconds + metrics.wait_seconds
        at.epoch, at.batch, self.metrics = at.epoch + 1, 0, EpochMetrics()
        for _, extra in self.extras.items():
            extra.on_epoch_end(self, event)
        if self.position.epoch == event.epoch:  # and not undone
            self.each_epoch(event.epoch)

    def _collect(self, size: StepSize) -> None:
        """Fetch the sums from the device (the only synchronization), check them and add them up."""
        at, metrics = self.position, self.metrics
        if self.workers.size > 1:
            self.workers.sum(self.sums)
        loss_sum, bad_steps, *counts = self.sums.tolist()
        self.sums.zero_()
        if bad_steps:  # the first one may be in one worker's shard; from then on all of them have it
            bad_steps = math.ceil(bad_steps / self.workers.size)
            raise diverged(f"from step {at.step - bad_steps + 1} on", at.epoch, size)
        metrics.add(loss_sum, counts)

    def _log(self, event: Event) -> None:
        if not self.workers.rank:
            self.callback(EVENT_NAMES[type(event)], self.folder.log(event))
