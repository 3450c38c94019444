"""Block momentum against the formulas of Chen and Huo (2016), computed in numpy; one worker alone is plain training."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from convolve.distributed.block_momentum import BlockMomentum, block_momentum
from convolve.errors import ModelError, UsageError
from convolve.specs.optimizer import OptimizerSpec
from convolve.specs.schedule import ScheduleSpec
from convolve.training.optimizers import build_optimizer, take_step
from convolve.training.schedule import step_size
from convolve.training.workers import SINGLE_PROCESS, Workers
from worker_processes import run_together

STEPS, RATE, BLOCK = 24, 0.3, 4  # each step is of one sample a worker
START = np.array([1.0, -2.0, 0.5])


def slope(weights: np.ndarray, rank: int, step: int) -> np.ndarray:
    """The gradient at `weights` of a worker's loss, (w - target)^2 / 2 with a target for each worker and step."""
    target: np.ndarray = np.random.default_rng(10 * step + rank).normal(size=3)
    return weights - target


def by_the_paper(size: int, h: float, r: float, nesterov: bool, block_steps: int) -> np.ndarray:
    model = start = START
    move = np.zeros(3)
    locals_ = [start.copy() for _ in range(size)]
    for step in range(STEPS):
        locals_ = [w - RATE * slope(w, rank, step) for rank, w in enumerate(locals_)]
        if (step + 1) % block_steps == 0 or step == STEPS - 1:
            mean_way = np.mean(locals_, axis=0) - start
            move = h * move + size * (1 - h) * r * mean_way
            model = model + move
            start = model + h * move if nesterov else model
            locals_ = [start.copy() for _ in range(size)]
    return start


class _Point(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.from_numpy(START.copy()))

    def forward(self, target: torch.Tensor) -> torch.Tensor:
        return (self.weights - target).square().sum() / 2


class _CountedState(defaultdict[Any, Any]):
    resets = 0

    def clear(self) -> None:
        super().clear()
        self.resets += 1


def _descend(workers: Workers, settings: dict[str, Any], steps: range, restored: Any = None, beta: float = 0.0) -> Any:
    point = _Point()
    spec = OptimizerSpec(name="momentum_sgd", momentum=(beta,), unit_gain=False)
    schedule, optimizer = ScheduleSpec(learning_rates=(RATE,)), build_optimizer(spec, [point.weights])
    optimizer.state = _CountedState(dict)
    sync = BlockMomentum(point, workers, optimizer=optimizer, **settings)
    if restored:
        point.weights.data.copy_(torch.from_numpy(restored[0]))
        sync.load_state({name: torch.from_numpy(value) for name, value in restored[1].items()})
    apart = []
    for step in steps:
        sync.begin_step(step * workers.size)
        target = np.zeros(3) - slope(np.zeros(3), workers.rank, step)
        with sync.micro_batch(True):
            loss = sync.module(torch.from_numpy(target))
            (loss if sync.takes_local_steps else loss / workers.size).backward()
        take_step(optimizer, step_size(spec, schedule, 0, 1, STEPS, STEPS), 1)
        optimizer.zero_grad()
        sync.end_step(workers.size)
        apart.append(sync.takes_local_steps)
    sync.sync()
    state = {name: tensor.numpy() for name, tensor in sync.state().items()}
    return point.weights.detach().numpy(), state, sync.bytes_sent, optimizer.state.resets, sum(apart)


def _all(workers: Workers, cases: list[dict[str, Any]]) -> Any:
    return [_descend(workers, case, range(STEPS)) for case in cases]


@pytest.mark.parametrize("size", [2, 3])
def test_formulas(size: int) -> None:
    default = block_momentum(BLOCK * size, None, size)
    assert default == 1 - 1 / size
    cases = [
        {"momentum": default, "nesterov": False},
        {"momentum": default, "nesterov": True},
        {"momentum": 0.9, "learning_rate": 0.7, "nesterov": True},
        {"momentum": 0.0, "learning_rate": 1 / size, "nesterov": True},  # model averaging
    ]
    results = run_together(size, _all, [{"block_samples": BLOCK * size} | case for case in cases])
    for result in results:
        for case, (weights, _, sent, resets, _) in zip(cases, result, strict=True):
            expected = by_the_paper(size, case["momentum"], case.get("learning_rate", 1.0), case["nesterov"], BLOCK)
            np.testing.assert_allclose(weights, expected, rtol=1e-12, atol=1e-13)
            assert resets == STEPS // BLOCK
            assert sent == STEPS // BLOCK * (2 * (size - 1) * 3 * 8 // size)


def test_model_averaging_is_the_mean() -> None:
    """With a block of one step, averaged models are one model that takes averaged steps."""
    case = {"block_samples": 2, "momentum": 0.0, "learning_rate": 0.5}
    weights = START
    for step in range(STEPS):
        weights = weights - RATE * np.mean([slope(weights, rank, step) for rank in range(2)], axis=0)
    for ((ours, *_),) in run_together(2, _all, [case]):
        np.testing.assert_allclose(ours, weights, rtol=1e-12)


def test_one_worker_without_momentum_is_plain_training() -> None:
    ((weights, _, sent, _, _),) = run_together(1, _all, [{"block_samples": 5, "momentum": 0.0}])[0]
    plain = START
    for step in range(STEPS):
        plain = plain - RATE * slope(plain, 0, step)
    np.testing.assert_allclose(weights, plain, rtol=1e-13)
    assert sent == 0
    assert block_momentum(5, None, 1) == 0


def _early(workers: Workers) -> Any:
    return _descend(workers, {"block_samples": 8, "momentum": 0.5, "after_samples": 20}, range(STEPS))


def test_together_at_first() -> None:
    """Until `after_samples` every step is of the whole batch; then the paper's formulas from where that led."""
    start = START
    for step in range(10):
        start = start - RATE * np.mean([slope(start, rank, step) for rank in range(2)], axis=0)
    model, move, locals_ = start, np.zeros(3), [start, start]
    for step in range(10, STEPS):
        locals_ = [w - RATE * slope(w, rank, step) for rank, w in enumerate(locals_)]
        if (step - 9) % 4 == 0 or step == STEPS - 1:
            move = 0.5 * move + np.mean(locals_, axis=0) - start
            model = model + move
            start = model + 0.5 * move
            locals_ = [start, start]
    for weights, _, _, _, apart in run_together(2, _early):
        np.testing.assert_allclose(weights, start, rtol=1e-12)
        assert apart == STEPS - 10


def _halves(workers: Workers) -> Any:
    case = {"block_samples": 8, "momentum": 0.5}
    half = _descend(workers, case, range(12))
    return _descend(workers, case, range(12, STEPS), half)[0], _descend(workers, case, range(STEPS))[0]


def test_going_on_from_a_checkpoint() -> None:
    for resumed, whole in run_together(2, _halves):
        np.testing.assert_array_equal(resumed, whole)


def _with_momentum(workers: Workers) -> Any:
    """The weights where local momentum begins anew, where it goes on, and where that does across a checkpoint."""
    case = {"block_samples": 8, "momentum": 0.5}
    anew, on = (_descend(workers, case | {"resets": resets}, range(STEPS), beta=0.8)[0] for resets in (True, False))
    half = _descend(workers, case | {"resets": False}, range(12), beta=0.8)
    return anew, on, _descend(workers, case | {"resets": False}, range(12, STEPS), half, 0.8)[0]


def test_local_momentum() -> None:
    expected = {}
    for resets in (True, False):
        model, start, move = START, START, np.zeros(3)
        locals_, speeds = [start, start], [np.zeros(3), np.zeros(3)]
        for step in range(STEPS):
            slopes = [slope(w, rank, step) for rank, w in enumerate(locals_)]
            speeds = [0.8 * v + RATE * g for v, g in zip(speeds, slopes, strict=True)]
            locals_ = [w - v for w, v in zip(locals_, speeds, strict=True)]
            if (step + 1) % 4 == 0:
                move = 0.5 * move + np.mean(locals_, axis=0) - start
                model = model + move
                start = model + 0.5 * move
                locals_ = [start, start]
                speeds = [np.zeros(3), np.zeros(3)] if resets else speeds
        expected[resets] = start
    assert np.abs(expected[True] - expected[False]).max() > 0.1
    for anew, on, resumed in run_together(2, _with_momentum):
        np.testing.assert_allclose(anew, expected[True], rtol=1e-12)
        np.testing.assert_allclose(on, expected[False], rtol=1e-12)
        np.testing.assert_array_equal(resumed, on)


def _statistics(workers: Workers) -> Any:
    before, after = _Point(), _Point()
    for point in (before, after):
        point.register_buffer("mean", torch.zeros(1))
    early, late = (BlockMomentum(point, workers, 8, 0.5, after_samples=20) for point in (before, after))
    before.mean.fill_(workers.rank)
    late.load_state(early.state())
    return after.mean.item()


def test_each_worker_goes_on_with_its_own_statistics() -> None:
    """They are not the same on all workers as long as gradients are added up."""
    assert run_together(2, _statistics) == [0, 1]


def test_momentum_of_a_time_constant() -> None:
    """CNTK: a momentum h at each block of B samples is a time constant of -B / ln(h)."""
    assert block_momentum(3200, -3200 / math.log(0.875), 8) == pytest.approx(0.875)
    assert block_momentum(3200, 0, 8) == 0


def test_refused() -> None:
    for wrong in ({"block_samples": 0, "momentum": 0.5}, {"block_samples": 9, "momentum": 1.0}):
        with pytest.raises(UsageError, match="a block needs a sample for each"):
            BlockMomentum(_Point(), SINGLE_PROCESS, **wrong)
    with pytest.raises(UsageError, match=r"learning rate above 0, got 9, 0\.5 and 0"):
        BlockMomentum(_Point(), SINGLE_PROCESS, 9, 0.5, learning_rate=0)


def _foreign(workers: Workers) -> str:
    try:
        BlockMomentum(_Point(), workers, 9, 0.5).load_state({"moves.0": torch.zeros(2)})
    except ModelError as error:
        return str(error)
    return ""


def test_foreign_state() -> None:
    assert run_together(1, _foreign) == ["the checkpoint's block momentum does not fit parameter 0 of this network"]
