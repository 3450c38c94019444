"""A training that learns how sure its model is, and everything that then says so."""

from __future__ import annotations

import csv
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import convolve
from command_line import Convolve, assert_failed, assert_refused
from convolve.model import Model

TRAINED_IMAGES, HELD_OUT = 540, 60  # of tiny_mnist: a tenth is held out


@pytest.fixture(scope="module")
def run(tiny_mnist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from convolve.recipes import resolve

    settings = {"model.variant": "tiny", "run.epochs": 2, "run.threads": 1, "run.precision": "fp32"}
    recipe = resolve("mnist", settings | {"confidence.accept": 0.9})
    folder = tmp_path_factory.mktemp("runs") / "sure"
    convolve.train(recipe, data=str(tiny_mnist), out=folder)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits of the sample, and black pictures, which are none of them."""
    import cv2

    from convolve.data.open import open_data

    folder = tmp_path_factory.mktemp("pictures")
    test = open_data("sample", "mnist").test
    for number in range(20):
        image_CHW = test.images_NCHW[number].numpy()  # type: ignore[union-attr]
        cv2.imwrite(str(folder / f"digit-{number:02}.png"), image_CHW[0])
    for number in range(3):
        cv2.imwrite(str(folder / f"empty-{number}.png"), np.zeros((28, 28), np.uint8))
    return folder


def test_it_is_learned_from_a_tenth_that_is_held_out(run: Path) -> None:
    said = json.loads((run / "model" / "model.json").read_text())["confidence"]
    assert said["images"] == HELD_OUT and said["learned_from"] == "validation"
    assert said["accept"] == 0.9 and said["farthest"] > 0
    assert said["coverage"] == 0.9 and 0 < said["least_probability"] < 1
    assert json.loads((run / "start.json").read_text())["train_samples"] == TRAINED_IMAGES


def test_the_network_itself_is_that_of_the_training(run: Path) -> None:
    """What is learned stands beside it: the weights are the checkpoint's, and scores only have another temperature."""
    model = convolve.load(run)
    assert model.confidence
    images_NCHW = torch.rand(4, 1, 28, 28)
    with torch.inference_mode():
        logits_NK, distance_N = model.network(images_NCHW)
        assert torch.equal(logits_NK, model.module(images_NCHW) / model.confidence.record.temperature)
        features_ND = model.body()(images_NCHW)
    torch.testing.assert_close(distance_N, model.confidence.detector(features_ND))
    assert not model.network.training and not model.module.training


def test_an_empty_picture_is_none_of_these(run: Path, pictures: Path) -> None:
    said = convolve.load(run).predict([pictures])
    assert all(one.none_of_these for one in said if "empty" in one.path)
    assert sum(not one.none_of_these for one in said if "digit" in one.path) >= 15  # 18 are expected
    assert all(one.possible is not None for one in said)


def test_predict_says_so_in_every_form(run: Path, pictures: Path, tmp_path: Path, convolve: Convolve) -> None:
    shown = convolve("predict", run, pictures).out
    assert "empty-0.png   none of these; nearest: " in shown
    told = json.loads(convolve("predict", run, pictures, "--json", "--coverage", "1").out)["images"]
    assert told[-1]["none_of_these"] is True and told[-1]["distance"] > 0
    assert "possible" not in told[-1]  # every set would hold all classes
    assert convolve("predict", run, pictures, "--csv", tmp_path / "table.csv", "--accept", "1").code == 0
    rows = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert {row["none_of_these"] for row in rows} == {"no"}
    assert set(rows[0]["possible"].split(";")) <= set("0123456789")
    assert convolve("predict", run, pictures, "--sort-into", tmp_path / "sorted").code == 0
    assert sorted(path.name for path in (tmp_path / "sorted" / "none of these").iterdir())[-1] == "empty-2.png"


def test_a_class_may_be_called_none_of_these(model: Path, run: Path, pictures: Path, tmp_path: Path) -> None:
    from convolve.cli.sort_into import _folders

    folders = _folders(tmp_path, ("none of these", "a", "none of these"))
    assert len(folders) == 2  # the class and what is no class share a folder; nothing is lost


def test_the_same_run_has_the_same_confidence(run: Path, tiny: list[str], tmp_path: Path, convolve: Convolve) -> None:
    assert convolve("train", "mnist", *tiny, "--accept", "0.9", "--out", tmp_path / "again").code == 0
    first, second = (load_file(each / "model" / "weights.safetensors") for each in (run, tmp_path / "again"))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_evaluate_says_what_it_is_worth(run: Path, tiny_mnist: Path, convolve: Convolve) -> None:
    told = json.loads(convolve("evaluate", run, "--data", tiny_mnist, "--json", "--drift").out)
    assert told["accept"] == 0.9 and told["accepted"] == pytest.approx(0.9, abs=0.1)
    assert told["coverage"] == 0.9 and told["covered"] == pytest.approx(0.9, abs=0.1)
    assert 1 <= told["mean_set_size"] <= 10 and 0 <= told["calibration_error"] < 0.2
    assert told["drift"]["is_there"] is False and told["drift"]["probability"] > 0.01
    shown = convolve("evaluate", run, "--data", tiny_mnist, "--drift", "--accept", "0.5").out
    assert "asked for 50.00%" in shown and "drift: these images look like those of the training" in shown
    told = json.loads(convolve("evaluate", run, "--data", tiny_mnist, "--json", "--accept", "1").out)
    assert told["accepted"] == 1 and told["accepted_error"] == told["test_error"] and "drift" not in told


def test_drift_is_told_of_images_without_classes(run: Path, pictures: Path, tmp_path: Path, convolve: Convolve) -> None:
    told = json.loads(convolve("evaluate", run, "--data", pictures, "--json", "--drift").out)
    assert told["samples"] == len(list(pictures.iterdir())) and "test_error" not in told
    assert {"accepted", "accept", "drift"} <= told.keys()
    table = tmp_path / "table.csv"  # of classes, which nobody knows
    assert_refused(
        convolve("evaluate", run, "--data", pictures, "--drift", "--csv", table), 3, "a subfolder for each class"
    )
    (tmp_path / "broken.png").write_bytes(next(pictures.iterdir()).read_bytes()[:60])
    assert_refused(
        convolve("evaluate", run, "--data", tmp_path, "--drift"), 3, "none of the 1 images", "broken.png", "cut off"
    )


def test_the_report_shows_it(run: Path, convolve: Convolve) -> None:
    assert convolve("report", run).code == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert (
        "How sure it is" in page and "It answers “none of these” for" in page and "The sets of possible classes" in page
    )


@pytest.mark.parametrize("damage", [torch.zeros(3), torch.full((200,), torch.nan)])
def test_damaged_distances_are_one_sentence(
    damage: torch.Tensor, run: Path, tmp_path: Path, convolve: Convolve
) -> None:
    import shutil

    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "evaluation.safetensors"
    save_file(load_file(path) | {"distances_N": damage}, path)
    assert_failed(convolve("report", tmp_path / "run"), 3, "evaluation.safetensors is damaged", "distances_N")


@pytest.mark.parametrize("option", ["--accept", "--coverage"])
def test_a_model_that_has_not_learned_it_says_how_to_get_it(
    option: str, model: Path, pictures: Path, convolve: Convolve
) -> None:
    assert_refused(convolve("predict", model, pictures, option, "0.9"), 2, option, "convolve train RECIPE", "--from")
    assert_refused(convolve("evaluate", model, "--data", "sample", "--drift"), 2, "--drift", "convolve train RECIPE")


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "nan"])
def test_parts_that_are_none_are_refused(value: str, run: Path, pictures: Path, convolve: Convolve) -> None:
    assert_refused(convolve("predict", run, pictures, "--accept", value), 2, "--accept")
    assert_refused(convolve("train", "mnist", "--data", "sample", "--accept", value), 2, "confidence.accept")


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("confidence.means_KD", torch.ones(3)),
        ("confidence.directions_RD", torch.ones(2, 3)),
        ("confidence.rest", torch.full((), torch.nan)),
        ("confidence.distances_M", torch.ones(3, dtype=torch.float64)),
        ("confidence.unheard_of", torch.ones(3)),
        ("confidence.scores_M", None),
    ],
)
def test_damage_is_one_sentence(
    name: str, tensor: torch.Tensor | None, run: Path, pictures: Path, tmp_path: Path, convolve: Convolve
) -> None:
    import hashlib

    tensors = load_file(run / "model" / "weights.safetensors")
    tensors.pop(name, None)
    save_file(tensors | ({} if tensor is None else {name: tensor}), tmp_path / "weights.safetensors")
    record = json.loads((run / "model" / "model.json").read_text())
    record["weights_sha256"] = hashlib.sha256((tmp_path / "weights.safetensors").read_bytes()).hexdigest()
    (tmp_path / "model.json").write_text(json.dumps(record))
    assert_failed(convolve("predict", tmp_path, pictures), 3, "model.json is damaged")


@pytest.mark.skipif(not find_spec("onnxruntime"), reason="the extra onnx is not installed")
@pytest.mark.parametrize("with_preprocessing", [True, False])
def test_an_onnx_file_has_the_temperature_in_it_and_gives_the_distance(
    with_preprocessing: bool, run: Path, pictures: Path, tmp_path: Path
) -> None:
    import onnxruntime

    model, path = convolve.load(run), tmp_path / "sure.onnx"
    model.export(path, with_preprocessing=with_preprocessing)
    session = onnxruntime.InferenceSession(str(path))
    images_NCHW = torch.randint(0, 256, (3, 1, 28, 28), dtype=torch.uint8)
    [(normalized_NCHW, _)] = list(model.batches(model.dataset(_source(images_NCHW))))
    given = images_NCHW.permute(0, 2, 3, 1).numpy() if with_preprocessing else normalized_NCHW.numpy()
    _, probabilities_NK, distance_N = session.run(["logits", "probabilities", "distance"], {"images": given})
    expected = model.evaluate(model.dataset(_source(images_NCHW)))
    np.testing.assert_allclose(probabilities_NK, expected.probabilities_NK.numpy(), atol=1e-5)
    np.testing.assert_allclose(distance_N, expected.distances_N.numpy(), rtol=1e-4)  # type: ignore[union-attr]
    said = json.loads(session.get_modelmeta().custom_metadata_map["convolve"])
    assert model.confidence and said["confidence"]["farthest"] == model.confidence.record.farthest
    again: Model = convolve.load(path)
    assert again.confidence and again.confidence.record.temperature == 1  # its scores are divided by it already
    np.testing.assert_allclose(again.probabilities(images_NCHW.numpy()), probabilities_NK, atol=1e-5)


def _source(images_NCHW: torch.Tensor):  # type: ignore[no-untyped-def]
    from convolve.data.sources.source import ArraySource

    return ArraySource(images_NCHW, torch.zeros(len(images_NCHW), dtype=torch.int64))


def test_a_head_that_was_fitted_teaches_by_cross_validation() -> None:
    """Nothing is held out: each image is answered, and measured, by the fit without its fold."""
    from convolve.confidence import _from_fitted
    from convolve.fitted_head import FittedHead
    from convolve.records import ONE_CLASS
    from convolve.training.probe import fit

    random = torch.Generator().manual_seed(0)
    means_KD = torch.randn(3, 16, generator=random)
    labels_N = torch.arange(900) % 3
    features_ND = means_KD[labels_N] + torch.randn(900, 16, generator=random)
    own, new = slice(0, 300), slice(300, 900)
    probe = fit(features_ND[own], labels_N[own])
    known = _from_fitted(FittedHead(probe, features_ND[own], labels_N[own]), ONE_CLASS).asked(0.9, 0.8)
    assert known.record.images == 300 and known.record.learned_from == "cross-validation"
    accepted_N = ~known.is_none_of_these(known.detector(features_ND[new]))
    assert float(accepted_N.float().mean()) == pytest.approx(0.9, abs=0.07)  # three standard deviations of both samples
    logits_NK = features_ND[new] @ probe.weight_KD.T + probe.bias_K
    sets_NK = known.sets((logits_NK / known.record.temperature).softmax(1))
    assert float(sets_NK.gather(1, labels_N[new, None]).float().mean()) == pytest.approx(0.8, abs=0.09)
    assert known.record.temperature == pytest.approx(1, abs=0.3)


def test_limits_that_so_few_images_cannot_tell(run: Path, pictures: Path, tmp_path: Path, convolve: Convolve) -> None:
    """Of 60 images, 60 of 61 more are told at most: what is beyond is refused, and said of a training."""
    for option in ("--accept", "--coverage"):
        assert convolve("predict", run, pictures, option, "0.98").code == 0
        assert_refused(convolve("predict", run, pictures, option, "0.99"), 2, option, "60 held-out images", "0.98")
    typed = ("--data", "sample", "--set", "model.variant=tiny", "--epochs", 1, "--threads", 1, "--accept", 0.9999)
    trained = convolve("train", "mnist-fast", *typed, "--out", tmp_path / "run")
    assert trained.code == 0 and "confidence.accept is without effect" in trained.err
    assert "confidence.coverage is without effect" not in trained.err
