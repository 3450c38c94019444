"""The card beside a model says what its description holds, with its conditions, and guesses nothing."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from command_line import Convolve
from convolve.importers.presets import presets
from convolve.loading import load
from convolve.model import Model
from convolve.model_card import model_card
from convolve.records import Metadata, Target, TargetKind, TrainingInfo
from convolve.records.reading import FieldError, from_json
from convolve.specs.model import ModelSpec
from convolve.transforms.preprocess import Preprocess
from zip_golden import ARCHIVE

SEES = Preprocess(1, 28, 28, 0.0, 1 / 256)


def card(info: dict[str, Any], names: tuple[str, ...] = ("cat", "dog"), want: Preprocess = SEES, **more: Any) -> str:
    metadata = Metadata(class_names=names, data="mnist", training_info=from_json(TrainingInfo, info))
    return model_card(ModelSpec(), nn.Linear(3, 2), want, metadata, ("weights.safetensors", "5e" * 32), **more)


def test_a_training_leaves_a_card_that_agrees_with_its_result(
    convolve: Convolve, tiny: list[str], tmp_path: Path
) -> None:
    assert convolve("train", "mnist", *tiny, "--out", tmp_path / "run").code == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    text = (tmp_path / "run" / "model" / "model-card.md").read_text(encoding="utf-8")

    assert "\n---\n\n# convnet-mnist, trained on mnist (not the official files)\n" in text
    assert f"**{100 * result['test_error']:.2f} %** test error: {round(150 * result['test_error'])} of 150" in text
    assert "Recipe mnist, data mnist (not the official files), 600 images, 2 epochs, seed 0, precision fp32" in text
    assert f"| parameters | {result['parameters']:,} |" in text
    assert hashlib.sha256((tmp_path / "run" / "model" / "weights.safetensors").read_bytes()).hexdigest() in text
    assert str(tmp_path) not in text and str(tmp_path) not in (tmp_path / "run" / "model" / "model.json").read_text()
    load(tmp_path / "run").save(tmp_path / "again")
    assert (tmp_path / "again" / "model-card.md").read_text(encoding="utf-8") == text


@pytest.mark.parametrize("ending", [".onnx", ".pt2"])
def test_an_exported_file_has_a_card_beside_it(ending: str, model: Path, tmp_path: Path) -> None:
    out = tmp_path / f"digits{ending}"
    load(model).export(out, with_preprocessing=True)
    text = (tmp_path / "digits-model-card.md").read_text(encoding="utf-8")

    assert f"| file | digits{ending}, SHA-256 `{hashlib.sha256(out.read_bytes()).hexdigest()}` |" in text
    assert "| input | uint8, (N, 28, 28, 1) |" in text and "The file does this arithmetic itself." in text


def test_an_imported_model_says_where_it_comes_from(tmp_path: Path) -> None:
    (tmp_path / "net.model").write_bytes(ARCHIVE.read("v2/net_resnet.model"))
    load(tmp_path / "net.model").save(tmp_path / "model")
    text = (tmp_path / "model" / "model-card.md").read_text(encoding="utf-8")

    assert "\n# net.model\n" in text and "Imported from net.model (CNTK v2" in text
    assert "Not measured here" in text and "**assumed**" in text and "blue, green, red" in text


def test_published_errors_are_called_so() -> None:
    text = card({"imported_from": "x", "preset": "resnet18"})
    assert f"Published: {100 * (presets()['resnet18'].published_error or 0):.2f} % error, 10.28 % error of" in text
    assert "Not measured here" in text


def test_preprocessing_in_words() -> None:
    want = Preprocess(3, 224, 224, (104.0, 117.0, 123.0), 1 / 58, "bgr", "square", 0.875, known_from="preset x")
    text = card({}, want=want)
    assert "- Size: central 0.875 of the shorter side scaled to 224x224.\n- Orientation: turned as EXIF says.\n" in text
    assert "(pixel - (104, 117, 123)) * 0.0172413793" in text and "planes of blue, green, red" in text
    assert "Known from: preset x" in text


@pytest.mark.parametrize(
    ("mean", "scale", "words"),
    [
        (0.0, 1.0, "pixels as they are"),
        (0.0, 1 / 256, "pixel * 0.00390625"),
        (114.0, 1.0, "pixel - 114"),
        ((0.0, 0.0, 3.0), (1.0, 1.0, 1.0), "pixel - (0, 0, 3)"),
        (114.0, 0.5, "(pixel - 114) * 0.5"),
    ],
)
def test_what_changes_nothing_is_not_said(mean: Any, scale: Any, words: str) -> None:
    want = Preprocess(3, 28, 28, mean, scale)
    assert f"\n- Values: {words}; pixels are 0 to 255." in card({}, want=want) and f" RGB, {words}, " in str(want)


def test_what_comes_from_data_stays_one_line_of_text() -> None:
    nasty = "a|b\n# not a heading <script> [x](y) `c`"
    text = card({"recipe": nasty, "imported_from": nasty}, (nasty, "dog"))
    assert r"0. a\|b \# not a heading \<script\> \[x\](y) \`c\`" in text
    assert not re.search(r"(?<!\\)<|^# not", text, re.MULTILINE)


NUMBERS = {"test_r2": 0.5, "test_mean_absolute_error": 2.0}


@pytest.mark.parametrize(
    ("kind", "info", "metrics"),
    [
        ("class", {"test_error": 0.25, "test_images": 8, "test_macro_f1": 0.5}, {"accuracy": 0.75, "f1": 0.5}),
        ("classes", {"test_mean_average_precision": 0.7, "test_images": 8}, {"mean_average_precision": 0.7}),
        ("number", NUMBERS | {"test_images": 8}, {"mae": 2.0, "r_squared": 0.5}),
        ("class", {"imported_from": "x: 'y'", "license": "apache-2.0"}, {}),
    ],
)
def test_the_hugging_face_hub_can_file_it(kind: str, info: dict[str, Any], metrics: dict[str, float]) -> None:
    hub = pytest.importorskip("huggingface_hub")
    training = from_json(TrainingInfo, {"recipe": 'a "b": c'} | info)
    data = "x: \"leaves' #1"
    metadata = Metadata(class_names=("a", "b"), data=data, training_info=training, target=Target(TargetKind(kind)))
    text = model_card(ModelSpec(), nn.Linear(3, 2), SEES, metadata, ("w", "5e" * 32))
    card = hub.ModelCard(text)

    assert card.data.library_name == "convolve"
    assert card.data.license == info.get("license", "unknown")
    assert card.data.pipeline_tag == (None if kind == "number" else "image-classification")
    assert {one.metric_type: one.metric_value for one in card.data.eval_results or []} == metrics
    assert all(one.dataset_name == data for one in card.data.eval_results or [])
    assert hub.ModelCard(str(card)).data.to_dict() == card.data.to_dict()


def test_a_license_is_given_when_a_model_is_converted(convolve: Convolve, model: Path, tmp_path: Path) -> None:
    done = convolve("convert", model, "--to", "convolve", "--license", "cc-by-4.0", "--out", tmp_path / "to")
    assert done.code == 0 and load(tmp_path / "to").training_info.license == "cc-by-4.0"
    assert '\nlicense: "cc-by-4.0"\n' in (tmp_path / "to" / "model-card.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("value", ["much", -1, 2.5, float("nan"), True, [], 10**400])
def test_figures_that_are_none_are_refused(value: Any) -> None:
    for name in ("test_error", "test_images", "test_error_top5", "calibration_error", "train_images", "epochs"):
        with pytest.raises(FieldError, match=rf"^{name} "):
            card({"recipe": "mnist", name: value})


def test_a_thousand_classes_stay_readable() -> None:
    text = card({}, tuple(f"class {k}" for k in range(1000)))
    assert "99. class 99\n" in text and "100. class" not in text and "and 900 more" in text


def test_a_model_of_nobody_knows_nothing(tmp_path: Path) -> None:
    Model(nn.Linear(3, 2), ModelSpec(), SEES, ("a", "b")).save(tmp_path)
    text = (tmp_path / "model-card.md").read_text(encoding="utf-8")
    assert "\n# convnet-mnist\n" in text and "Nothing is known about its training." in text
