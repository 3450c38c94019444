"""What the settings of a recipe do to a training, seen from outside: weights, logs, results."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from command_line import Convolve, assert_refused
from convolve.formats.idx import read_idx
from convolve.loading import load

Train = Callable[..., Path]


@pytest.fixture
def train(convolve: Convolve, tiny: list[str], tmp_path: Path) -> Train:
    """`train("mnist", "run.epochs=3", ..., "--flag")` returns the run folder of a tiny training."""
    count = 0

    def run(recipe: object, *words: object, data: Path | None = None) -> Path:
        nonlocal count
        count += 1
        folder = tmp_path / f"run{count}"
        flags = [f"--set={word}" if "=" in str(word) else word for word in words]
        where = ["--data", data] if data else []
        outcome = convolve("train", recipe, *tiny, *where, *flags, "--out", folder)
        assert outcome.code == 0, outcome.err
        return folder

    return run


def result(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return values


def epochs(folder: Path) -> list[dict[str, Any]]:
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [event for event in events if event["event"] == "epoch"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "weights.safetensors")


def checkpoint(folder: Path, part: str) -> dict[str, torch.Tensor]:
    """The tensors of `part` ("module", "ema", ...) in the last checkpoint."""
    tensors = load_file(max((folder / "checkpoints").glob("*.safetensors")))
    return {name.removeprefix(f"{part}."): t for name, t in tensors.items() if name.startswith(f"{part}.")}


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max() / other[name].abs().max().clamp_min(1e-6)) for name in one)


def test_the_result_is_complete_and_true(convolve: Convolve, tiny: list[str], tmp_path: Path) -> None:
    outcome = convolve("train", "mnist", *tiny, "--seed", 3, "--json", "--out", tmp_path / "run")
    said = json.loads(outcome.out)
    assert said == result(tmp_path / "run")
    expected = {
        "recipe": "mnist", "epochs": 2, "samples_seen": 1200, "parameters": 1772, "precision": "fp32", "device": "cpu",
        "threads": 1, "world_size": 1, "seed": 3,
    }  # fmt: skip
    assert expected.items() <= said.items()
    assert 0 <= said["test_error_top5"] <= said["test_error"] <= 1
    assert 0 < said["train_seconds"] < said["total_seconds"]
    assert said["images_per_second"] == pytest.approx(1200 / said["train_seconds"])
    assert 0 <= said["data_wait_fraction"] < 1
    assert said["test_loss"] == epochs(tmp_path / "run")[-1]["test_loss"]
    assert said["versions"]["torch"] == torch.__version__
    assert len(said["data_fingerprint"]) == 64


def test_the_seed_decides_everything(train: Train) -> None:
    one, same, other = train("mnist-fast"), train("mnist-fast"), train("mnist-fast", "run.seed=1")
    assert largest_difference(weights(one), weights(same)) == 0
    assert largest_difference(weights(one), weights(other)) > 0.1


def test_pieces_of_a_batch_give_the_same_weights(train: Train) -> None:
    # 599 leaves a last batch of one sample, which cannot be cut at all.
    settings = [
        "model.dropout=0", "optimizer.momentum=0.9", "optimizer.momentum_unit=per_minibatch", "run.epochs=3",
        "run.global_batch_size=599", "schedule.learning_rates=0.0005",
    ]  # fmt: skip
    whole, pieces = train("mnist", *settings), train("mnist", *settings, "run.accumulation_steps=7")
    start = train("mnist", *settings, "schedule.learning_rates=0")
    assert largest_difference(weights(pieces), weights(whole)) < 5e-5
    assert largest_difference(weights(pieces), weights(start)) > 0.01  # the weights did move
    assert epochs(pieces)[-1]["train_loss"] == pytest.approx(epochs(whole)[-1]["train_loss"], rel=1e-6)


def test_label_smoothing_is_the_formula(train: Train, tiny_mnist: Path) -> None:
    """Szegedy et al. 2015, section 7: the targets are (1 - s) onehot + s / K."""
    run = train("mnist", "schedule.learning_rates=0", "model.dropout=0", "run.epochs=1", "run.label_smoothing=0.3")
    images_NHW, labels_N = (read_idx(tiny_mnist / f"train-{name}-ubyte") for name in ("images-idx3", "labels-idx1"))
    log_NK = load(run).probabilities(images_NHW[:, None]).double().log().numpy()
    of_label, of_all = -log_NK[np.arange(len(labels_N)), labels_N].mean(), -log_NK.mean()
    assert abs(of_all - of_label) > 1e-4
    assert epochs(run)[0]["train_loss"] == pytest.approx(0.7 * of_label + 0.3 * of_all, rel=1e-6)
    plain = train("mnist", "schedule.learning_rates=0", "model.dropout=0", "run.epochs=1")
    assert result(run)["test_loss"] == result(plain)["test_loss"]  # tests count the plain loss


def test_dropout_follows_its_list(train: Train) -> None:
    long, short = (
        train("mnist", "schedule.learning_rates=0", f"model.dropout={values}") for values in ("0:0.9", "0:0")
    )
    first, second = ([epoch["train_loss"] for epoch in epochs(folder)] for folder in (long, short))
    assert first[0] == second[0] == pytest.approx(second[1], rel=1e-5)  # another order of the same sum
    assert abs(first[1] - second[1]) > 1e-3


def test_lists_of_rates_are_cut_short_and_cycles_stretch(train: Train) -> None:
    rates = train("mnist", "schedule.learning_rates=0.001:0.0005:0.0001", "run.epochs=2")
    assert [epoch["learning_rate"] for epoch in epochs(rates)] == [pytest.approx(0.064), pytest.approx(0.032)]
    for count in (2, 4):
        *_, last = epochs(train("mnist-fast", "schedule.kind=one_cycle", f"run.epochs={count}"))
        assert 0 < last["learning_rate"] < 0.01  # all but the last sample's


# Two epochs that learn, then steps so long that the network knows nothing any more.
RUINED = (
    "schedule.learning_rates=0.01*2:10", "optimizer.clip_per_sample=1", "model.dropout=0", "run.global_batch_size=16",
    "data.validation_fraction=0.25",
)  # fmt: skip


def test_the_best_epoch_is_kept(train: Train) -> None:
    run = train("mnist", *RUINED, "run.epochs=4", "run.keep=best")
    errors = [epoch["validation_error"] for epoch in epochs(run)]
    best = errors.index(min(errors)) + 1
    assert best <= 2
    until_best = train("mnist", *RUINED, f"run.epochs={best}")
    assert largest_difference(weights(run), weights(until_best)) == 0
    assert result(run)["test_loss"] == result(until_best)["test_loss"]
    assert result(run)["epochs"] == 4
    assert largest_difference(checkpoint(run, "module"), weights(run)) > 1  # the last weights are others
    assert "test_error" not in epochs(run)[0]  # the test set has no say in the choice
    assert json.loads((run / "start.json").read_text())["train_samples"] == 450


def test_training_stops_when_nothing_gets_better(train: Train) -> None:
    run = train("mnist", *RUINED, "run.epochs=30", "run.keep=best", "run.early_stopping_epochs=3")
    errors = [epoch["validation_error"] for epoch in epochs(run)]
    best = errors.index(min(errors)) + 1
    assert len(errors) == best + 3 == result(run)["epochs"]
    assert result(run)["samples_seen"] == 450 * len(errors)


def test_the_average_of_the_weights_is_kept(train: Train) -> None:
    run = train("mnist", "run.ema_epochs=0.5", "schedule.learning_rates=0.01", "run.epochs=3")
    assert largest_difference(weights(run), checkpoint(run, "ema")) == 0
    assert largest_difference(weights(run), checkpoint(run, "module")) > 1e-3
    plain = train("mnist", "schedule.learning_rates=0.01", "run.epochs=3")
    assert largest_difference(checkpoint(run, "module"), weights(plain)) == 0  # it only looks on


def test_from_starts_with_the_weights_of_a_model(train: Train, model: Path) -> None:
    run = train("mnist", "schedule.learning_rates=0", "run.seed=5", "--from", model)
    assert largest_difference(weights(run), load_file(model / "weights.safetensors")) == 0
    assert json.loads((run / "start.json").read_text())["from_model"] == str(model)


def test_from_leaves_a_last_layer_for_other_classes_fresh(train: Train, model_of_letters: Path) -> None:
    theirs = load_file(model_of_letters / "weights.safetensors")
    taken = weights(train("mnist", "schedule.learning_rates=0", "--from", model_of_letters))
    assert len(taken.pop("head.weight")) == len(taken.pop("head.bias")) == 10  # fitted to the body's features
    assert len(taken) == len(theirs) - 2
    for name, tensor in taken.items():
        assert torch.equal(tensor, theirs[name.removeprefix("body.")]), name


def test_from_another_network_trains_that_one(
    train: Train, tiny: list[str], tmp_path: Path, convolve: Convolve
) -> None:
    run = train("mnist", "schedule.learning_rates=0", "run.epochs=1")
    words = ["--set=model.variant=", "--set=schedule.learning_rates=0", "--from", run, "--out", tmp_path / "out"]
    outcome = convolve("train", "mnist", *tiny, *words)
    assert (outcome.code, "the recipe's model" in outcome.err) == (0, True)
    assert largest_difference(weights(tmp_path / "out"), weights(run)) == 0


def test_layers_that_do_not_fit_are_named(train: Train, tiny: list[str], tmp_path: Path, convolve: Convolve) -> None:
    run = train("mnist", "schedule.learning_rates=0", "run.epochs=1")
    words = ["--set=data.image_size=40", "--from", run, "--out", tmp_path / "out"]
    outcome = convolve("train", "mnist", *tiny, *words)
    assert_refused(
        outcome, 2, str(run), "40x40", "fc1.weight has the shape (12, 72), but needs the shape (12, ", "model.cut"
    )
    assert not (tmp_path / "out").exists()


def test_fake_data_needs_no_data(tmp_path: Path, convolve: Convolve, monkeypatch: pytest.MonkeyPatch) -> None:
    from convolve.data import known

    small = dataclasses.replace(known.dataset_info("mnist"), train_samples=300, test_samples=200)
    monkeypatch.setattr(known, "dataset_info", lambda name: small)
    words = ["--fake-data", "--epochs", 1, "--set=model.variant=tiny", "--threads", 1, "--precision", "fp32"]
    outcome = convolve("train", "mnist", *words, "--out", tmp_path / "run")
    assert (outcome.code, "noise (--fake-data)" in outcome.err) == (0, True)
    assert result(tmp_path / "run")["samples_seen"] == 300
    assert 0.7 < result(tmp_path / "run")["test_error"] < 1  # by chance 0.9, and a spread of 0.02


@pytest.mark.parametrize(("order", "same"), [("file", True), ("cntk", False), ("shuffled", False)])
def test_orders_of_the_data(order: str, same: bool, train: Train, tiny_mnist: Path, tmp_path: Path) -> None:
    from convolve.prepare.mnist import prepare_mnist

    list(prepare_mnist(tiny_mnist, tmp_path / "ctf"))
    run = train("mnist", f"data.order={order}", "schedule.learning_rates=0", "model.dropout=0", data=tmp_path / "ctf")
    # Batches in the order of the files are the same in each epoch, so that a network that stands still repeats itself.
    told = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    first, second = (
        [event["loss"] for event in told if event["event"] == "progress" and event["epoch"] == epoch]
        for epoch in (1, 2)
    )
    assert len(first) == len(second) > 5
    assert (first == second) == same


def test_from_python(tiny_mnist: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import convolve

    recipe = convolve.Recipe("own", model=dataclasses.replace(convolve.Recipe("x").model, variant="tiny"))
    run = convolve.train(recipe, data=str(tiny_mnist), out=tmp_path / "run", epochs=2, threads=1, precision="fp32")
    assert (run.result["recipe"], run.result["epochs"]) == ("own", 2)
    assert run.model.class_names == tuple("0123456789")
    assert run.model.predict([]) == []
    assert capsys.readouterr() == ("", "")
    with pytest.raises(convolve.ConvolveError, match="finished run"):
        convolve.train(recipe, data=str(tiny_mnist), out=tmp_path / "run", epochs=2, threads=1, precision="fp32")
    with pytest.raises(convolve.ConvolveError, match="did you mean 'epochs'"):
        convolve.train(recipe, data=str(tiny_mnist), epoch=2)
