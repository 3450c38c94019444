"""The training loop. It is given a model, batches and a folder, and knows nothing of where they come from."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from convolve.errors import TrainingError
from convolve.recipe import Recipe
from convolve.records import EVENT_NAMES, EpochEvent, Event, ProgressEvent, to_json
from convolve.training.adjust import adjust
from convolve.training.checkpoint import load_checkpoint, save_checkpoint
from convolve.training.evaluate import evaluate
from convolve.training.events import Listener
from convolve.training.run_folder import RunFolder
from convolve.training.schedule import StepSize, step_size
from convolve.training.state import Best, Tally, TrainingState
from convolve.training.step import StepSettings, set_batch_norm, set_dropout, train_step
from convolve.training.workers import GradientSync, Workers

Batch = tuple[torch.Tensor, torch.Tensor]  # images_NCHW as the network sees them, labels_N


class BatchSource(Protocol):
    """What the loop asks of data: a share of the batches of any epoch, from any one on."""

    @property
    def samples(self) -> int: ...
    def sizes(self, epoch: int) -> list[int]: ...
    def order(self, epoch: int, hardness_N: torch.Tensor | None = None) -> NDArray[np.int64]: ...
    def epoch(
        self, epoch: int, first_batch: int, order_N: NDArray[np.int64], share: Callable[[int], slice]
    ) -> Iterator[Batch]: ...


@dataclass
class Loop:
    """One run from wherever `state` stands to its end.

    `held_out` yields the batches that each epoch is evaluated on; its name is "test", or "validation" for a split.
    `progress` hears of each event that metrics.jsonl holds, and of each step in between (event "step").
    """

    recipe: Recipe
    state: TrainingState
    batches: BatchSource
    held_out: Callable[[], Iterable[Batch]]
    held_out_name: str
    settings: StepSettings
    folder: RunFolder
    progress: Listener
    workers: Workers
    gradient_sync: GradientSync
    sets_dropout: bool = True  # an imported network keeps its own
    each_epoch: Callable[[int], None] = lambda epoch: None  # hears of each epoch that is done and not undone

    def train(self) -> None:
        while self.state.position.epoch < self.recipe.run.epochs and not self._stops_early():
            self._train_epoch()
            if self._adjusted(self._end_epoch()):
                self.each_epoch(self.state.position.epoch)
            self.save()
        if self.state.best_weights:
            self.state.evaluated.load_state_dict(self.state.best_weights)

    def _train_epoch(self) -> None:
        state, at = self.state, self.state.position
        state.module.train()
        if self.sets_dropout:
            dropout = self.recipe.model.dropout
            set_dropout(state.module, dropout[min(at.epoch, len(dropout) - 1)])
        set_batch_norm(state.module, self.recipe.model.batch_norm_time_constants, at.epoch)
        sizes = self.batches.sizes(at.epoch)
        report_every = self.recipe.run.report_batches or max(1, min(100, len(sizes) // 10))
        sums = torch.zeros(3, dtype=torch.float64, device=self.settings.device)  # since the last report
        saved = start = time.perf_counter()
        order_N = self.batches.order(at.epoch, self._hardness())
        if state.hardness:
            state.hardness.order_N = torch.from_numpy(order_N)
        for images_NCHW, labels_N in self.batches.epoch(at.epoch, at.batch, order_N, self._part):
            state.tally.wait_seconds += time.perf_counter() - start
            size = self._step(images_NCHW, labels_N, sizes[at.batch], sums)
            self.progress("step", {"epoch": at.epoch + 1, "samples_seen": at.samples_seen})
            reports = at.batch % report_every == 0 or at.batch == len(sizes)
            if reports:
                self._collect(sums, size)
            state.tally.seconds += time.perf_counter() - start
            if reports:
                self._log(self._progress_event())
                if at.batch < len(sizes) and self._checkpoint_due(saved):
                    self.save()
                    saved = time.perf_counter()
            start = time.perf_counter()

    def _part(self, count: int) -> slice:
        """This worker's part of a batch of `count`."""
        return self.workers.shard(count).rows

    def _step(self, images_NCHW: torch.Tensor, labels_N: torch.Tensor, count: int, sums: torch.Tensor) -> StepSize:
        """One update, on this worker's share of a batch of `count`; what it found is added to `sums`."""
        state, at, sync = self.state, self.state.position, self.gradient_sync
        sync.begin_step(at.samples_seen)
        counted = len(labels_N) if sync.takes_local_steps else count
        size, weight = self._step_size(counted, at.samples_seen), self.workers.shard(count).weight
        step = train_step(
            sync, state.optimizer, state.loss_scale, images_NCHW, labels_N, size, self.settings, counted, weight
        )
        sync.end_step(count)
        if weight:
            sums += step.sums
        if state.hardness:
            state.hardness.note(state.tally.samples, self._losses_of_all(step.losses_N, count))
        at.batch, at.step, at.samples_seen = at.batch + 1, at.step + 1, at.samples_seen + count
        if state.average:
            state.average.update(state.module, at.samples_seen, count)
        state.tally.samples += count
        return size

    def _losses_of_all(self, losses_M: torch.Tensor, count: int) -> torch.Tensor:
        """The losses of a whole batch of `count`, of which this worker has some."""
        losses_N, shard = losses_M.new_zeros(count), self.workers.shard(count)
        losses_N[shard.rows] = losses_M * shard.weight
        self.workers.sum(losses_N)
        return losses_N

    def _hardness(self) -> torch.Tensor | None:
        """What the order of this epoch goes by, if it is to dwell on the hard images."""
        hardness, recipe = self.state.hardness, self.recipe
        dwells = self.state.position.epoch >= recipe.data.hard_after * recipe.run.epochs
        return hardness.at_start_N if hardness and dwells else None

    def _checkpoint_due(self, saved: float) -> bool:
        """Whether it is time to save inside the epoch, by the clock of worker 0; its end saves by itself.

        Workers that train apart have no state in common before that.
        """
        due = 0 < self.recipe.run.checkpoint_seconds < time.perf_counter() - saved
        return not self.gradient_sync.takes_local_steps and self.workers.broadcast(due)

    def _step_size(self, batch_size: int, samples_seen: int) -> StepSize:
        samples, recipe = self.batches.samples, self.recipe
        size = step_size(
            recipe.optimizer, recipe.schedule, samples_seen, batch_size, samples, samples * recipe.run.epochs
        )
        return size.times(self.state.adjustment.factor)

    def _last_full_step(self) -> StepSize:
        """The step size of the last update, had its batch been a full one: what a log should show."""
        at = self.state.position
        return self._step_size(self.recipe.run.batch_size(at.epoch), at.samples_seen - 1)

    def _collect(self, sums: torch.Tensor, size: StepSize) -> None:
        """Fetch the sums from the device (the one place where it is waited for), check them and add them up."""
        at, tally = self.state.position, self.state.tally
        self.workers.sum(sums)
        loss_sum, errors, bad_steps = sums.tolist()
        sums.zero_()
        if bad_steps:  # the first one may be the share of one worker; from there on all of them see it
            bad_steps = math.ceil(bad_steps / self.workers.size)
            raise self._diverged(f"from step {at.step - bad_steps + 1} on", size)
        tally.loss_sum, tally.errors = tally.loss_sum + loss_sum, tally.errors + int(errors)

    def _diverged(self, when: str, size: StepSize) -> TrainingError:
        return TrainingError(
            f"the loss is not finite {when} (epoch {self.state.position.epoch + 1}), at learning rate {size.lr:g} "
            "on the mean gradient; lower schedule.learning_rates, or limit the gradient with "
            "optimizer.clip_per_sample, and start over with --restart"
        )

    def _progress_event(self) -> ProgressEvent:
        at, tally, size = self.state.position, self.state.tally, self._last_full_step()
        return ProgressEvent(
            epoch=at.epoch + 1, batch=at.batch, step=at.step, samples_seen=at.samples_seen,
            loss=tally.loss_sum / tally.samples, error=tally.errors / tally.samples,
            learning_rate=size.lr, momentum=size.momentum, images_per_second=tally.samples / tally.seconds,
        )  # fmt: skip

    def _end_epoch(self) -> EpochEvent:
        """Evaluate and move on; returns what was logged."""
        state, at, tally = self.state, self.state.position, self.state.tally
        start = time.perf_counter()
        self.gradient_sync.sync()
        evaluation = evaluate(state.evaluated, self.held_out(), self.settings.device, workers=self.workers)
        evaluation_seconds = time.perf_counter() - start
        if not math.isfinite(evaluation.loss):
            raise self._diverged(f"after step {at.step}", self._last_full_step())
        name = self.held_out_name
        held_out: dict[str, Any] = {f"{name}_loss": evaluation.loss, f"{name}_error": evaluation.error}
        event = EpochEvent(
            epoch=at.epoch + 1, samples_seen=at.samples_seen,
            train_loss=tally.loss_sum / tally.samples, train_error=tally.errors / tally.samples, **held_out,
            learning_rate=self._last_full_step().lr, seconds=tally.seconds, evaluation_seconds=evaluation_seconds,
            images_per_second=tally.samples / tally.seconds, data_wait_fraction=tally.wait_seconds / tally.seconds,
        )  # fmt: skip
        self._log(event)
        at.train_seconds, at.wait_seconds = at.train_seconds + tally.seconds, at.wait_seconds + tally.wait_seconds
        at.epoch, at.batch, state.tally = at.epoch + 1, 0, Tally()
        if state.hardness:
            state.hardness.end_epoch()
        if self.recipe.run.keep == "best" and evaluation.error < state.best.error:
            state.best = Best(evaluation.error, at.epoch)
            state.best_weights = {name: tensor.clone() for name, tensor in state.evaluated.state_dict().items()}
        return event

    def _adjusted(self, event: EpochEvent) -> bool:
        """Let the rate adjust itself, if the recipe wants that; False: the epoch is undone and trained again."""
        spec = self.recipe.adjust
        if not spec.every_epochs:
            return True
        figure = getattr(event, spec.watches.replace("held_out", self.held_out_name))
        done = adjust(self.state, spec, len(self.recipe.schedule.learning_rates), figure, self.workers)
        if done.went_back:
            self._note(f"{spec.watches} got worse: back to the end of epoch {self.state.position.epoch}")
        if done.now != done.before:
            self._note(f"the learning rate is now {done.now:g} times the last one of the list")
        return not done.went_back

    def _stops_early(self) -> bool:
        at, run, best = self.state.position, self.recipe.run, self.state.best.epoch
        rate = self._step_size(run.batch_size(at.epoch), at.samples_seen).lr_per_sample
        if rate < self.recipe.schedule.min_lr_per_sample:
            return True
        return bool(run.early_stopping_epochs and best and at.epoch - best >= run.early_stopping_epochs)

    def _note(self, message: str) -> None:
        if not self.workers.rank:
            self.progress("note", {"message": message})

    def _log(self, event: Event) -> None:
        if not self.workers.rank:
            self.folder.log(event)
            self.progress(EVENT_NAMES[type(event)], to_json(event))

    def save(self) -> None:
        """Write a checkpoint; a run killed at any moment goes on from the newest one to the same bits."""
        shared = {f"sync.{name}": tensor for name, tensor in self.gradient_sync.state().items()}
        tensors = self.state.tensors(self.workers) | shared
        if not self.workers.rank:
            values = self.state.values() | {"metrics_bytes": self.folder.metrics_bytes()}
            save_checkpoint(self.folder.path / "checkpoints", self.state.position.step, tensors, values)

    def resume(self) -> list[str]:
        """Go back to the newest checkpoint, if there is one. Returns warnings about damaged ones."""
        is_first = not self.workers.rank
        found = load_checkpoint(self.folder.path / "checkpoints") if is_first else None
        tensors, values, warnings = found or ({}, {"metrics_bytes": 0}, [])
        values, warnings = self.workers.broadcast((values, warnings))
        tensors = self.workers.broadcast_tensors(tensors)
        if is_first:
            self.folder.cut_metrics(values["metrics_bytes"])  # what was logged after the checkpoint happens again
        if tensors:
            self.state.restore(tensors, values, self.workers.rank)
            kept = {n.removeprefix("sync."): t for n, t in tensors.items() if n.startswith("sync.")}
            self.gradient_sync.load_state(kept)
        return warnings
