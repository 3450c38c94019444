"""Training's last evaluation, `evaluate`, `predict` and exported files give one answer on an image: the right one."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from command_line import Convolve
from convolve.data.open import open_data
from convolve.formats.idx import read_idx
from processes import start
from runtimes import answer, metadata, prepared_for

# Each learns, whatever a processor does to its last bits: 12 to 37 % of the test images are wrong at the end of "last"
# (20 seeds, with the instructions of AVX-512 and of SSE4.1). The momentum of the recipe "mnist" makes so small a
# network forget in the epoch in which it sets in; without lower rates at the end the last few steps may, too.
RECIPES = {
    "last": [
        "mnist", "schedule.learning_rates=0.004*8:0.0005", "optimizer.momentum=0", "model.dropout=0", "run.epochs=10",
        "run.precision=fp32",
    ],
    "average": [
        "mnist-fast", "run.ema_epochs=0.5", "data.hard_fraction=1", "run.epochs=6", "run.precision=bf16",
    ],
    "best": [
        "mnist-fast", "run.keep=best", "data.hard_fraction=1", "data.validation_fraction=0.2", "run.epochs=6",
        "run.precision=fp32",
    ],
}  # fmt: skip
# The five layers add up 25, 36, 54, 72 and 12 products: at most 200 roundings of float32, one after the other.
CLOSE = 200 * 2**-24


@pytest.fixture(scope="module", params=RECIPES)
def run(request: pytest.FixtureRequest, tiny_mnist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of each kind of final weights."""
    place = tmp_path_factory.mktemp("run")
    recipe, *settings = RECIPES[request.param]
    settings += ["model.variant=tiny", "run.global_batch_size=32", "run.threads=1"]
    words = [recipe, "--data", tiny_mnist, *(f"--set={setting}" for setting in settings)]
    outcome = start(place / "log", "train", *words, "--out", place / "run").outcome()
    assert outcome.code == 0, outcome.err
    return place / "run"


@pytest.fixture(scope="module")
def prepared(tiny_mnist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny MNIST as `convolve prepare` writes it."""
    place = tmp_path_factory.mktemp("prepared")
    assert start(place / "log", "prepare", "mnist", "--source", tiny_mnist, "--out", place / "data").outcome().code == 0
    return place / "data"


def test_the_last_evaluation_is_what_the_weights_say(run: Path, tiny_mnist: Path) -> None:
    last = load_file(run / "evaluation.safetensors")
    labels_N = torch.from_numpy(read_idx(tiny_mnist / "t10k-labels-idx1-ubyte").astype(np.int64))
    log_NK = by_hand(load_file(run / "model" / "weights.safetensors"), tiny_mnist)
    torch.testing.assert_close(last["probabilities_NK"].double(), log_NK.exp(), rtol=0, atol=CLOSE)
    assert torch.equal(last["labels_N"], labels_N)
    wrong = int((log_NK.argmax(1) != labels_N).sum())
    result = json.loads((run / "result.json").read_text())
    assert result["test_error"] == wrong / len(labels_N)
    assert result["test_loss"] == pytest.approx(float(F.nll_loss(log_NK, labels_N)), rel=CLOSE)
    assert 0 < wrong < 0.75 * len(labels_N), "a network that knows nothing, or all, would prove little"


def by_hand(weights: dict[str, torch.Tensor], data: Path) -> torch.Tensor:
    """Log-probabilities of the test images, shape NK, in float64, with the layers in the order of CNTK's recipe."""
    weights = {name: tensor.double() for name, tensor in weights.items()}
    x = torch.from_numpy(read_idx(data / "t10k-images-idx3-ubyte"))[:, None].double() / 256
    for name, padding, pooled in (("conv1", 2, True), ("conv2", 0, True), ("conv3", 0, False)):
        x = F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=padding).relu()
        x = F.max_pool2d(x, 3, 2) if pooled else x
    x = F.linear(x.flatten(1), weights["fc1.weight"], weights["fc1.bias"]).relu()
    return F.linear(x, weights["fc2.weight"], weights["fc2.bias"]).log_softmax(1)


@pytest.mark.parametrize("form", ["idx", "ctf"])
def test_evaluate_says_the_same(
    form: str, run: Path, tiny_mnist: Path, prepared: Path, tmp_path: Path, convolve: Convolve
) -> None:
    moved = shutil.copytree(run / "model", tmp_path / "moved")  # nothing of the run around it
    data = tiny_mnist if form == "idx" else prepared
    outcome = convolve("evaluate", moved, "--data", data, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    said = json.loads(outcome.out)
    last, result = load_file(run / "evaluation.safetensors"), json.loads((run / "result.json").read_text())
    predicted_N, labels_N = last["probabilities_NK"].argmax(1), last["labels_N"]
    assert said["test_loss"] == pytest.approx(result["test_loss"], abs=CLOSE)
    assert (said["test_error"], said["test_error_top5"]) == (result["test_error"], result["test_error_top5"])
    wrong_top5_N = (last["probabilities_NK"].topk(5).indices != labels_N[:, None]).all(1)
    assert said["errors_top5"] == int(wrong_top5_N.sum())
    for k, row in enumerate(said["classes"]):
        taken_for = Counter(predicted_N[(labels_N == k) & (predicted_N != k)].tolist())
        most = row.pop("most_taken_for")
        assert (taken_for[int(most)] == max(taken_for.values())) if most else not taken_for
        assert row == {
            "class": str(k),
            "samples": int((labels_N == k).sum()),
            "errors": int(((labels_N == k) & (predicted_N != k)).sum()),
            "false_alarms": int(((labels_N != k) & (predicted_N == k)).sum()),
            "errors_top5": int(wrong_top5_N[labels_N == k].sum()),
            **{rate: pytest.approx(result["classes"][k][rate], abs=CLOSE) for rate in ("precision", "recall", "f1")},
        }


@pytest.mark.parametrize("form", ["folder", "zip", "files"])
def test_predict_says_the_same_of_each_picture(
    form: str, run: Path, prepared: Path, tmp_path: Path, convolve: Convolve
) -> None:
    pictures = prepared / "test"
    if form == "folder":
        paths = [pictures]
    elif form == "zip":
        paths = [Path(shutil.make_archive(str(tmp_path / "pictures"), "zip", pictures))]
    else:
        paths = sorted(pictures.rglob("*.png"), reverse=True)
    outcome = convolve("predict", run, *paths, "--top", 10, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    images = json.loads(outcome.out)["images"]
    last_NK = load_file(run / "evaluation.safetensors")["probabilities_NK"]
    assert len(images) == len(last_NK)
    for image in images:
        said_K = {row["class"]: row["probability"] for row in image["classes"]}
        number = int(Path(image["path"]).stem)
        assert [said_K[str(k)] for k in range(10)] == pytest.approx(last_NK[number].tolist(), abs=CLOSE)
        assert image["classes"][0]["class"] == str(int(last_NK[number].argmax()))
        assert image["fitted"] == ""


@pytest.mark.parametrize("name", ["digits.onnx", "digits.pt2"])
def test_exported_files_say_the_same_of_each_image(
    name: str, run: Path, tiny_mnist: Path, tmp_path: Path, convolve: Convolve
) -> None:
    form = {"digits.onnx": "onnx", "digits.pt2": "exported-program"}[name]
    outcome = convolve("convert", run, "--to", form, "--out", tmp_path / name)
    assert (outcome.code, outcome.err) == (0, "")
    images_NCHW = read_idx(tiny_mnist / "t10k-images-idx3-ubyte")[:, None]
    logits_NK = torch.from_numpy(answer(tmp_path / name, prepared_for(metadata(tmp_path / name), images_NCHW)))
    last_NK = load_file(run / "evaluation.safetensors")["probabilities_NK"]
    torch.testing.assert_close(logits_NK.softmax(1), last_NK, rtol=0, atol=CLOSE)
    assert torch.equal(logits_NK.argmax(1), last_NK.argmax(1))
    if name == "digits.onnx":
        said, first = (
            json.loads(convolve("evaluate", place, "--data", tiny_mnist, "--json").out)
            for place in (tmp_path / name, run)
        )
        assert said.pop("test_loss") == pytest.approx(first.pop("test_loss"), abs=CLOSE)
        assert said == first


@pytest.mark.slow
@pytest.mark.skipif("CONVOLVE_DATA" not in os.environ, reason="needs the data sets in $CONVOLVE_DATA")
@pytest.mark.parametrize(("recipe", "variant"), [("mnist", ""), ("cifar10", "tiny"), ("cifar10-aug-lrn", "tiny")])
def test_five_answers_on_every_image_of_the_test_set(
    recipe: str, variant: str, tmp_path: Path, convolve: Convolve
) -> None:
    name, run = recipe.partition("-")[0], tmp_path / "run"
    data = Path(os.environ["CONVOLVE_DATA"]) / name
    words = ["--data", data, "--set", f"model.variant={variant}", "--epochs", 1, "--out", run]
    assert convolve("train", recipe, *words).code == 0
    last = load_file(run / "evaluation.safetensors")
    first_N = last["probabilities_NK"].argmax(1)
    evaluated = json.loads(convolve("evaluate", run, "--data", data, "--json").out)
    assert evaluated["samples"] == len(first_N) == 10_000
    assert [row["errors"] for row in evaluated["classes"]] == [
        int(((last["labels_N"] == k) & (first_N != k)).sum()) for k in range(10)
    ]
    images_NCHW = open_data(name, str(data)).test.images_NCHW.numpy()
    for file in (tmp_path / "net.onnx", tmp_path / "net.pt2"):
        form = {".onnx": "onnx", ".pt2": "exported-program"}[file.suffix]
        assert convolve("convert", run, "--to", form, "--out", file).code == 0
        about = metadata(file)
        logits = [answer(file, prepared_for(about, part)) for part in np.split(images_NCHW, 10)]
        assert np.array_equal(np.concatenate(logits).argmax(1), first_N.numpy()), file
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number, image_CHW in enumerate(images_NCHW):
        cv2.imwrite(str(pictures / f"{number}.png"), image_CHW[::-1].transpose(1, 2, 0))
    predicted = json.loads(convolve("predict", run, pictures, "--top", 1, "--json").out)["images"]
    names = json.loads((run / "model" / "model.json").read_text())["class_names"]
    said = {int(Path(image["path"]).stem): image["classes"][0]["class"] for image in predicted}
    assert [said[number] for number in range(10_000)] == [names[k] for k in first_N.tolist()]


def test_predict_takes_other_sizes_and_colors_and_says_so(
    run: Path, prepared: Path, tmp_path: Path, convolve: Convolve
) -> None:
    small, large, red = next((prepared / "test").rglob("*.png")), tmp_path / "large.png", tmp_path / "red.png"
    gray_HW = cv2.imread(str(small), cv2.IMREAD_GRAYSCALE)
    assert gray_HW is not None
    cv2.imwrite(str(large), cv2.cvtColor(gray_HW.repeat(3, axis=0).repeat(3, axis=1), cv2.COLOR_GRAY2BGR))
    cv2.imwrite(str(red), np.stack([gray_HW * 0, gray_HW * 0, gray_HW], axis=2))
    outcome = convolve("predict", run, small, large, "--top", 1)
    answers = [line.split()[1:] for line in outcome.out.splitlines()]
    assert answers[0] == answers[1]  # three times as large and stored in color, it is the same picture
    assert outcome.err.startswith("note: 1 of 2 images")
    assert f"{large}: scaled and center-cropped from 84x84 to 28x28)" in outcome.err
    assert f"{red}: made gray)" in convolve("predict", run, red).err


def test_predict_writes_a_table(run: Path, prepared: Path, tmp_path: Path, convolve: Convolve) -> None:
    table = tmp_path / "new" / "table.csv"
    assert convolve("predict", run, prepared / "test", "--top", 2, "--csv", table).code == 0
    title, *rows = table.read_text().splitlines()
    assert title == "path,class_1,probability_1,class_2,probability_2,error"
    last_NK = load_file(run / "evaluation.safetensors")["probabilities_NK"]
    assert len(rows) == len(last_NK)
    for path, name, probability, _, less, error in (row.split(",") for row in rows):
        assert not error
        assert float(probability) == pytest.approx(float(last_NK[int(Path(path).stem)][int(name)]), abs=CLOSE)
        assert float(less) <= float(probability)
