"""Step sizes against CNTK's documentation, and the counts of other toolkits against torch.optim itself."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from convolve.recipe import Recipe
from convolve.specs.data import DataSpec
from convolve.specs.model import ModelSpec
from convolve.specs.optimizer import OptimizerSpec
from convolve.specs.run import RunSpec
from convolve.specs.schedule import ScheduleSpec
from convolve.training.optimizers import build_optimizer, take_step
from convolve.training.schedule import learning_rate, momentum, schedule_rows, step_size, value_at

# ConvNet_MNIST of CNTK 2.7 at minibatch size 64.
MNIST_SCHEDULE = ScheduleSpec(learning_rates=(0.001,) * 10 + (0.0005,) * 10 + (0.0001,), reference_batch_size=1)
MNIST_OPTIMIZER = OptimizerSpec(momentum=(0.0,) * 5 + (1024.0,), momentum_unit="time_constant_samples")


def recipe(optimizer: OptimizerSpec, schedule: ScheduleSpec, epochs: int, batch_size: int) -> Recipe:
    run = RunSpec(epochs=epochs, global_batch_size=batch_size)
    return Recipe("test", DataSpec(), ModelSpec(), optimizer, schedule, run)


def test_steps_change_at_the_period_and_the_last_one_holds() -> None:
    steps = (0.5, 0.4, 0.05)
    assert [value_at(steps, seen, 16) for seen in (0, 15, 16, 31, 32, 1000)] == [0.5, 0.5, 0.4, 0.4, 0.05, 0.05]


def test_steps_are_per_epoch_unless_a_period_is_given() -> None:
    by_epoch = ScheduleSpec(learning_rates=(1.0, 0.5))
    by_samples = replace(by_epoch, period_samples=30)
    assert [learning_rate(by_epoch, seen, 100, 1000) for seen in (0, 99, 100, 900)] == [1.0, 1.0, 0.5, 0.5]
    assert [learning_rate(by_samples, seen, 100, 1000) for seen in (0, 29, 30, 99)] == [1.0, 1.0, 0.5, 0.5]


def test_momentum_steps_follow_the_same_period() -> None:
    optimizer, schedule = OptimizerSpec(momentum=(0.0, 0.9)), ScheduleSpec(period_samples=30)
    assert [momentum(optimizer, schedule, seen, 10, 100) for seen in (0, 29, 30, 99)] == [0.0, 0.0, 0.9, 0.9]


def test_mnist_at_both_ends_of_an_epoch() -> None:
    """The values of reference.md 1.4; 60,000 samples leave a last batch of 32."""
    full = step_size(MNIST_OPTIMIZER, MNIST_SCHEDULE, 5 * 60000, 64, 60000, 40 * 60000)
    last = step_size(MNIST_OPTIMIZER, MNIST_SCHEDULE, 6 * 60000 - 32, 32, 60000, 40 * 60000)
    assert (full.lr, full.lr_per_sample) == pytest.approx((0.064, 0.001))
    assert (last.lr, last.lr_per_sample) == pytest.approx((0.032, 0.001))
    assert full.momentum == pytest.approx(0.9394, abs=5e-5)
    assert last.momentum == pytest.approx(math.sqrt(full.momentum))
    assert step_size(MNIST_OPTIMIZER, MNIST_SCHEDULE, 0, 64, 60000, 40 * 60000).momentum == 0.0


def test_rate_on_the_mean_gradient_is_the_same_for_a_short_batch() -> None:
    size = step_size(OptimizerSpec(), ScheduleSpec(learning_rates=(0.1,)), 0, 32, 100, 100)
    assert (size.lr, size.lr_per_sample, size.momentum) == pytest.approx((0.1, 0.1 / 32, 0.9))


def test_variance_momentum_units() -> None:
    per_sample = OptimizerSpec(variance_momentum=0.99)
    per_minibatch = replace(per_sample, variance_momentum_unit="per_minibatch")
    assert step_size(per_sample, ScheduleSpec(), 0, 8, 100, 100).variance_momentum == pytest.approx(0.99**8)
    assert step_size(per_minibatch, ScheduleSpec(), 0, 8, 100, 100).variance_momentum == 0.99


@pytest.mark.parametrize(
    ("kind", "rates"),
    [
        ("one_cycle", [0.0, 1.0, 2.0, 2 - 1.8 / 4, 2 - 1.8 / 2, 0.2, 0.2]),
        ("cosine", [0.0, 1.0, 2.0, 1.1 + 0.9 * math.sqrt(0.5), 1.1, 0.2, 0.2]),
    ],
)
def test_warm_up_and_fall(kind, rates) -> None:
    schedule = ScheduleSpec(kind=kind, learning_rates=(2.0,), warmup_fraction=0.2, final_fraction=0.1)
    at = [0, 100, 200, 400, 600, 1000, 2000]
    assert [learning_rate(schedule, seen, 50, 1000) for seen in at] == pytest.approx(rates)


def test_cosine_is_torchs() -> None:
    schedule = ScheduleSpec(kind="cosine", learning_rates=(0.3,), final_fraction=0.25)
    sgd = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, T_max=20, eta_min=0.075)
    for step in range(20):
        assert learning_rate(schedule, step * 50, 100, 1000) == pytest.approx(sgd.param_groups[0]["lr"])
        sgd.step()
        reference.step()


@pytest.mark.parametrize("warmup", [0.0, 1.0])
def test_all_or_no_warm_up(warmup: float) -> None:
    schedule = ScheduleSpec(kind="one_cycle", learning_rates=(2.0,), warmup_fraction=warmup)
    assert learning_rate(schedule, 0, 50, 100) == (0.0 if warmup else 2.0)
    assert learning_rate(schedule, 100, 50, 100) == (2.0 if warmup else 0.0)


def test_rows_of_mnist() -> None:
    rows = schedule_rows(recipe(MNIST_OPTIMIZER, MNIST_SCHEDULE, 40, 64), 60000)
    assert [(row.from_epoch, row.to_epoch) for row in rows] == [(0, 5), (5, 10), (10, 20), (20, 40)]
    assert [row.cntk_lr_per_sample for row in rows] == pytest.approx([0.001, 0.001, 0.0005, 0.0001])
    assert [row.cntk_momentum_time_constant_samples for row in rows] == pytest.approx([0, 1024, 1024, 1024])
    assert all(row.cntk_unit_gain for row in rows)
    beta = math.exp(-64 / 1024)
    assert [row.pytorch_momentum for row in rows] == pytest.approx([0, beta, beta, beta])
    assert [row.pytorch_lr for row in rows] == pytest.approx([0.064, *(r * (1 - beta) for r in (0.064, 0.032, 0.0064))])
    assert [row.caffe_base_lr for row in rows] == [row.pytorch_lr for row in rows]


def test_rows_of_alexnet_meet_caffes_solver() -> None:
    """CNTK's .1 per minibatch of 256 with unit gain is BVLC Caffe's base_lr .01, momentum .9, weight_decay .0005."""
    optimizer = OptimizerSpec(momentum=(0.9,), l2=0.0005)
    schedule = ScheduleSpec(learning_rates=(0.1,) * 25 + (0.01,), reference_batch_size=256)
    first, second = schedule_rows(recipe(optimizer, schedule, 112, 256), 1281167)
    assert (first.caffe_base_lr, first.caffe_momentum, first.caffe_weight_decay) == pytest.approx((0.01, 0.9, 0.0005))
    assert (second.from_epoch, second.to_epoch, second.caffe_base_lr) == pytest.approx((25, 112, 0.001))
    eta, n, mu = first.pytorch_lr, 256, first.pytorch_momentum  # CNTK's documented way back
    assert first.cntk_lr_per_sample == pytest.approx(eta / n / (1 - mu))
    assert first.cntk_momentum_time_constant_samples == pytest.approx(-n / math.log(mu))


def test_a_run_cut_short_shows_what_it_trains() -> None:
    rows = schedule_rows(recipe(MNIST_OPTIMIZER, MNIST_SCHEDULE, 7, 64), 60000)
    assert [(row.from_epoch, row.to_epoch) for row in rows] == [(0, 5), (5, 7)]


def test_rows_by_samples_have_fractions_of_epochs() -> None:
    schedule = ScheduleSpec(learning_rates=(1.0, 1.0, 0.1), period_samples=30)
    rows = schedule_rows(recipe(OptimizerSpec(name="sgd"), schedule, 2, 10), 100)
    assert [(row.from_epoch, row.to_epoch, row.pytorch_lr) for row in rows] == [(0, 0.6, 1.0), (0.6, 2, 0.1)]


def test_rows_of_a_continuous_schedule_are_epochs() -> None:
    schedule = ScheduleSpec(kind="one_cycle", learning_rates=(1.0,), warmup_fraction=0.5)
    rows = schedule_rows(recipe(OptimizerSpec(name="sgd"), schedule, 4, 10), 100)
    assert [(row.from_epoch, row.pytorch_lr) for row in rows] == [(0, 0.25), (1, 0.75), (2, 0.75), (3, 0.25)]


@pytest.mark.parametrize("unit_gain", [True, False])
@pytest.mark.parametrize("name", ["sgd", "momentum_sgd", "nesterov", "adagrad", "adadelta", "adam"])
def test_torch_takes_the_same_steps_with_the_numbers_of_the_row(name: str, unit_gain: bool) -> None:
    """Six full batches of random gradients; the epsilons, which differ in place and scale, are made to vanish."""
    batch_size = 16
    optimizer = OptimizerSpec(
        name=name,
        unit_gain=unit_gain,
        l2=0.01,
        epsilon=1e-30,
        variance_momentum=0.99,
        variance_momentum_unit="per_minibatch",
    )
    schedule = ScheduleSpec(learning_rates=(0.03,), reference_batch_size=0)
    (row,) = schedule_rows(recipe(optimizer, schedule, 1, batch_size), 96)
    generator = torch.Generator().manual_seed(0)
    ours = nn.Parameter(torch.randn(50, generator=generator, dtype=torch.float64))
    theirs = nn.Parameter(ours.detach().clone())
    common = {"lr": row.pytorch_lr, "weight_decay": row.pytorch_weight_decay}
    velocity = {"momentum": row.pytorch_momentum, "dampening": row.pytorch_dampening}
    reference = {
        "SGD": lambda: torch.optim.SGD([theirs], **common, **velocity),
        "SGD(nesterov)": lambda: torch.optim.SGD([theirs], **common, **velocity, nesterov=True),
        "Adagrad": lambda: torch.optim.Adagrad([theirs], **common, eps=0),
        "Adadelta": lambda: torch.optim.Adadelta([theirs], **common, rho=0.95, eps=1e-30),
        "Adam": lambda: torch.optim.Adam([theirs], **common, betas=(row.pytorch_momentum, 0.99), eps=0),
    }[row.pytorch_optimizer]()
    cntk = build_optimizer(optimizer, [ours])
    for step in range(6):
        ours.grad = torch.randn(50, generator=generator, dtype=torch.float64)
        theirs.grad = ours.grad.clone()
        take_step(cntk, step_size(optimizer, schedule, step * batch_size, batch_size, 96, 96), batch_size)
        reference.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=0)  # our Adam rounds q to float32
