"""Files of the real CNTK 2.7 answer and go on here as they do there: tests/golden/cntk_api/trips holds its numbers.

`make cntk-round-trip` asks the real one about 75 networks and 19 learners, in both directions.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convolve.cntk as C
from convolve.cntk.saving import model_values
from convolve.cntk.wire_writer import message

TRIPS = Path(__file__).parents[1] / "golden/cntk_api/trips"
L = C.layers


def functions_in(function: C.Function) -> list[str]:
    visited = C.logging.graph.depth_first_search(function, lambda n: isinstance(n, C.Function), depth=-1)
    return [found.op_name for found in visited]


def test_what_several_functions_use_is_read_wherever_the_file_has_it() -> None:
    wanted = json.loads((TRIPS / "shared.json").read_text())
    network = C.load_model(str(TRIPS / "shared.model"))
    images = np.random.RandomState(0).normal(size=(3, 5)).astype(np.float32)
    found = network.eval({network.arguments[0]: images})
    assert [output.name for output in network.outputs] == [name for name, _ in wanted["outputs"]]
    for output, (_, values) in zip(network.outputs, wanted["outputs"], strict=True):
        assert np.allclose(found[output], values, atol=1e-6), output.name
    assert functions_in(network) == wanted["ops"]


def test_recurrence_is_refused_by_name() -> None:
    values = model_values(C.plus(C.relu(C.input_variable(3)), 1))
    first, last = values["primitive_functions"]
    first["inputs"] = [f"{last['uid']}_Output_0"]
    with pytest.raises(RuntimeError, match="depends on its own values"):
        C.load_model(message(values))


def test_a_damaged_model_is_refused_in_a_sentence() -> None:
    whole = (TRIPS / "sgd").read_bytes()
    draw, refused = np.random.RandomState(2), 0
    for at in draw.randint(0, len(whole), 150):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << draw.randint(8)
        try:
            C.load_model(bytes(damaged))
        except RuntimeError as error:
            refused += 1
            assert len(str(error)) > 20
    assert refused > 75


def trainer(kind: str, seed: int = 5, size: int = 8) -> tuple[C.Trainer, Any, Any]:
    C.cntk_py.reset_random_seed(seed)
    x, y = C.input_variable(6, name="x"), C.input_variable(2, name="y")
    layers = [L.Dense(size), L.BatchNormalization(), lambda t: C.dropout(t, 0.5), L.Dense(2)]
    z = L.Sequential(layers)(x)
    rates = C.learning_parameter_schedule([0.05, 0.02, 0.01], epoch_size=20)
    rule = C.adam(z.parameters, rates, 0.9) if kind == "adam" else C.sgd(z.parameters, rates)
    return C.Trainer(z, (C.squared_error(z, y), C.classification_error(z, y)), [rule]), x, y


def losses(trainer: C.Trainer, x: Any, y: Any, batches: range) -> list[float]:
    data = np.random.RandomState(0).rand(9, 4, 8).astype(np.float32)
    found = []
    for batch in batches:
        trainer.train_minibatch({x: data[batch, :, :6], y: data[batch, :, 6:]})
        found.append(trainer.previous_minibatch_loss_average)
    return found


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_a_training_of_cntks_goes_on_here(kind: str) -> None:
    wanted = json.loads((TRIPS / f"{kind}.json").read_text())
    assert losses(*trainer(kind), range(9)) == pytest.approx(wanted, abs=1e-5)
    # Weights, the learner's state, its rates and the place in the stream of dropout's numbers are those of the file.
    other, x, y = trainer(kind, seed=77)
    losses(other, x, y, range(1))
    assert other.restore_from_checkpoint(str(TRIPS / kind)) == {"epoch": 2, "note": "half way"}
    assert other.total_number_of_samples_seen == 16
    assert losses(other, x, y, range(4, 9)) == pytest.approx(wanted[4:], abs=1e-5)


def test_a_checkpoint_holds_what_cntk_looks_for(tmp_path: Path) -> None:
    ours, x, y = trainer("sgd")
    losses(ours, x, y, range(4))
    ours.save_checkpoint(str(tmp_path / "state"))
    saved, wanted = C.load_model(str(tmp_path / "state")), C.load_model(str(TRIPS / "sgd"))
    assert [output.name for output in saved.outputs] == [output.name for output in wanted.outputs]
    assert sorted(functions_in(saved)) == sorted(functions_in(wanted))


@pytest.mark.parametrize(
    ("kind", "size", "refusal"),
    [("adam", 8, RuntimeError), ("sgd", 7, ValueError), ("missing", 8, RuntimeError)],
)
def test_a_checkpoint_of_something_else_changes_nothing(
    kind: str, size: int, refusal: type[Exception], tmp_path: Path
) -> None:
    shutil.copy(TRIPS / "sgd", tmp_path / "sgd")
    shutil.copy(TRIPS / "sgd.ckp", tmp_path / "sgd.ckp")
    ours, _, _ = trainer(kind, size=size)
    before = [parameter.value for parameter in ours.model.parameters]
    with pytest.raises(refusal):
        ours.restore_from_checkpoint(str(tmp_path / ("missing" if kind == "missing" else "sgd")))
    assert all(np.array_equal(a, b.value) for a, b in zip(before, ours.model.parameters, strict=True))


@pytest.mark.parametrize(
    ("name", "value", "written"),
    [(name, value, written) for name, (value, written) in json.loads((TRIPS / "attributes.json").read_text()).items()],
)
def test_attributes_are_written_with_cntks_types(name: str, value: object, written: str) -> None:
    assert bytes.fromhex(written) in message({name: value})


# -- what the round trips found ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [  # rates after minibatches of 4 from 10 samples, as the real CNTK has them
        (C.learning_parameter_schedule([0.1, 0.01, 0.001]), [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]),
        (C.learning_parameter_schedule([(2, 0.1), (1, 0.01)]), [0.1, 0.1, 0.1, 0.1, 0.01, 0.01]),
        (C.learning_parameter_schedule([0.1, 0.01, 0.001], epoch_size=8), [0.1, 0.01, 0.01, 0.001, 0.001, 0.001]),
    ],
)
def test_without_an_epoch_size_a_schedule_counts_sweeps(
    schedule: C.learners.Schedule, wanted: list[float], tmp_path: Path
) -> None:
    (tmp_path / "data.ctf").write_text("".join(f"|x {i} 1 |y 1 0\n" for i in range(10)))
    x, y = C.input_variable(2), C.input_variable(2)
    z = L.Dense(2, init=0.1)(x)
    rule = C.sgd(z.parameters, schedule)
    ours = C.Trainer(z, C.squared_error(z, y), [rule])
    streams = C.io.StreamDefs(x=C.io.StreamDef("x", shape=2), y=C.io.StreamDef("y", shape=2))
    source = C.io.MinibatchSource(C.io.CTFDeserializer(str(tmp_path / "data.ctf"), streams), randomize=False)
    rates = []
    for _ in wanted:
        ours.train_minibatch(source.next_minibatch(4, {x: source.streams.x, y: source.streams.y}))
        rates.append(rule.learning_rate())
    assert rates == wanted
    ours.save_checkpoint(str(tmp_path / "state"))
    rule.reset_learning_rate(C.learning_parameter_schedule(0.5))
    ours.restore_from_checkpoint(str(tmp_path / "state"))
    assert rule.learning_rate() == wanted[-1]


def test_without_a_source_no_sweep_ends_unless_the_program_says_so() -> None:
    x = C.input_variable(2)
    z = L.Dense(1)(x)
    rule = C.sgd(z.parameters, [0.1, 0.01])
    ours = C.Trainer(z, z, [rule])
    for is_end, wanted in ((None, 0.1), (False, 0.1), (True, 0.01)):
        ours.train_minibatch({x: np.ones((3, 2))}, is_sweep_end=is_end)
        assert rule.learning_rate() == wanted


def test_layers_that_are_functions_of_a_placeholder() -> None:
    x = C.input_variable((8, 4, 4))
    images = np.random.RandomState(0).rand(2, 8, 4, 4).astype(np.float32)
    for made in (
        lambda t: C.local_response_normalization(t, 1, 1.0, 0.5, 0.75),
        lambda t: C.depth_to_space(t, 2),
        lambda t: C.space_to_depth(t, 2),
    ):
        assert np.array_equal(L.Sequential([made])(x).eval({x: images}), made(x).eval({x: images}))


def test_an_ellipsis_stands_for_the_axes_between() -> None:
    x = C.input_variable((3, 4, 5))
    images = np.random.RandomState(0).rand(2, 3, 4, 5).astype(np.float32)
    assert np.array_equal(x[..., 1:3].eval({x: images}), images[..., 1:3])
    assert np.array_equal(x[2, ..., 0].eval({x: images}), images[:, 2:3, :, 0:1])
    assert np.array_equal(x[0:2, ...].eval({x: images}), images[:, 0:2])


@pytest.mark.parametrize(
    ("dilation", "pad", "shape"), [(2, True, (4, 9, 9)), ((1, 2), False, (4, 7, 5)), (2, [True, False], (4, 9, 5))]
)
def test_a_layer_dilates_its_window_alone(dilation: Any, pad: Any, shape: tuple[int, ...]) -> None:
    layer = L.Convolution2D((3, 3), 4, dilation=dilation, pad=pad)(C.input_variable((6, 9, 9)))
    assert layer.shape == shape
    [found] = C.logging.graph.depth_first_search(
        layer, lambda n: isinstance(n, C.Function) and n.op_name == "Convolution" and not n.is_block, depth=-1
    )
    assert found.attributes["dilation"][0] == 1 and found.attributes["kernelShape"] == (6, 3, 3)


@pytest.mark.parametrize("setting", [{"strides": (1, 2, 2)}, {"pad": [True] * 3}, {"dilation": [2] * 3}])
def test_a_window_has_one_value_or_one_for_each_axis(setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be a scalar or have same number of elements as the filter_shape"):
        L.Convolution2D((3, 3), 4, **setting)


def test_a_criterion_in_double_precision_comes_back() -> None:
    x, y = C.input_variable(4, dtype=np.float64), C.input_variable(3, dtype=np.float64)
    with C.default_options(dtype=np.float64):
        z = L.Dense(3)(x)
        whole = C.combine([C.cross_entropy_with_softmax(z, y), C.classification_error(z, y)])
    again = C.load_model(message(model_values(whole)))
    assert [output.dtype for output in again.outputs] == [np.float64, np.float64]
