"""CNTK's random numbers on a processor. tests/golden/cntk holds what the real CNTK 2.7 drew."""

import hashlib
import json
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convolve.cntk as C
from convolve.cntk_random import Draws

GOLDEN = Path(__file__).parents[1] / "golden/cntk"


def test_uniform_and_normal_numbers_are_cntks_bit_for_bit() -> None:
    uniform, normal = (np.load(GOLDEN / name) for name in ("init_u7.npy", "init_n7.npy"))
    assert np.array_equal(Draws(7).uniform(-1, 1, 1000).astype(np.float32), uniform)
    assert np.array_equal(Draws(7).normal(1000).astype(np.float32), normal)


def test_the_tail_of_the_normal_distribution_is_cntks() -> None:
    """Number 3,476 of seed 7 is the first from the tail; CNTK goes on with these four."""
    found = Draws(7).normal(3480)[3475:].astype(np.float32)
    assert np.array_equal(found, np.float32([0.91007954, 3.6698017, -1.2832153, 0.84925383, -0.67147726]))


def test_numbers_in_pieces_are_those_in_one() -> None:
    whole, pieces = Draws(3).normal(5000), Draws(3)
    assert np.array_equal(np.concatenate([pieces.normal(n) for n in (1, 2, 997, 4000)]), whole)


def test_truncated_numbers_are_those_within_two() -> None:
    normal = Draws(7).normal(3000)
    assert np.array_equal(Draws(7).truncated_normal(2500), normal[np.abs(normal) <= 2][:2500])


def test_the_words_are_those_of_the_mersenne_twister() -> None:
    """The ten-thousandth of seed 5489, as the C++ standard has it (rand.predef)."""
    assert next(islice(Draws(5489).stream(), 9999, None)) == 9981545732273789042


def test_parameters_take_their_seeds_in_the_order_in_which_they_are_made() -> None:
    C.cntk_py.reset_random_seed(0)
    first, second = (C.parameter((3,), init=C.uniform(1.0)) for _ in range(2))
    assert np.allclose(second.value, [-0.7322467, -0.7271859, -0.0975702], rtol=1e-6)
    assert np.allclose(first.value, [-0.68041325, 0.9842904, -0.92086196], rtol=1e-6)
    C.cntk_py.set_fixed_random_seed(1)
    fixed = [C.parameter((3,), init=C.uniform(1.0)).value for _ in range(2)]
    assert np.array_equal(fixed[0], second.value) and np.array_equal(fixed[1], second.value)


def test_initial_values_are_scaled_as_cntk_scales_them() -> None:
    shape = (2, 3, 3, 3)
    found = [C.parameter(shape, init=make(seed=7)).value.flat[0] for make in (C.he_normal, C.glorot_normal)]
    found += [C.parameter(shape, init=make(seed=7)).value.flat[0] for make in (C.xavier, C.he_uniform)]
    assert np.allclose(found, [0.32109413, 0.2972754, 0.20770474, 0.29373884], rtol=1e-6)


@pytest.mark.parametrize(
    ("layer", "shape", "make", "seed"),
    [
        ("convnet-cifar10 conv2", (64, 64, 3, 3), partial(C.glorot_uniform, output_rank=-1, filter_rank=2), 4),
        ("convnet-cifar10 fc3", (128, 10), C.glorot_uniform, 11),
        ("alexnet-python fc6", (8, 2, 2, 16), partial(C.normal, 0.005), 8),
    ],
)
def test_how_wide_numbers_spread_is_rounded_as_cntk_rounds_it(layer: str, shape: Any, make: Any, seed: int) -> None:
    network, name = layer.split()
    hashes = json.loads((GOLDEN / "initial_values.json").read_text())[network]["weights"]
    assert hashlib.sha256(C.parameter(shape, init=make(seed=seed)).value.tobytes()).hexdigest() == hashes[name]


@pytest.mark.parametrize(
    ("made", "first", "total"),
    [
        (partial(C.random.uniform, low=0.1, high=0.7), [0.5038389563560486, 0.123096764087677], 197.33079254627228),
        (partial(C.random.normal, mean=0.3, scale=0.7), [-0.2490425407886505, 0.252580851316452], 147.33158886583988),
        (partial(C.random.bernoulli, mean=0.3), [0.0, 0.0], 143.0),
        (partial(C.random.gumbel, loc=0.3, scale=0.7), [0.2219250500202179, 2.566371440887451], 365.5335013202275),
    ],
)
def test_random_operators_give_cntks_numbers(made: Any, first: list[float], total: float) -> None:
    """The first two and the total of 500 that CNTK 2.7 gave for the seed 5. All but gumbel, whose logarithms are
    those of the machine, to the bit."""
    found = np.asarray(made((500,), seed=5).eval())
    tolerance = 1e-6 if made.func is C.random.gumbel else 0
    assert found[:2].tolist() == pytest.approx(first, rel=tolerance, abs=0)
    assert found.astype(np.float64).sum() == pytest.approx(total, rel=max(tolerance, 1e-12))


def test_dropout_masks_are_cntks() -> None:
    x = C.input_variable((3, 4), needs_gradient=True)
    dropped = C.dropout(x, 0.3, seed=7)
    _, values = dropped.forward({x: np.ones((5, 3, 4), np.float32)}, [dropped.output], {dropped.output})
    assert np.array_equal(values[dropped.output], np.load(GOLDEN / "drop7.npy"))


def test_bilinear_filters_are_cntks() -> None:
    found = C.parameter((2, 2, 4, 4), init=C.bilinear(4, 4)).value
    rows = np.float32([[0.0625, 0.1875, 0.1875, 0.0625], [0.1875, 0.5625, 0.5625, 0.1875]])
    assert np.array_equal(found[0, 0], rows[[0, 1, 1, 0]]) and np.array_equal(found[1, 1], found[0, 0])
    assert not found[0, 1].any() and not found[1, 0].any()


def test_each_trainer_draws_its_own_masks_from_the_seed_on() -> None:
    """Losses as CNTK 2.7 printed them: the second trainer begins again, the first one goes on."""
    images = np.random.RandomState(0).rand(6, 4).astype(np.float32)
    labels = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]]
    x, y = C.input_variable(4), C.input_variable(3)
    hidden = C.layers.Dropout(0.4, seed=5)(C.layers.Dense(8, init=C.glorot_uniform(seed=1))(x))
    model = C.layers.Dense(3, init=C.glorot_uniform(seed=2))(hidden)
    loss = C.cross_entropy_with_softmax(model, y)

    def trainer() -> Any:
        return C.Trainer(model, loss, C.sgd(model.parameters, C.learning_parameter_schedule(0.0)))

    def losses(one: Any, count: int) -> list[float]:
        found = []
        for _ in range(count):
            one.train_minibatch({x: images, y: labels})
            found.append(one.previous_minibatch_loss_average)
        return found

    first = trainer()
    assert np.allclose(losses(first, 3), [1.269286, 1.193619, 1.083289], atol=2e-6)
    assert np.allclose(losses(trainer(), 2), [1.269286, 1.193619], atol=2e-6)
    assert np.allclose(losses(first, 1), [1.374714], atol=2e-6)


def test_each_evaluated_function_draws_its_own_numbers() -> None:
    numbers = C.random.uniform((2,), seed=3)
    first, second = numbers.eval(), numbers.eval()
    more = numbers + 1
    assert np.array_equal(more.eval(), first + 1)
    assert np.array_equal(more.eval(), second + 1)
    assert not np.array_equal(numbers.eval(), first)
