"""A learning rate that adjusts itself, epoch by epoch as CNTK 2.7's SGD decides; what it undoes is undone wholly."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from convolve.recipe import AdjustSpec, OptimizerSpec
from convolve.training.adjust import adjust
from convolve.training.optimizers import build_optimizer, take_step
from convolve.training.precision import LossScale
from convolve.training.schedule import StepSize
from convolve.training.state import TrainingState
from convolve.training.workers import SINGLE_PROCESS

SPEC = AdjustSpec(every_epochs=1, lower_below=0.1, lower_by=0.5, raise_above=0.4, raise_by=2.0)
STEP = StepSize(lr=0.1, lr_per_sample=0.1, momentum=0.9, variance_momentum=0.0)


def new_state() -> TrainingState:
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(3, 2), nn.Dropout(), nn.BatchNorm1d(2))
    return TrainingState(module, build_optimizer(OptimizerSpec(), [*module.parameters()]), LossScale(False), None)


def train_epoch(state: TrainingState) -> None:
    """Something that moves weights, statistics, the optimizer, the random generator and the position."""
    state.module(torch.rand(4, 3)).square().sum().backward()
    take_step(state.optimizer, STEP, 4)
    state.optimizer.zero_grad()
    at = state.position
    at.epoch, at.step, at.samples_seen, at.train_seconds = at.epoch + 1, at.step + 1, at.samples_seen + 4, at.step + 1.0


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize(
    ("spec", "figures", "factors"),
    [
        (SPEC, [1.0, 0.95, 0.8, 0.3, 0.31], [1, 0.5, 0.5, 1, 0.5]),
        (SPEC, [1.0, 2.0, 1.5, 1.01, 0.5], [1, 0.5, 0.25, 0.125, 0.25]),  # all compared with the first
        (replace(SPEC, goes_back=False), [1.0, 2.0, 1.5, 1.01, 1.0], [1, 0.5, 0.5, 0.5, 0.25]),
        (replace(SPEC, raise_above=None), [1.0, 0.1], [1, 1]),
        (replace(SPEC, every_epochs=2), [1.0, 3.0, 1.9, 1.9, 1.0, 1.6], [1, 1, 1, 0.5, 0.5, 0.5]),
    ],
)
def test_when_the_rate_moves(spec: AdjustSpec, figures: list[float], factors: list[float]) -> None:
    state, found = new_state(), []
    for figure in figures:
        train_epoch(state)
        adjust(state, spec, 1, figure, SINGLE_PROCESS)
        found.append(state.adjustment.factor)
    assert found == factors


def test_listed_epochs_are_only_noted() -> None:
    state = new_state()
    for figure in (1.0, 2.0, 3.0):
        train_epoch(state)
        assert adjust(state, SPEC, 3, figure, SINGLE_PROCESS) == (1.0, 1.0, False)
    train_epoch(state)
    assert adjust(state, SPEC, 3, 4.0, SINGLE_PROCESS) == (1.0, 0.5, True)
    assert state.position.epoch == 3


def test_going_back_undoes_everything_but_the_count_and_the_time() -> None:
    state = new_state()
    train_epoch(state)
    adjust(state, SPEC, 0, 1.0, SINGLE_PROCESS)
    before = {name: tensor.clone() for name, tensor in state.tensors().items() if not name.startswith("earlier.")}
    train_epoch(state)
    once = {name: tensor.clone() for name, tensor in state.tensors().items() if not name.startswith("earlier.")}
    assert not same(before, once)
    assert adjust(state, SPEC, 0, 1.5, SINGLE_PROCESS).went_back
    assert same(before, {name: tensor for name, tensor in state.tensors().items() if not name.startswith("earlier.")})
    at = state.position
    assert (at.epoch, at.samples_seen, at.step, at.train_seconds) == (1, 4, 2, 2.0)
    train_epoch(state)
    assert same(once, {name: tensor for name, tensor in state.tensors().items() if not name.startswith("earlier.")})


def test_a_checkpoint_holds_what_the_training_may_go_back_to() -> None:
    state, other = new_state(), new_state()
    train_epoch(state)
    adjust(state, SPEC, 0, 1.0, SINGLE_PROCESS)
    train_epoch(state)
    tensors, values = {name: tensor.clone() for name, tensor in state.tensors().items()}, state.values()
    other.restore(tensors, values)
    assert other.values() == values and same(other.tensors(), tensors)
    for each in (state, other):
        assert adjust(each, SPEC, 0, 2.0, SINGLE_PROCESS).went_back
    assert same(state.tensors(), other.tensors()) and state.values() == other.values()
