"""Reduce on plateau, epoch by epoch as CNTK 2.7's SGD decides; what it undoes is undone wholly."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from convolve.specs.optimizer import OptimizerSpec
from convolve.specs.schedule import PlateauSpec
from convolve.training.extras.build import Extras
from convolve.training.extras.plateau import Plateau
from convolve.training.optimizers import build_optimizer, take_step
from convolve.training.schedule import StepSize
from convolve.training.snapshot import EpochMetrics, Position, restore, take_snapshot
from convolve.training.workers import SINGLE_PROCESS

SPEC = PlateauSpec(every_epochs=1, threshold=0.1, factor=0.5, raise_threshold=0.4, raise_factor=2.0)
STEP = StepSize(lr=0.1, lr_per_sample=0.1, momentum=0.9, variance_momentum=0.0)


def new_trainer(spec: PlateauSpec = SPEC, listed_epochs: int = 0) -> Any:
    """What a plateau sees of a trainer."""
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(3, 2), nn.Dropout(), nn.BatchNorm1d(2))
    return SimpleNamespace(
        network=network, optimizer=build_optimizer(OptimizerSpec(), [*network.parameters()]), loss_scale=None,
        extras=Extras(plateau=Plateau(spec, listed_epochs)), workers=SINGLE_PROCESS,
        position=Position(), metrics=EpochMetrics(), sums=torch.zeros(3, dtype=torch.float64),
    )  # fmt: skip


def train_epoch(trainer: Any) -> None:
    """Something that moves weights, statistics, the optimizer, the random generator and the position."""
    trainer.network(torch.rand(4, 3)).square().sum().backward()
    take_step(trainer.optimizer, STEP, 4)
    trainer.optimizer.zero_grad()
    at = trainer.position
    at.epoch, at.step, at.samples_seen, at.train_seconds = at.epoch + 1, at.step + 1, at.samples_seen + 4, at.step + 1.0


def note(trainer: Any, metric: float) -> bool:
    return bool(trainer.extras.plateau.note(trainer, metric))


def state_of(trainer: Any) -> dict[str, torch.Tensor]:
    """A copy of everything but what the plateau itself keeps."""
    return take_snapshot(trainer, without="plateau").copy().tensors


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize(
    ("spec", "metrics", "factors"),
    [
        (SPEC, [1.0, 0.95, 0.8, 0.3, 0.31], [1, 0.5, 0.5, 1, 0.5]),
        (SPEC, [1.0, 2.0, 1.5, 1.01, 0.5], [1, 0.5, 0.25, 0.125, 0.25]),  # all compared with the first
        (replace(SPEC, rollback=False), [1.0, 2.0, 1.5, 1.01, 1.0], [1, 0.5, 0.5, 0.5, 0.25]),
        (replace(SPEC, raise_threshold=None), [1.0, 0.1], [1, 1]),
        (replace(SPEC, every_epochs=2), [1.0, 3.0, 1.9, 1.9, 1.0, 1.6], [1, 1, 1, 0.5, 0.5, 0.5]),
    ],
)
def test_when_the_rate_moves(spec: PlateauSpec, metrics: list[float], factors: list[float]) -> None:
    trainer, found = new_trainer(spec, listed_epochs=1), []
    for metric in metrics:
        train_epoch(trainer)
        note(trainer, metric)
        found.append(trainer.extras.plateau.factor)
    assert found == factors


def test_listed_epochs_are_only_noted() -> None:
    trainer = new_trainer(listed_epochs=3)
    for metric in (1.0, 2.0, 3.0):
        train_epoch(trainer)
        assert not note(trainer, metric) and trainer.extras.plateau.factor == 1.0
    train_epoch(trainer)
    assert note(trainer, 4.0) and trainer.extras.plateau.factor == 0.5
    assert trainer.position.epoch == 3


def test_a_rollback_undoes_everything_but_the_count_and_the_time() -> None:
    trainer = new_trainer()
    train_epoch(trainer)
    note(trainer, 1.0)
    before = state_of(trainer)
    train_epoch(trainer)
    once = state_of(trainer)
    assert not same(before, once)
    assert note(trainer, 1.5)
    assert same(before, state_of(trainer))
    at = trainer.position
    assert (at.epoch, at.samples_seen, at.step, at.train_seconds) == (1, 4, 2, 2.0)
    train_epoch(trainer)
    assert same(once, state_of(trainer))


def test_a_checkpoint_holds_what_the_training_may_go_back_to() -> None:
    trainer, other = new_trainer(), new_trainer()
    train_epoch(trainer)
    note(trainer, 1.0)
    train_epoch(trainer)
    kept = take_snapshot(trainer).copy()
    restore(other, kept)
    again = take_snapshot(other)
    assert again.values == kept.values and same(again.tensors, kept.tensors)
    for each in (trainer, other):
        assert note(each, 2.0)
    one, two = take_snapshot(trainer), take_snapshot(other)
    assert same(one.tensors, two.tensors) and one.values == two.values
