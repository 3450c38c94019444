"""`run.initial_values=cntk`: weights and masks are those that the real CNTK 2.7 drew (tests/golden/cntk)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn
from torch.nn import functional as F

import convolve.cntk as C
from command_line import Convolve, assert_refused
from convolve import train
from convolve.cntk_random import Distribution, Draws
from convolve.data.open import open_data
from convolve.errors import InterruptedTraining
from convolve.importers.brainscript.initial import CntkSeeds
from convolve.importers.brainscript.lower import lower
from convolve.importers.brainscript.network import read_network
from convolve.importers.brainscript.text import of_lines
from convolve.models import build_model
from convolve.models.cntk_values import draw_masks
from convolve.recipe import with_values
from convolve.recipes import resolve
from convolve.specs.model import NetworkSpec

ANSWERS = json.loads((Path(__file__).parent / "golden/cntk/initial_values.json").read_text())
SEED = 3  # of the recorded networks


def network(name: str, variant: str, shape_CHW: tuple[int, int, int]) -> nn.Module:
    return build_model(NetworkSpec(name, variant, dropout=(0.5,)), shape_CHW, 10, SEED, as_cntk=True)


@pytest.mark.parametrize(("name", "variant", "side"), [("convnet-cifar10", "", 16), ("alexnet-python", "tiny", 67)])
def test_weights_are_cntks_bit_for_bit(name: str, variant: str, side: int) -> None:
    """CNTK keeps a dense layer's weights as (inputs, outputs)."""
    module, found = network(name, variant, (3, side, side)), {}
    for layer in ANSWERS[name]["weights"]:
        weight = module.get_parameter(f"{layer}.weight").detach()
        weight = weight.T if weight.ndim == 2 else weight
        found[layer] = hashlib.sha256(weight.contiguous().numpy().tobytes()).hexdigest()
    assert found == ANSWERS[name]["weights"]


def pixels(batch: int) -> np.ndarray:
    """As tests/golden/cntk/initial_values.py makes them."""
    numbers = np.arange(batch, batch + 8 * 3 * 16 * 16) * 7919 % 251 / 251 - 0.5
    return numbers.astype(np.float32).reshape(8, 3, 16, 16)


def test_losses_under_cntks_masks_are_its_own() -> None:
    module = network("convnet-cifar10", "", (3, 16, 16))
    draw_masks(module, SEED)
    module.train()
    for batch, loss in enumerate(ANSWERS["convnet-cifar10"]["losses"]):
        logits_NK = module(torch.from_numpy(pixels(batch)))
        assert F.cross_entropy(logits_NK, torch.arange(8)).item() == pytest.approx(loss, rel=2e-6)


def test_each_worker_draws_masks_of_its_own() -> None:
    def mask(workers: int, rank: int) -> list[bool]:
        module = nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.5)).train()
        draw_masks(module, 4, workers, rank)
        return module[1](torch.ones(64)).bool().tolist()  # type: ignore[no-any-return]

    assert mask(2, 0) == (Draws(10).fractions(64) > 0.5).tolist()  # the second seed from 4 on, twice
    assert mask(2, 1) == (Draws(11).fractions(64) > 0.5).tolist()


@pytest.mark.parametrize("count", [0, 1, 311, 312, 1000])
def test_a_stream_goes_on_from_a_place(count: int) -> None:
    draws, other = Draws(5), Draws(6)
    draws.words(count)
    other.go_to(draws.place)
    assert np.array_equal(other.words(700), draws.words(700))


def cntk_losses(images_NCHW: np.ndarray, labels_N: np.ndarray, batch: int) -> list[float]:
    """What ConvNet_MNIST written with CNTK's API, its tiny twin, loses in a pass over the images."""
    C.cntk_py.reset_random_seed(0)
    x, y = C.input_variable((1, 28, 28)), C.input_variable(10)
    with C.layers.default_options(activation=C.ops.relu, pad=False):
        z = C.layers.Sequential(
            [
                C.layers.Convolution2D((5, 5), 4, pad=True),
                C.layers.MaxPooling((3, 3), (2, 2)),
                C.layers.Convolution2D((3, 3), 6),
                C.layers.MaxPooling((3, 3), (2, 2)),
                C.layers.Convolution2D((3, 3), 8),
                C.layers.Dense(12),
                C.layers.Dropout(0.5),
                C.layers.Dense(10, activation=None),
            ]
        )(C.element_times(C.constant(1 / 256), x))
    loss, rate = C.cross_entropy_with_softmax(z, y), C.learning_parameter_schedule_per_sample(0.001)
    trainer, losses = C.Trainer(z, (loss, loss), C.sgd(z.parameters, rate)), []
    for start in range(0, len(images_NCHW), batch):
        rows = slice(start, start + batch)
        trainer.train_minibatch({x: images_NCHW[rows], y: np.eye(10, dtype=np.float32)[labels_N[rows]]})
        losses.append(trainer.previous_minibatch_loss_average)
    return losses


SETTINGS = [
    "--set=run.initial_values=cntk", "--set=data.order=file", "--set=model.variant=tiny", "--precision=fp32",
    "--threads=1", "--set=run.report_first_batches=20",
]  # fmt: skip


def batch_losses(run: Path) -> list[float]:
    """The loss of each batch of the first epoch, from the means so far that the run tells."""
    events: list[dict[str, Any]] = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    sums = [0.0, *(event["loss"] * event["batch"] for event in events if event.get("batch") and event["epoch"] == 1)]
    return list(np.diff(sums))


def test_a_recipe_prints_the_losses_of_its_cntk_program(convolve: Convolve, tmp_path: Path) -> None:
    outcome = convolve("train", "mnist", "--data", "sample", "--epochs", "1", *SETTINGS, "--out", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    source = open_data("sample", "mnist", file_order=True).train
    expected = cntk_losses(source.images_NCHW.numpy()[:1280].astype(np.float32), np.asarray(source.labels_N)[:1280], 64)
    assert batch_losses(tmp_path / "run")[:20] == pytest.approx(expected, rel=2e-6)


def test_a_network_with_other_initial_values_is_refused(convolve: Convolve, tmp_path: Path) -> None:
    settings = ("--set=model.name=resnet", "--set=model.variant=tiny", "--set=run.initial_values=cntk")
    outcome = convolve("train", "mnist", "--data", "sample", "--epochs", "1", *settings, "--out", tmp_path / "run")
    assert_refused(outcome, 2, "run.initial_values=cntk: ResNet has its own initial values")


def test_a_run_that_goes_on_draws_the_same_masks(tmp_path: Path) -> None:
    """Stopped in its second epoch, it goes on from the end of the first, in the middle of the stream."""
    recipe = with_values(resolve("mnist", {}), {"model.variant": "tiny", "run.initial_values": "cntk"})
    settings: dict[str, Any] = {"data": "sample", "epochs": 2, "precision": "fp32", "threads": 1}

    def stop(model: object, epoch: int) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    train(recipe, out=tmp_path / "whole", **settings)
    with pytest.raises(InterruptedTraining):
        train(recipe, out=tmp_path / "stopped", each_epoch=stop, **settings)
    train(recipe, out=tmp_path / "stopped", **settings)
    assert '"resume"' in (tmp_path / "stopped/metrics.jsonl").read_text()
    weights = [(tmp_path / run / "model/weights.safetensors").read_bytes() for run in ("whole", "stopped")]
    assert weights[0] == weights[1]


def parameters_of(seeds: CntkSeeds, *members: str) -> list[np.ndarray]:
    """Those of a configuration's network, which ends in `z`, one after the other."""
    network = read_network(of_lines("net.bs", ["{ features = Input {128}", *members, "}"]), [])
    return [parameter.array for parameter in lower([network.members["z"]], seeds, "BrainScript").parameters]


@pytest.mark.parametrize("count", ["randomSeed = 11", ""])
def test_parameters_of_a_configuration_are_cntks(count: str) -> None:
    """The recorded layer had the seed 11: given, or the first of a count that begins behind 10."""
    z = f"z = ParameterTensor {{(10:128), init = 'glorotUniform', {count}}} * features"
    [weight] = parameters_of(CntkSeeds(0 if count else 10), z.replace(", }", "}"))
    numbers = np.ascontiguousarray(weight if weight.shape == (128, 10) else weight.T)
    assert hashlib.sha256(numbers.tobytes()).hexdigest() == ANSWERS["convnet-cifar10"]["weights"]["fc3"]


def test_random_parameters_count_up_and_others_do_not() -> None:
    """The operands of the last operation come first."""
    members = [
        "z = V * (W * (U * features + b))",
        "U = ParameterTensor {(9:128)}",
        "V = ParameterTensor {(3:4), randomSeed = 5}",
    ]
    members += ["W = ParameterTensor {(4:9), initValueScale = 3}", "b = ParameterTensor {9, initValue = 0}"]
    found = {array.size: array for array in parameters_of(CntkSeeds(0), *members)}
    for size, seed, scale in ((12, 5, 1), (36, 1, 3), (9 * 128, 2, 1)):
        width = float(np.float32(0.05) * np.float32(scale))
        expected = Draws(seed).uniform(-width, width, size).astype(np.float32)
        assert np.array_equal(found[size].reshape(-1), expected)


def test_a_configuration_begins_with_cntks_values(tmp_path: Path, convolve: Convolve) -> None:
    """CNTK's weight of a layer is (inputs, outputs) and draws its seed after that of the next layer."""
    config = Path(__file__).parents[1] / "examples/BrainScript/ConvNet_MNIST.cntk"
    sgd = "TrainNetwork=[SGD=[maxEpochs=1;epochSize=256;initialValues=cntk]]"
    where = [f"outputDir={tmp_path}", f"modelPath={tmp_path}/net", "command=TrainNetwork", "randomSeedOffset=10"]
    outcome = convolve("run", config, "--data", "sample", *where, sgd)
    assert outcome.code == 0, outcome.err
    begun = load_file(tmp_path / "net.run/from/weights.safetensors")
    for name, shape, seed in (("z", (96, 10), 11), ("z_linear", (64 * 3 * 3, 96), 12)):
        expected = Distribution("uniform", mode="glorot").drawn(shape, seed).T
        assert np.array_equal(begun[f"{name}.weight"], expected), name
    recipe = json.loads((tmp_path / "net.run/recipe.json").read_text())["run"]
    assert (recipe["initial_values"], recipe["precision"]) == ("cntk", "fp32")


def test_initial_values_of_nobody_are_refused(tmp_path: Path, convolve: Convolve) -> None:
    config = Path(__file__).parents[1] / "examples/BrainScript/ConvNet_MNIST.cntk"
    outcome = convolve(
        "run", config, "--data", "sample", f"modelPath={tmp_path}/net", "TrainNetwork=[SGD=[initialValues=x]]"
    )
    assert_refused(outcome, 3, "initialValues must be torch or cntk, not x")
