"""CNTK's ResNet-20 for CIFAR-10: its numbers, its initial values and steps as the real CNTK 2.7 recorded them, and a
training of its tiny twin."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from cifar10_files import write_binary
from command_line import Convolve
from convolve.models import build_model
from convolve.models.summary import summarize
from convolve.recipe_values import differences
from convolve.recipes import load_recipe
from convolve.specs.model import NetworkSpec
from convolve.training.optimizers import build_optimizer, take_step
from convolve.training.schedule import step_size

GOLDEN = Path(__file__).parents[1] / "golden" / "cntk" / "initial_values.json"
SEED = 3  # of the recorded network


def pixels(batch: int) -> torch.Tensor:
    """As tests/golden/cntk/initial_values.py makes them."""
    numbers = torch.arange(batch, batch + 8 * 3 * 16 * 16) * 7919 % 251 / 251 - 0.5
    return numbers.reshape(8, 3, 16, 16)


@pytest.mark.parametrize(("variant", "parameters"), [("", 272_474), ("110", 1_730_714)])
def test_the_networks_are_the_published_ones(variant: str, parameters: int) -> None:
    """With 1x1 convolutions in the shortcuts; CNTK's count of both, from the corpus of BrainScript."""
    network = build_model(NetworkSpec("resnet-cifar10", variant), (3, 32, 32), 10)
    assert summarize(network, (3, 32, 32)).parameters == parameters


def test_steps_are_those_of_the_paper() -> None:
    """0.1, 0.01 and 0.001 from the epochs 81 and 121 on, momentum 0.9, decay 0.0001, in batches of 128."""
    recipe = load_recipe("cifar10-resnet20")
    optimizer, schedule = recipe.optimizer, recipe.schedule
    total = 50_000 * recipe.run.epochs
    steps = [step_size(optimizer, schedule, 50_000 * epoch, 128, 50_000, total) for epoch in range(recipe.run.epochs)]
    assert [step.lr * (1 - step.momentum) for step in steps] == pytest.approx([0.1] * 80 + [0.01] * 40 + [0.001] * 40)
    assert {step.momentum for step in steps} == {0.9}
    assert (optimizer.l2, optimizer.unit_gain, recipe.run.global_batch_size) == (0.0001, True, 128)


def test_the_short_one_changes_nothing_but_the_steps() -> None:
    changes = differences(load_recipe("cifar10-resnet20"), load_recipe("cifar10-resnet20-short"))
    changed = {change.split(":")[0].split(".")[0] for change in changes}
    assert changed == {"name", "optimizer", "schedule", "run", "published_error"}
    assert [change.split(":")[0] for change in changes if change.startswith("run")] == ["run.epochs"]


def test_initial_values_and_steps_are_cntks() -> None:
    """Weights bit for bit; the losses of three batches of 8 and, by the running statistics, of the last one again."""
    golden = json.loads(GOLDEN.read_text())["resnet-cifar10"]
    network = build_model(NetworkSpec("resnet-cifar10", "tiny"), (3, 16, 16), 10, SEED, as_cntk=True).train()
    found = {}
    for layer in golden["weights"]:
        weight = network.get_parameter(f"{layer}.weight").detach()
        in_cntks_order = weight.T.reshape(-1, 1, 1, 10) if layer == "fc" else weight
        found[layer] = hashlib.sha256(in_cntks_order.contiguous().numpy().tobytes()).hexdigest()
    assert found == golden["weights"]

    recipe, labels_N, losses = load_recipe("cifar10-resnet20"), torch.arange(8), []
    optimizer = build_optimizer(recipe.optimizer, list(network.parameters()))
    for batch in range(3):
        loss = F.cross_entropy(network(pixels(batch)), labels_N)
        loss.backward()
        take_step(optimizer, step_size(recipe.optimizer, recipe.schedule, 0, 8, 50_000, 50_000), 8)
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses == pytest.approx(golden["losses"], rel=1e-5)
    with torch.no_grad():
        tested = F.cross_entropy(network.eval()(pixels(2)), labels_N).item()
    assert tested == pytest.approx(golden["test_loss"], rel=1e-5)


@pytest.mark.parametrize("name", ["cifar10-resnet20", "cifar10-resnet20-short"])
def test_a_tiny_twin_trains_from_the_files(name: str, convolve: Convolve, tmp_path: Path) -> None:
    """Trained on 20 images of noise until it knows them, evaluated, and exported with the same answers."""
    data, run = write_binary(tmp_path / "data"), tmp_path / "run"
    settings = ("model.variant=tiny", "run.global_batch_size=4", "run.threads=1", "run.precision=fp32")
    words = [word for setting in settings for word in ("--set", setting)]
    trained = convolve("train", name, "--data", data, "--epochs", 12, "--out", run, *words)
    assert trained.code == 0, trained.err
    lines = (json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines())
    losses = [event["train_loss"] for event in lines if "train_loss" in event]
    assert len(losses) == 12 and min(losses[-3:]) < losses[0]
    exported = convolve("convert", run, "--to", "onnx", "--out", tmp_path / "net.onnx")
    assert exported.code == 0, exported.err
    assert convolve("evaluate", run, "--data", data).code == 0
