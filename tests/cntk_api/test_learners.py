"""Learners take the steps of the real CNTK 2.7: tests/golden/cntk/learners.json holds its weights after 1, 5 and 20."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convolve.cntk as C

REAL = json.loads((Path(__file__).parents[1] / "golden/cntk/learners.json").read_text())
SCHEDULE, PER_SAMPLE = C.learning_parameter_schedule, C.learning_parameter_schedule_per_sample
MEAN: dict[str, Any] = {"use_mean_gradient": True}
FACTORS = (0.9, 1.2, 0.7, 10, 1e-3)
LEARNERS: dict[str, Callable[[Any], C.learners.Learner]] = {
    "rmsprop": lambda p: C.rmsprop(p, SCHEDULE(0.05), *FACTORS),
    "rmsprop_plain": lambda p: C.rmsprop(p, SCHEDULE(0.05), *FACTORS, False),
    "rmsprop_per_sample": lambda p: C.rmsprop(
        p, SCHEDULE(0.01, 1), 0.95, 1.5, 0.5, 2, 1e-2, False, l2_regularization_weight=0.01
    ),
    "rmsprop_mean": lambda p: C.rmsprop(p, SCHEDULE(0.05), *FACTORS, **MEAN),
    "adagrad": lambda p: C.adagrad(p, SCHEDULE(0.1)),
    "adagrad_plain": lambda p: C.adagrad(p, SCHEDULE(0.1), need_ave_multiplier=False),
    "adagrad_per_sample": lambda p: C.adagrad(p, SCHEDULE(0.01, 1)),
    "adagrad_mean": lambda p: C.adagrad(p, SCHEDULE(0.1), **MEAN),
    "adagrad_zero": lambda p: C.adagrad(p, [0.1, 0, 0.05], epoch_size=16),
    "adamax": lambda p: C.adam(p, SCHEDULE(0.05), 0.9, variance_momentum=0.99, adamax=True),
    "adamax_plain_gain": lambda p: C.adam(
        p, SCHEDULE(0.05, 4), 0.9, unit_gain=False, variance_momentum=0.99, adamax=True, epsilon=1e-3
    ),
    "adam_mean": lambda p: C.adam(p, SCHEDULE(0.05), 0.9, variance_momentum=0.99, **MEAN),
    "adam_mb": lambda p: C.adam(p, 0.05, 0.9, variance_momentum=0.99, minibatch_size=8),
    "adam_vm_list": lambda p: C.adam(
        p, SCHEDULE(0.05), [0.9, 0.5], variance_momentum=[0.99, 0.9], epoch_size=16
    ),
    "sgd_mean": lambda p: C.sgd(
        p, SCHEDULE(0.05), l2_regularization_weight=0.1, l1_regularization_weight=0.05, **MEAN
    ),
    "sgd_mean_ref": lambda p: C.sgd(p, SCHEDULE(0.05, 2), **MEAN),
    "sgd_ignore_ref": lambda p: C.sgd(p, SCHEDULE(0.05, 2), minibatch_size=C.learners.IGNORE),
    "momentum_mean": lambda p: C.momentum_sgd(
        p, SCHEDULE(0.05), C.momentum_schedule(0.9, minibatch_size=2), **MEAN,
        gradient_clipping_threshold_per_sample=0.5,
    ),
    "momentum_mean_tc": lambda p: C.momentum_sgd(
        p, PER_SAMPLE(0.05), C.momentum_as_time_constant_schedule(20), **MEAN
    ),
    "nesterov_mean": lambda p: C.nesterov(p, SCHEDULE(0.05), 0.9, **MEAN),
    "adadelta_mean": lambda p: C.adadelta(p, SCHEDULE(0.5), **MEAN),
}  # fmt: skip


@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_takes_the_steps_of_cntks(name: str) -> None:
    draw = np.random.RandomState(3)
    w = C.parameter((2, 3), init=draw.normal(size=(2, 3)).astype(np.float32))
    b = C.parameter(3, init=draw.normal(size=3).astype(np.float32))
    x, y = C.input_variable(2), C.input_variable(3)
    trainer = C.Trainer(None, (C.squared_error(C.times(x, w) + b, y), None), [LEARNERS[name]([w, b])])
    found = {}
    for step in range(1, 21):
        n = (4, 4, 5, 3)[(step - 1) % 4]
        images, labels = draw.normal(size=(n, 2)), draw.normal(size=(n, 3))
        trainer.train_minibatch({x: images.astype(np.float32), y: labels.astype(np.float32)})
        found[str(step)] = np.concatenate([w.value.ravel(), b.value])
    for step, wanted in REAL[name].items():
        assert np.allclose(found[step], wanted, rtol=1e-5, atol=1e-6), step


def test_gaussian_noise_is_cntks() -> None:
    C.cntk_py.reset_random_seed(1)
    w, zeros = C.parameter(2, init=0), np.zeros(2, np.float32)
    rates = PER_SAMPLE([0.5, 0.25], epoch_size=4)
    learner = C.sgd([w], 0.1, gaussian_noise_injection_std_dev=rates)
    seen = [w.value]
    for _ in range(3):
        learner.update({w: zeros}, 4)
        seen.append(w.value)
    wanted = [[-0.11385107, -0.1296885], [-0.43333626, 0.38705993], [0.1745398, 0.03691268]]
    assert np.allclose(np.diff(seen, axis=0), wanted, atol=2e-7)


def test_every_learner_takes_a_seed() -> None:
    C.cntk_py.reset_random_seed(1)
    C.sgd([C.parameter(2, init=0)], 0.1)
    drawn = C.parameter(2, init=C.initializer.uniform(1.0))
    assert np.allclose(drawn.value, [0.80720806, 0.7004723], atol=1e-7)


def test_other_rates_begin_now_and_are_meant_for_what_the_first_were_meant_for() -> None:
    w = C.parameter(1, init=0)
    learner, ones = C.sgd([w], PER_SAMPLE(0.1)), np.ones(1, np.float32)
    learner.update({w: ones}, 4)
    learner.reset_learning_rate(SCHEDULE([0.5, 0.25], epoch_size=4))
    assert learner.learning_rate() == 0.5
    learner.update({w: ones}, 4)
    assert np.allclose(w.value, -0.6) and learner.learning_rate() == 0.25
    with pytest.raises(ValueError, match="must be a training schedule"):
        learner.reset_learning_rate(0.5)


def test_a_writer_hears_of_rates_once() -> None:
    class Writer(C.cntk_py.ProgressWriter):
        def __init__(self) -> None:
            super().__init__(1, 0, 1, 0, 2, 0)
            self.lines: list[tuple[str, float]] = []

        def write(self, key: str, value: float) -> None:
            self.lines.append((key, value))

    x, y, writer = C.input_variable(2), C.input_variable(1), Writer()
    z = C.times(x, C.parameter((2, 1)))
    rates, momenta = PER_SAMPLE([0.3, 0.2], epoch_size=2), C.momentum_schedule([0.6, 0.7], epoch_size=2)
    trainer = C.Trainer(z, (C.squared_error(z, y), None), [C.momentum_sgd(z.parameters, rates, momenta)], [writer])
    for _ in range(3):
        trainer.train_minibatch({x: [[1, 2.0], [2, 3]], y: [[1], [2]]})
    rate, momentum = "Learning rate per 1 samples", "Momentum per minibatch"
    assert writer.lines == [(rate, 0.3), (momentum, 0.6), (rate, 0.2), (momentum, 0.7)]


@pytest.mark.parametrize("name", ["rmsprop", "adamax", "noise"])
def test_a_learner_goes_on_from_its_checkpoint(name: str) -> None:
    """Its state and the seed of its next noise."""

    def made() -> tuple[C.Parameter, C.learners.Learner]:
        w = C.parameter((2, 2), init=1)
        if name == "noise":
            return w, C.momentum_sgd([w], 0.1, 0.9, gaussian_noise_injection_std_dev=0.5)
        return w, LEARNERS[name]([w])

    (w, learner), (again, other) = made(), made()
    draw = np.random.default_rng(0)
    for _ in range(3):
        learner.update({w: draw.normal(size=(2, 2))}, 3)
    other.restore_from_checkpoint(learner.create_checkpoint())
    again.value = w.value
    gradient = draw.normal(size=(2, 2))
    learner.update({w: gradient}, 3)
    other.update({again: gradient}, 3)
    assert np.array_equal(w.value, again.value)


def test_what_is_not_exact_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="fsadagrad on the mean gradient"):
        C.fsadagrad([C.parameter(2)], 0.1, 0.9, use_mean_gradient=True)
