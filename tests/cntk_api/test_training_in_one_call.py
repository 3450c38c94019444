"""`criterion.train(...)`, learners of a program's own, rates by sweeps: numbers that the real CNTK 2.7 printed."""

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import convolve.cntk as C
from convolve import atomic
from convolve.cntk import checkpoint
from convolve.cntk.layers import Tensor
from convolve.cntk.train import CheckpointConfig, CrossValidationConfig, DataUnit, TestConfig
from convolve.errors import ConvolveError

Arrays = tuple[NDArray[np.float32], NDArray[np.float32]]


@pytest.fixture
def arrays() -> Arrays:
    rng = np.random.RandomState(0)
    classes = rng.randint(size=250, low=0, high=2)
    points = ((rng.randn(250, 2) + 3) * (classes[:, None] + 1)).astype(np.float32)
    return points, np.eye(2, dtype=np.float32)[classes]


def made() -> tuple[Any, Any]:
    C.cntk_py.reset_random_seed(1)
    model = C.layers.Dense(2)

    @C.Function.with_signature(Tensor[2], Tensor[2])
    def criterion(data: Any, label: Any) -> Any:
        z = model(data)
        return C.cross_entropy_with_softmax(z, label), C.classification_error(z, label)

    return model, criterion


def trained(source: Any, callbacks: Any = (), **options: Any) -> Any:
    model, criterion = made()
    learners = [C.sgd(model.parameters, 0.1)]
    return criterion.train(source, parameter_learners=learners, callbacks=list(callbacks), **options)


def figures(records: Any) -> list[tuple[float, float, int]]:
    return [(float(each.loss), float(each.metric), each.samples) for each in records]


def is_close(found: Any, wanted: Any) -> bool:
    return bool(np.allclose(np.array(figures(found)), np.array(wanted), atol=2e-6))


@pytest.mark.parametrize(
    ("options", "updates", "epochs"),
    [
        (
            {"max_epochs": 3, "epoch_size": 100},  # minibatches are not cut where an epoch ends
            [(1.571791, 0.479167, 96), (0.74357, 0.5, 96), (0.672348, 0.434211, 76)],
            [(1.369358, 0.5, 128), (0.74357, 0.5, 96), (0.672348, 0.434211, 76)],
        ),
        ({"max_samples": 300}, [], [(0.99253, 0.483333, 300)]),
        (
            {"max_samples": 300, "progress_frequency": 64},
            [(1.926586, 0.453125, 64), (0.81213, 0.546875, 64), (0.760471, 0.515625, 64), (0.748413, 0.551724, 58)],
            [(1.926586, 0.453125, 64), (0.81213, 0.546875, 64), (0.760471, 0.515625, 64), (0.72419, 0.5, 90),
             (0.479666, 0.166667, 18)],
        ),
    ],
)  # fmt: skip
def test_summaries_and_updates_are_cntks(arrays: Arrays, options: Any, updates: Any, epochs: Any) -> None:
    found = trained(arrays, minibatch_size=32, **options)
    assert len(found.updates) == len(updates)
    assert not updates or is_close(found.updates, updates)
    assert is_close(found.epoch_summaries, epochs)


def test_it_validates_and_tests_on_arrays(arrays: Arrays, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = arrays
    model, criterion = made()
    validated = []
    validation = CrossValidationConfig(
        (x[:50], y[:50]), frequency=100, minibatch_size=16, criterion=criterion,
        callback=lambda *values: validated.append(values) or True,
    )  # fmt: skip
    test = TestConfig((x[50:150], y[50:150]), minibatch_size=30, criterion=criterion)
    found = criterion.train(
        arrays, minibatch_size=25, max_epochs=2, parameter_learners=[C.sgd(model.parameters, 0.1)],
        callbacks=[C.logging.ProgressPrinter(), validation, test],
    )  # fmt: skip
    assert [(index, round(error, 6), samples, minibatches) for index, error, samples, minibatches in validated] == [
        (0, 0.32, 50, 4), (1, 0.46, 50, 4), (2, 0.4, 50, 4), (3, 0.4, 50, 4), (4, 0.28, 50, 4)
    ]  # fmt: skip
    assert (found.test_summary.metric, found.test_summary.samples) == (pytest.approx(0.39), 100)
    assert "Finished Evaluation [6]: Minibatch[1-4]: metric = 39.00% * 100;" in capsys.readouterr().out


def test_a_validation_stops_the_training(arrays: Arrays) -> None:
    x, y = arrays
    model, criterion = made()
    config = CrossValidationConfig((x, y), frequency=50, criterion=criterion, callback=lambda index, *_: index < 1)
    criterion.train(arrays, minibatch_size=25, parameter_learners=[C.sgd(model.parameters, 0.1)], callbacks=[config])
    assert np.allclose(model.W.value, _after(arrays, 4).W.value)


def _after(arrays: Arrays, minibatches: int) -> Any:
    model, criterion = made()
    criterion.train(
        arrays, minibatch_size=25, max_samples=25 * minibatches, parameter_learners=[C.sgd(model.parameters, 0.1)]
    )
    return model


def test_it_goes_on_from_its_checkpoint(arrays: Arrays, tmp_path: Path) -> None:
    config = CheckpointConfig(str(tmp_path / "m"), frequency=100, preserve_all=True)
    trained(arrays, [config], minibatch_size=25, max_epochs=2)
    assert {path.name for path in tmp_path.glob("*.ckp")} == {"m.ckp", *(f"m{at}.ckp" for at in range(5))}
    found = trained(arrays, [config], minibatch_size=25, max_epochs=3)
    assert is_close(found.epoch_summaries, [(0.606791, 0.356, 250)])
    assert {path.name for path in tmp_path.glob("*.ckp")} == {"m.ckp", *(f"m{at}.ckp" for at in range(8))}


@pytest.mark.parametrize("failing", range(8))
def test_model_and_state_of_a_checkpoint_are_of_one_moment(
    arrays: Arrays, failing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of the first two checkpoints' files does not get its name, the training goes on from the last that is
    complete under another one."""
    trained(arrays, [CheckpointConfig(str(tmp_path / "whole"), frequency=100)], minibatch_size=25)
    config, renamed = CheckpointConfig(str(tmp_path / "m"), frequency=100), []

    def put(made: Path, final: Path) -> None:
        renamed.append(final.name)
        if len(renamed) == failing + 1:
            raise OSError(errno.EIO, "cannot be renamed")
        made.replace(final)

    with monkeypatch.context() as patched, pytest.raises(ConvolveError, match="cannot be renamed"):
        for module in (atomic, checkpoint):
            patched.setattr(module, "put", put)
        trained(arrays, [config], minibatch_size=25)
    found = trained(arrays, [config], minibatch_size=25)
    assert [each.samples for each in found.epoch_summaries] == [250 - 100 * ((failing + 2) // 4)]
    assert (tmp_path / "m.ckp").read_bytes() == (tmp_path / "whole.ckp").read_bytes()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["m", "m.ckp", "whole", "whole.ckp"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_samples": 300, "max_epochs": 2}, "mutually exclusive"),
        ({"minibatch_size": None}, "minibatch_size must not be None"),
    ],
)
def test_what_does_not_go_together_is_refused(arrays: Arrays, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trained(arrays, **options)


def test_arrays_that_do_not_fit_are_refused(arrays: Arrays) -> None:
    with pytest.raises(ValueError, match="pass a tuple of 2 numpy or scipy arrays"):
        trained(arrays[:1])
    with pytest.raises(ValueError, match="criterion must be given"):
        TestConfig(arrays)
    source = C.io.MinibatchSourceFromData({"a": arrays[0], "b": arrays[1]})
    with pytest.raises(ValueError, match="Mapping between input vars and streams should not be empty"):
        trained(source, epoch_size=100)
    with pytest.raises(ValueError, match="epoch_size must be specified"):
        trained(source, streams=(source.streams.a, source.streams.b))
    with pytest.raises(ValueError, match="limited number of samples or sweeps"):
        made()[1].test(source, streams=(source.streams.a, source.streams.b))


def test_the_mean_of_a_metric_over_all_data(arrays: Arrays) -> None:
    found = made()[1].test(arrays, minibatch_size=32)
    assert (found.metric, found.samples) == (pytest.approx(0.5), 250)


# -- learners of a program's own --------------------------------------------------------------------------------------


class Own(C.UserLearner):
    """Plain steps; it notes what it is told."""

    def __init__(self, parameters: Any, schedule: Any) -> None:
        super().__init__(parameters, schedule)
        self.told: list[Any] = []

    def update(self, gradient_values: Any, training_sample_count: int, sweep_end: bool) -> bool:
        self.told.append((training_sample_count, sweep_end, self.learning_rate()))
        for parameter, gradient in gradient_values.items():
            parameter.value = parameter.value - 0.1 * gradient.asarray() / training_sample_count
        return True


def network() -> tuple[Any, Any, Any, Any]:
    C.cntk_py.reset_random_seed(1)
    x, y = C.input_variable(2), C.input_variable(2)
    z = C.layers.Dense(2)(x)
    return x, y, z, C.cross_entropy_with_softmax(z, y)


def test_a_learner_of_ones_own_does_what_sgd_does(arrays: Arrays, tmp_path: Path) -> None:
    weights = []
    for learner in (Own, C.sgd):
        x, y, z, loss = network()
        own = learner(z.parameters, C.learning_parameter_schedule([0.1, 0.1]))
        trainer = C.Trainer(z, loss, [own])
        source = C.io.MinibatchSourceFromData({"x": arrays[0], "y": arrays[1]})
        for _ in range(6):
            data = source.next_minibatch(50)
            trainer.train_minibatch({x: data[source.streams.x], y: data[source.streams.y]})
        weights.append(z.W.value)
        if learner is Own:
            assert own.told[4] == (50, True, 0.1)
            trainer.save_checkpoint(str(tmp_path / "own"))
            trainer.train_minibatch({x: arrays[0], y: arrays[1]})
            trainer.restore_from_checkpoint(str(tmp_path / "own"))
            assert own.total_number_of_samples_seen() == trainer.total_number_of_samples_seen == 300
            assert np.array_equal(z.W.value, weights[0])
    assert np.allclose(*weights, atol=1e-6)


def test_a_universal_learner_takes_cntks_steps(arrays: Arrays, tmp_path: Path) -> None:
    def update(parameters: Any, gradients: Any) -> Any:
        steps = []
        for parameter, gradient in zip(parameters, gradients, strict=True):
            squares = C.constant(0, shape=parameter.shape, dtype=parameter.dtype)
            total = C.assign(squares, 0.9 * squares + gradient * gradient)
            steps.append(C.assign(parameter, parameter - 0.01 * gradient / C.sqrt(total + 0.001)))
        return C.combine(steps)

    def run(restored: bool) -> Any:
        x, y, z, loss = network()
        trainer = C.Trainer(z, loss, [C.universal(update, z.parameters)])
        if restored:
            trainer.restore_from_checkpoint(str(tmp_path / "v"))
            assert trainer.total_number_of_samples_seen == 50
        for at in range(0, 50, 10):
            trainer.train_minibatch({x: arrays[0][at : at + 10], y: arrays[1][at : at + 10]})
        if not restored:
            trainer.save_checkpoint(str(tmp_path / "v"))
        return z.W.value.ravel()

    assert np.allclose(run(restored=False), [-0.92481, -0.86262, -0.15016, -1.14258], atol=1e-5)
    assert np.allclose(run(restored=True), [-0.95261, -0.83482, -0.18072, -1.11202], atol=1e-5)  # its constants anew


def test_a_universal_learner_needs_shapes_and_a_function() -> None:
    with pytest.raises(ValueError, match="has inferred dimensions"):
        C.universal(lambda parameters, gradients: None, C.layers.Dense(2)(C.placeholder()).parameters)
    with pytest.raises(TypeError, match="not a Function"):
        C.universal(lambda parameters, gradients: 3, [C.parameter(2)])


# -- rates by sweeps --------------------------------------------------------------------------------------------------


def test_rates_without_an_epoch_size_are_those_of_sweeps(arrays: Arrays) -> None:
    x, y, z, loss = network()
    learner = C.sgd(z.parameters, C.learning_parameter_schedule([0.3, 0.2, 0.1]))
    trainer = C.Trainer(z, loss, [learner])
    source = C.io.MinibatchSourceFromData({"x": arrays[0], "y": arrays[1]})
    rates = []
    for _ in range(6):
        data = source.next_minibatch(125)
        trainer.train_minibatch({x: data[source.streams.x], y: data[source.streams.y]})
        rates.append(learner.learning_rate())
    assert rates == [0.3, 0.2, 0.2, 0.1, 0.1, 0.1]
    trainer.train_minibatch({x: arrays[0], y: arrays[1]})  # arrays have no sweeps
    assert C.minibatch_size_schedule([8, 16], 100)[100] == 16
    assert DataUnit.sweep in DataUnit
