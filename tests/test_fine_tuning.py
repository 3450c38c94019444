"""`convolve train --from` an imported network: as CNTK trains it; frozen stays frozen; a killed run goes on."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from command_line import Convolve, assert_refused
from convolve.data.sources.source import ArraySource
from convolve.data.splits import Splits
from convolve.errors import ResumeRefusedError
from convolve.graph.build import build
from convolve.graph.draft import Draft
from convolve.graph.graph import Graph
from convolve.loading import load
from convolve.model import Model
from convolve.outcome import Training
from convolve.recipe import Recipe
from convolve.run import build_training
from convolve.specs.data import DataSpec
from convolve.specs.optimizer import OptimizerSpec
from convolve.specs.run import RunSpec
from convolve.specs.schedule import ScheduleSpec
from convolve.training.run_folder import RunFolder
from convolve.training.snapshot import resume, save
from convolve.transforms.preprocess import Preprocess
from zip_golden import ARCHIVE, FOLDER

# As the trace was made: minibatches of 8 in the order of the file, momentum without unit gain, the mean gradient.
RECIPE = Recipe(
    "finetune",
    data=DataSpec(order="file", scale=1.0),
    optimizer=OptimizerSpec(momentum=(0.9,), unit_gain=False),
    schedule=ScheduleSpec(learning_rates=(0.05,)),
    run=RunSpec(epochs=5, global_batch_size=8, precision="fp32", device="cpu", threads=1),
)


RATE = ("--set", "schedule.learning_rates=0.1", "--set", "optimizer.momentum=0", "--set", "run.epochs=6")


def started(recipe: Recipe, start: Path) -> Recipe:
    return replace(recipe, model=replace(recipe.model, start=str(start)))


def silent(event: str, values: dict[str, Any]) -> None:
    pass


@pytest.fixture(scope="module")
def trace() -> dict[str, np.ndarray]:
    return dict(np.load(io.BytesIO(ZipFile(FOLDER / "more.zip").read("finetune.npz"))))


@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = tmp_path / "net_resnet.model"
    path.write_bytes(ARCHIVE.read("v2/net_resnet.model"))
    return path


def data_of(trace: dict[str, np.ndarray], classes: int = 10) -> Splits:
    """The 32 images, in RGB planes: the imported network wants BGR, and the trace is what it was fed."""
    table = ArraySource(torch.from_numpy(trace["images"]).flip(1), torch.from_numpy(trace["labels"]) % classes)
    return Splits(table, table, tuple(map(str, range(classes))), "a trace of CNTK")


def test_twenty_steps_follow_cntk(trace: dict[str, np.ndarray], network: Path, tmp_path: Path) -> None:
    said: list[str] = []

    def listen(event: str, values: dict[str, Any]) -> None:
        said.extend([values["message"]] if event == "warning" else [])

    parts = build_training(started(RECIPE, network), data_of(trace), RunFolder(tmp_path / "run"), listen)
    parts.trainer.fit()
    assert len(said) == 1 and "the recipe's model" in said[0]
    events = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    losses = [event["train_loss"] for event in events if event["event"] == "epoch"]
    np.testing.assert_allclose(losses, trace["loss"].reshape(5, 4).mean(1), rtol=1e-4)
    logits = parts.model.module.eval()(torch.from_numpy(trace["images"][:8])).detach().numpy()
    np.testing.assert_allclose(logits, trace["logits"], rtol=0, atol=1e-4 * np.abs(trace["logits"]).max())


def test_a_killed_run_goes_on_without_the_original(trace: dict[str, np.ndarray], network: Path, tmp_path: Path) -> None:
    data, recipe = data_of(trace), started(replace(RECIPE, run=replace(RECIPE.run, epochs=2)), network)
    whole = build_training(recipe, data, RunFolder(tmp_path / "whole"), silent)
    whole.trainer.fit()
    for moment in ("before the first checkpoint", "after an epoch"):
        place = tmp_path / moment
        killed = build_training(recipe, data, RunFolder(place), silent)
        if moment == "after an epoch":
            _stop_after_an_epoch(killed)
        network.rename(tmp_path / "elsewhere")
        resumed = build_training(recipe, data, RunFolder(place), silent)
        resume(resumed.trainer)
        assert resumed.trainer.position.step == (4 if moment == "after an epoch" else 0)
        resumed.trainer.fit()
        for name, tensor in whole.model.module.state_dict().items():
            assert torch.equal(tensor, resumed.model.module.state_dict()[name]), name
        (tmp_path / "elsewhere").rename(network)
    with pytest.raises(ResumeRefusedError, match=r"model\.start"):
        build_training(started(recipe, tmp_path / "other"), data, RunFolder(place), silent)


def _stop_after_an_epoch(parts: Training) -> None:
    parts.trainer.train_epoch()
    parts.trainer.end_epoch()
    save(parts.trainer)


def half_frozen(rate: float) -> Graph:
    """Two dense layers on 28 x 28 pixels, the first of them frozen, and dropout between them."""
    draft, rng = Draft(), np.random.default_rng(0)

    def dense(x: str, sizes: tuple[int, int], multiplier: float, name: str) -> str:
        weight = draft.parameter(rng.normal(0, 0.05, sizes).astype(np.float32), multiplier, f"{name}_W")
        value = draft.add("linear", [x, weight], contracted=1, transposed=False)
        draft.call(value, name)
        return value

    x = draft.add("reshape", [draft.input((1, 28, 28), "pixels")], shape=(784,))
    x = draft.add("multiply", [x, draft.parameter(np.float32([1 / 256]), 0.0)])
    x = draft.add("dropout", [draft.add("relu", [dense(x, (784, 16), 0.0, "fixed")])], rate=rate)
    return draft.finish([dense(x, (16, 10), 1.0, "last")], "a test")


@pytest.fixture
def frozen_model(tmp_path: Path) -> Path:
    return saved(half_frozen(rate=0.25), tmp_path / "frozen")


def saved(graph: Graph, folder: Path) -> Path:
    Model(build(graph), graph, Preprocess(1, 28, 28, known_from="a test"), tuple("0123456789")).save(folder)
    return folder


def test_from_the_command_line(frozen_model: Path, tiny: list[str], tmp_path: Path, convolve: Convolve) -> None:
    run = tmp_path / "run"
    outcome = convolve("train", "mnist", *tiny, "--from", frozen_model, "--out", run, *RATE, "--json")
    assert outcome.code == 0, outcome.err
    assert "the recipe's model" in outcome.err
    before, after = (load_file(place / "weights.safetensors") for place in (frozen_model, run / "model"))
    assert torch.equal(before["fixed.weight"], after["fixed.weight"])
    assert not torch.equal(before["last.weight"], after["last.weight"])
    result = json.loads(outcome.out)
    assert result["test_error"] < 0.75  # a random last layer errs in nine of ten
    trained = load(run)
    assert isinstance(trained.architecture, Graph) and trained.data_name == "mnist"
    assert trained.preprocess == load(frozen_model).preprocess
    assert [layer.p for layer in trained.module.modules() if isinstance(layer, torch.nn.Dropout)] == [0.25]
    evaluated = json.loads(convolve("evaluate", run, "--data", tiny[1], "--json").out)
    assert evaluated["test_error"] == result["test_error"]


def test_a_file_without_dropout_rates_takes_the_recipes(tiny: list[str], tmp_path: Path, convolve: Convolve) -> None:
    """v1 files hold none."""
    model = saved(half_frozen(rate=0.0), tmp_path / "model")
    outcome = convolve(
        "train", "mnist", *tiny, "--from", model, "--out", tmp_path / "run", "--set", "model.dropout=0.4"
    )
    assert outcome.code == 0 and "but for model.dropout" in outcome.err
    modules = load(tmp_path / "run").module.modules()
    assert [layer.p for layer in modules if isinstance(layer, torch.nn.Dropout)] == [0.0]  # of the graph
    again = build_training(started(RECIPE, model), mnist_like(), RunFolder(tmp_path / "again"), silent)
    again.trainer.train_epoch()
    assert [layer.p for layer in again.model.module.modules() if isinstance(layer, torch.nn.Dropout)] == [0.5]


def mnist_like() -> Splits:
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (16, 1, 28, 28), dtype=np.uint8))
    table = ArraySource(images, torch.arange(16) % 10)
    return Splits(table, table, tuple("0123456789"), "noise")


def test_a_network_with_nothing_left_to_train_is_refused(
    frozen_model: Path, tiny: list[str], tmp_path: Path, convolve: Convolve
) -> None:
    _freeze(frozen_model)
    outcome = convolve("train", "mnist", *tiny, "--from", frozen_model, "--out", tmp_path / "run")
    assert_refused(outcome, 3, "frozen", "nothing is left to train", "model.head=linear")


def _freeze(folder: Path) -> None:
    head = json.loads((folder / "model.json").read_text())
    for parameter in head["graph"]["parameters"]:
        parameter["learning_rate_multiplier"] = 0.0
    (folder / "model.json").write_text(json.dumps(head))


def test_images_in_memory_come_to_what_the_network_takes(
    network: Path, tiny: list[str], tmp_path: Path, convolve: Convolve
) -> None:
    """Digits, gray and of 28x28, to 16x16 in three planes."""
    outcome = convolve("train", "mnist", *tiny, "--from", network, "--out", tmp_path / "run", "--epochs", 1)
    assert outcome.code == 0, outcome.err
    trained, result = load(tmp_path / "run"), json.loads((tmp_path / "run" / "result.json").read_text())
    assert trained.preprocess.shape_CHW == (3, 16, 16) and len(trained.class_names) == 10
    outcome = convolve("evaluate", tmp_path / "run", "--data", tiny[1], "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["test_error"] == result["test_error"]
