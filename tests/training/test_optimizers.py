"""Every optimizer against the weights that the real CNTK 2.7 had after each minibatch (tests/golden/train)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import nn
from torch.nn import functional as F

from convolve.errors import ModelError, UsageError
from convolve.specs.optimizer import OptimizerSpec
from convolve.specs.schedule import ScheduleSpec
from convolve.training.optimizer_state import load_state_tensors, state_tensors
from convolve.training.optimizers import (
    OPTIMIZERS,
    build_optimizer,
    take_step,
)
from convolve.training.schedule import StepSize, step_size

GOLDEN = Path(__file__).parents[1] / "golden" / "train"
SAMPLES_PER_EPOCH = 52

MEAN_HALF = ScheduleSpec(learning_rates=(0.5,))
MEAN_TWENTIETH = ScheduleSpec(learning_rates=(0.05,))
PER_SAMPLE = ScheduleSpec(learning_rates=(0.0625,), reference_batch_size=1)
PER_8 = ScheduleSpec(learning_rates=(0.5,), reference_batch_size=8)
DROP = ScheduleSpec(learning_rates=(0.5, 0.5, 0.05), reference_batch_size=8, period_samples=16)
SGD = OptimizerSpec(name="sgd")
MOMENTUM = OptimizerSpec(name="momentum_sgd", momentum=(0.9,))
CLASSIC = replace(MOMENTUM, unit_gain=False)
NESTEROV = replace(MOMENTUM, name="nesterov")
TIME_CONSTANT = replace(MOMENTUM, momentum=(75.93,), momentum_unit="time_constant_samples")
MOMENTUM_PER_SAMPLE = replace(MOMENTUM, momentum=(0.9 ** (1 / 8),), momentum_unit="per_reference_batch")
MOMENTUM_PER_8 = replace(MOMENTUM, momentum_unit="per_reference_batch", momentum_reference_batch_size=8)
ADAM = replace(MOMENTUM, name="adam")

# Case of index.json (which holds the call of CNTK's Python API) -> the same in our words.
CASES = {
    "sgd_mb": (SGD, MEAN_HALF),
    "sgd_ps": (SGD, PER_SAMPLE),
    "sgd_ref8": (SGD, PER_8),
    "mom_default_gain": (MOMENTUM, MEAN_HALF),
    "mom_unit_mb": (MOMENTUM, MEAN_HALF),
    "mom_unit_ps": (MOMENTUM_PER_SAMPLE, PER_SAMPLE),
    "mom_unit_ps_tc": (TIME_CONSTANT, PER_SAMPLE),
    "mom_unit_lrdrop": (MOMENTUM_PER_8, DROP),
    "mom_ref8_unit": (MOMENTUM_PER_8, PER_8),
    "mom_ref8_nounit": (replace(MOMENTUM_PER_8, unit_gain=False), replace(PER_8, learning_rates=(0.05,))),
    "mom_nounit_mb": (CLASSIC, MEAN_TWENTIETH),
    "mom_nounit_ps_tc": (replace(TIME_CONSTANT, unit_gain=False), replace(PER_SAMPLE, learning_rates=(0.00625,))),
    "nesterov_unit": (NESTEROV, MEAN_HALF),
    "nesterov_nounit": (replace(NESTEROV, unit_gain=False), MEAN_TWENTIETH),
    "l2_mb": (replace(MOMENTUM, l2=0.1), MEAN_HALF),
    "l2_ps": (replace(MOMENTUM_PER_SAMPLE, l2=0.1), PER_SAMPLE),
    "l1_mb": (replace(SGD, l1=0.05), MEAN_HALF),
    "l1_ps": (replace(SGD, l1=0.05), PER_SAMPLE),
    "clip_trunc_mb": (replace(SGD, clip_per_sample=0.05), MEAN_HALF),
    "clip_trunc_ps": (replace(SGD, clip_per_sample=0.05), PER_SAMPLE),
    "clip_norm_mb": (replace(SGD, clip_per_sample=0.05, clip_by="norm"), MEAN_HALF),
    "adagrad": (replace(SGD, name="adagrad"), ScheduleSpec(learning_rates=(0.1,))),
    "adadelta": (replace(SGD, name="adadelta"), ScheduleSpec(learning_rates=(1.0,))),
    "adam_unit": (ADAM, MEAN_TWENTIETH),
    "adam_nounit": (
        replace(ADAM, unit_gain=False, variance_momentum=0.999, variance_momentum_unit="per_minibatch"),
        MEAN_TWENTIETH,
    ),
    "fsadagrad": (replace(ADAM, name="fsadagrad"), MEAN_TWENTIETH),
}
ELSEWHERE = {"convnet", "bn_train"}  # in test_batch_norm.py
LEFT_OUT = {"rmsprop", "dropout_train"}  # recorded by CNTK, not optimizers that convolve has


class Perceptron:
    """relu(x W1 + b1) W2 + b2, as the traces were made with."""

    names = ("W1", "b1", "W2", "b2")

    def __init__(self) -> None:
        with np.load(GOLDEN / "data.npz") as data:
            self.inputs, self.labels = torch.tensor(data["X"]), torch.tensor(data["Y"])
            self.parameters = [nn.Parameter(torch.tensor(data[name])) for name in self.names]

    def loss(self, start: int, end: int) -> torch.Tensor:
        w1, b1, w2, b2 = self.parameters
        logits_NK = (self.inputs[start:end] @ w1 + b1).relu() @ w2 + b2
        return F.cross_entropy(logits_NK, self.labels[start:end])


def train(
    case: str, perceptron: Perceptron, optimizer: torch.optim.Optimizer, first: int = 0, last: int | None = None
) -> dict:
    """Minibatches [first, last) of a trace: the losses before, and each weight after every one of them."""
    with np.load(GOLDEN / f"{case}.npz") as trace:
        batches = trace["batches"]
    seen = int(sum(end - start for start, end in batches[:first]))
    history: dict[str, list] = {"loss": [], **{f"hist_{name}": [] for name in perceptron.names}}
    for start, end in batches[first:last].tolist():
        loss = perceptron.loss(start, end)
        loss.backward()
        n = end - start
        take_step(optimizer, step_size(*CASES[case], seen, n, SAMPLES_PER_EPOCH, 1_000), n)
        optimizer.zero_grad()
        seen += n
        history["loss"].append(loss.item())
        for name, weight in zip(perceptron.names, perceptron.parameters, strict=True):
            history[f"hist_{name}"].append(weight.detach().numpy().copy())
    return {name: np.array(values) for name, values in history.items()}


def test_every_trace_is_compared() -> None:
    recorded = json.loads((GOLDEN / "index.json").read_text())
    assert set(CASES) | ELSEWHERE | LEFT_OUT == set(recorded)
    assert {spec.name for spec, _ in CASES.values()} == set(OPTIMIZERS) - {"muon"}  # younger than CNTK


@pytest.mark.parametrize("case", CASES)
def test_optimizer_does_what_cntk_did(case: str) -> None:
    perceptron = Perceptron()
    history = train(case, perceptron, build_optimizer(CASES[case][0], perceptron.parameters))
    with np.load(GOLDEN / f"{case}.npz") as trace:
        for name, ours in history.items():
            for minibatch, (a, b) in enumerate(zip(ours, trace[name], strict=True)):
                error, size = np.abs(a - b).max(), np.abs(b).max()
                assert error <= 1e-5 * size, f"{name} after minibatch {minibatch}: {error:.1e} of {size:.1e}"


@pytest.mark.parametrize("case", ["sgd_mb", "mom_unit_ps", "adagrad", "adadelta", "adam_unit", "fsadagrad"])
def test_saved_state_goes_on_to_the_same_bits(case: str) -> None:
    whole = train(case, straight := Perceptron(), build_optimizer(CASES[case][0], straight.parameters))
    perceptron = Perceptron()
    optimizer = build_optimizer(CASES[case][0], perceptron.parameters)
    train(case, perceptron, optimizer, last=5)
    saved = save(state_tensors(optimizer))  # safetensors, as in a checkpoint
    resumed = build_optimizer(CASES[case][0], perceptron.parameters)
    load_state_tensors(resumed, load(saved))
    rest = train(case, perceptron, resumed, first=5)
    for name, values in rest.items():
        assert np.array_equal(values, whole[name][5:]), name


def test_rate_zero_skips_the_update() -> None:
    perceptron = Perceptron()
    optimizer = build_optimizer(replace(ADAM, l1=0.1, l2=0.1), perceptron.parameters)
    before = [weight.detach().clone() for weight in perceptron.parameters]
    perceptron.loss(0, 8).backward()
    take_step(optimizer, StepSize(lr=0.0, lr_per_sample=0.0, momentum=0.9, variance_momentum=0.9), 8)
    assert all(torch.equal(a, b) for a, b in zip(before, perceptron.parameters, strict=True))
    assert not state_tensors(optimizer)


def stepped(optimizer_spec: OptimizerSpec) -> torch.optim.Optimizer:
    """An optimizer that has taken a step."""
    perceptron = Perceptron()
    optimizer = build_optimizer(optimizer_spec, perceptron.parameters)
    perceptron.loss(0, 8).backward()
    take_step(optimizer, StepSize(0.1, 0.1 / 8, 0.9, 0.9), 8)
    return optimizer


def test_state_is_named_by_slot_and_parameter() -> None:
    assert sorted(state_tensors(stepped(MOMENTUM))) == ["velocity.0", "velocity.1", "velocity.2", "velocity.3"]
    assert {name.partition(".")[0] for name in state_tensors(stepped(ADAM))} == {"mean", "square", "updates"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("velocity.1"), "the optimizer state lacks 'velocity.1'"),
        (lambda state: state.update({"velocity.9": torch.zeros(1)}), "has an unexpected 'velocity.9'"),
        (lambda state: state.update({"velocity.1": torch.zeros(6)}), r"expected torch.float32 \(5,\), got .* \(6,\)"),
        (lambda state: state.update({"velocity.1": torch.zeros(5, dtype=torch.float64)}), "got torch.float64"),
    ],
)
def test_foreign_state_is_refused_and_nothing_changes(change, message) -> None:
    state = {name: tensor + 1 for name, tensor in state_tensors(stepped(MOMENTUM)).items()}
    change(state)
    optimizer = build_optimizer(MOMENTUM, Perceptron().parameters)
    with pytest.raises(ModelError, match=message):
        load_state_tensors(optimizer, state)
    assert not state_tensors(optimizer)


def test_unknown_optimizer_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown optimizer 'nesterow'; did you mean 'nesterov'"):
        OptimizerSpec(name="nesterow")


def test_parameter_without_gradient_is_an_error() -> None:
    optimizer = build_optimizer(SGD, Perceptron().parameters)
    with pytest.raises(UsageError, match=r"shape \(4, 5\) has no gradient"):
        take_step(optimizer, StepSize(1.0, 1.0, 0.0, 0.0), 1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("case", ["clip_norm_mb", "l1_mb", "mom_unit_mb", "adadelta", "adam_unit", "fsadagrad"])
def test_cuda_agrees_with_cpu(case: str) -> None:
    here, there = Perceptron(), Perceptron()
    there.inputs, there.labels = there.inputs.cuda(), there.labels.cuda()
    there.parameters = [nn.Parameter(weight.detach().cuda()) for weight in there.parameters]
    optimizers = [build_optimizer(CASES[case][0], perceptron.parameters) for perceptron in (here, there)]
    for seen in range(0, 40, 8):
        size = step_size(*CASES[case], seen, 8, SAMPLES_PER_EPOCH, 1_000)
        for perceptron, optimizer in zip((here, there), optimizers, strict=True):
            perceptron.loss(seen, seen + 8).backward()
            take_step(optimizer, size, 8)
            optimizer.zero_grad()
    for a, b in zip(here.parameters, there.parameters, strict=True):
        torch.testing.assert_close(a, b.cpu(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("penalty", ["l1", "l2"])
def test_penalties_leave_parameters_without_decay_alone(penalty: str) -> None:
    """Without a gradient, a parameter without decay stays where it is; the other one shrinks."""
    bound, free = (nn.Parameter(torch.full((2,), 2.0)) for _ in range(2))
    spec = replace(SGD, **{penalty: 0.1})
    optimizer = build_optimizer(spec, [bound, free], no_decay=[free])
    for parameter in (bound, free):
        parameter.grad = torch.zeros(2)
    take_step(optimizer, StepSize(lr=0.5, lr_per_sample=0.5, momentum=0.0, variance_momentum=0.0), 1)
    assert free.tolist() == [2.0, 2.0]
    assert bound.tolist() == pytest.approx([2 - 0.5 * 0.1 * (2 if penalty == "l2" else 1)] * 2)


def test_muon_turns_every_singular_value_into_nearly_one():
    """Against the definition: the quintic polynomial acts on the singular values alone (torch's SVD is the judge)."""
    generator = torch.Generator().manual_seed(3)
    filters = nn.Parameter(torch.randn(6, 3, 2, 2, generator=generator))
    wide = nn.Parameter(torch.randn(4, 9, generator=generator))
    bias = nn.Parameter(torch.randn(5, generator=generator))
    parameters = [filters, wide, bias]
    spec = OptimizerSpec(name="muon", momentum=(0.6,), unit_gain=False, bias_lr=7.0)
    optimizer = build_optimizer(spec, parameters)
    velocity = [torch.zeros_like(p) for p in parameters]
    for _ in range(3):
        before = [p.detach().clone() for p in parameters]
        for p in parameters:
            p.grad = torch.randn(p.shape, generator=generator)
        for v, p in zip(velocity, parameters, strict=True):
            v.mul_(0.6).add_(p.grad)
        directions = [p.grad + 0.6 * v for v, p in zip(velocity, parameters, strict=True)]
        take_step(optimizer, StepSize(0.2, 0.2 / 8, 0.6, 0.0), 8)
        torch.testing.assert_close(bias.detach(), before[2] - 7.0 * 0.2 * directions[2])
        for weight, old, direction in zip(parameters[:2], before, directions, strict=False):
            kept = old * (len(old) ** 0.5 / old.norm())
            torch.testing.assert_close(weight.detach(), kept - 0.2 * _muon_by_svd(direction), atol=1e-4, rtol=1e-4)


def _muon_by_svd(direction):
    left, values, right = torch.linalg.svd(direction.flatten(1), full_matrices=False)
    values = values / values.norm()
    for _ in range(3):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    assert values.min() > 0.3
    assert values.max() < 1.3
    return (left @ values.diag() @ right).reshape(direction.shape)


# Those of torch.optim that take parameters of any shape; torch.muon takes matrices alone.
TORCH = [
    "adafactor",
    "adadelta",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "asgd",
    "nadam",
    "radam",
    "rmsprop",
    "rprop",
    "sgd",
]


@pytest.mark.parametrize("name", TORCH)
def test_an_optimizer_of_torch_does_what_torch_does_and_goes_on_to_the_same_bits(name: str) -> None:
    ours, theirs = Perceptron(), Perceptron()
    spec = OptimizerSpec(name=f"torch.{name}")
    optimizer = build_optimizer(spec, ours.parameters)
    reference = type(optimizer)(theirs.parameters, lr=0.01)
    assert type(optimizer).__name__.lower() == name
    saved = b""
    for step in range(6):
        for perceptron in (ours, theirs):
            perceptron.loss(8 * step, 8 * step + 8).backward()
        if step == 3:  # resumed from a checkpoint
            optimizer = build_optimizer(spec, ours.parameters)
            load_state_tensors(optimizer, load(saved))
        take_step(optimizer, StepSize(0.01, 0.01 / 8, 0.9, 0.9), 8)
        reference.step()
        for each in (optimizer, reference):
            each.zero_grad()
        saved = save(state_tensors(optimizer))
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters, theirs.parameters, strict=True))


def test_arguments_of_torch_are_torchs_own() -> None:
    bound, free = (nn.Parameter(torch.ones(2)) for _ in range(2))
    spec = OptimizerSpec(name="torch.AdamW", arguments={"betas": "0.8:0.95", "weight_decay": "0.1", "amsgrad": "true"})
    optimizer = build_optimizer(spec, [bound, free], no_decay=[free])
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert optimizer.defaults["betas"] == (0.8, 0.95) and optimizer.defaults["amsgrad"] is True
    with pytest.raises(UsageError, match=r"optimizer.name=torch.sgd with .*: Invalid momentum value: -1"):
        build_optimizer(OptimizerSpec(name="torch.sgd", arguments={"momentum": -1}), [bound])
    with pytest.raises(UsageError, match=r"torch.muon .* only supports 2D parameters"):
        build_optimizer(OptimizerSpec(name="torch.muon"), [bound])
