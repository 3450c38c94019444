"""CNTK v2 models and checkpoints: written and read again. `make cntk-round-trip` asks the real CNTK to read them."""

from pathlib import Path

import numpy as np
import pytest
import torch

import convolve.cntk as C
from convolve.importers.cntk.v2 import OPERATORS, read_top
from convolve.loading import load
from convolve.network import load_graph

GOLDEN = Path(__file__).parents[1] / "golden/cntk"


def small() -> tuple[C.Function, C.Variable, np.ndarray]:
    x = C.input_variable((1, 6, 6), name="x")
    layers = [
        C.layers.Convolution2D((3, 3), 4, pad=True, activation=C.relu, name="c"),
        C.layers.BatchNormalization(map_rank=1),
        C.layers.GlobalAveragePooling(),
        C.layers.Dropout(0.5),
        C.layers.Dense(3, name="scores"),
    ]
    return C.layers.Sequential(layers)(x), x, np.random.default_rng(0).normal(size=(8, 1, 6, 6)).astype(np.float32)


def test_a_saved_function_is_the_same_when_it_comes_back(tmp_path: Path) -> None:
    net, x, images = small()
    net.save(tmp_path / "net.model")
    again = C.load_model(str(tmp_path / "net.model"))
    assert [p.uid for p in again.parameters] == [p.uid for p in net.parameters]
    assert again.arguments[0].name == "x" and again.scores.W.shape == net.scores.W.shape
    assert np.array_equal(again.eval(images), net.eval({x: images}))


def test_a_saved_function_is_a_model_for_the_command_line(tmp_path: Path) -> None:
    net, x, _ = small()
    net.save(tmp_path / "net.model")
    pixels = np.random.default_rng(1).integers(0, 256, (4, 1, 6, 6)).astype(np.uint8)
    ours = load(tmp_path / "net.model").outputs(pixels).numpy()
    assert np.allclose(ours, net.eval({x: pixels.astype(np.float32)}), rtol=1e-4, atol=1e-3)


def test_a_model_of_cntks_is_saved_as_it_was(tmp_path: Path) -> None:
    theirs = C.load_model(str(GOLDEN / "final.model"))
    theirs.save(tmp_path / "again.model")
    again = C.load_model(str(tmp_path / "again.model"))
    images = np.random.default_rng(0).normal(size=(4, 3, 12, 12)).astype(np.float32)
    assert np.array_equal(again.eval(images), theirs.eval(images))


@pytest.mark.parametrize("learner", ["sgd", "momentum_sgd", "nesterov", "adagrad", "adadelta", "adam", "fsadagrad"])
def test_a_restored_trainer_goes_on_to_the_same_bits(learner: str, tmp_path: Path) -> None:
    def trainer() -> tuple[C.Trainer, C.Function, C.Variable, C.Variable]:
        C.cntk_py.reset_random_seed(3)
        x, y = C.input_variable(5), C.input_variable(2)
        z = C.layers.Dense(2)(C.layers.Dropout(0.2)(C.layers.Dense(4, activation=C.relu)(x)))
        momentum = [0.9] if learner in ("momentum_sgd", "nesterov", "adam", "fsadagrad") else []
        rule = getattr(C, learner)(z.parameters, 0.1, *momentum)
        return C.Trainer(z, (C.cross_entropy_with_softmax(z, y), C.classification_error(z, y)), [rule]), z, x, y

    draw = np.random.default_rng(0)
    batches = [(draw.normal(size=(6, 5)), np.eye(2)[draw.integers(0, 2, 6)]) for _ in range(6)]
    whole, z, x, y = trainer()
    for number, (images, labels) in enumerate(batches):
        whole.train_minibatch({x: images, y: labels})
        if number == 2:
            whole.save_checkpoint(tmp_path / "state", {"epoch": 1})
    resumed, again, x, y = trainer()
    assert resumed.restore_from_checkpoint(tmp_path / "state") == {"epoch": 1}
    for images, labels in batches[3:]:
        resumed.train_minibatch({x: images, y: labels})
    assert all(np.array_equal(a.value, b.value) for a, b in zip(z.parameters, again.parameters, strict=True))


def test_a_network_with_dropout_is_written_as_onnx(tmp_path: Path) -> None:
    x = C.input_variable((1, 4, 4))
    z = C.layers.Sequential([C.layers.Dense(4, activation=C.relu), C.layers.Dropout(0.5), C.layers.Dense(3)])(x)
    z.save(str(tmp_path / "net.onnx"), format=C.ModelFormat.ONNX)
    images = np.random.default_rng(0).random((2, 1, 4, 4)).astype(np.float32)
    module = load_graph(tmp_path / "net.onnx").module
    assert np.allclose(module(torch.from_numpy(images)).detach().numpy(), z.eval(images), atol=1e-6)


def test_files_hold_what_cntk_reads_the_same(tmp_path: Path) -> None:
    """CNTK 2.7 refuses, or reads otherwise, a reduction that drops axes, the largest along another axis than the last,
    and an ELU with its alpha in the operator."""
    x = C.input_variable((3, 4))
    made = [C.reduce_sum(x, axis=0, keepdims=False), C.argmax(x), *C.top_k(x, 2, axis=0).outputs, C.elu(x, 0.5)]
    C.combine(made).save(str(tmp_path / "net.model"))
    content = (tmp_path / "net.model").read_bytes()
    functions = [each.values for each in read_top(content, "net.model").values["primitive_functions"]]
    operators = [(OPERATORS[each["op"]], each["attributes"].values) for each in functions]
    kept = [held["reductionKeepDimensions"] for name, held in operators if name == "ReduceElements"]
    assert sorted(kept) == [False, True]  # of argmax over all, and of the sum, whose axis another operation drops
    assert [held["axis"].index for name, held in operators if name == "TopK"] == [0]
    assert [held for name, held in operators if name == "ELU"] == [{}]
