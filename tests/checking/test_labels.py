"""Planted wrong labels and strangers are named, the most doubtful first; the network sees nothing but mean colors."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from command_line import Convolve, assert_refused
from convolve.checking.check import check_data
from convolve.checking.labels import _strangers
from convolve.model import Model
from convolve.models import build_model
from convolve.specs.model import NetworkSpec
from convolve.training.probe import fit
from convolve.transforms.preprocess import Preprocess

COLORS = {"blue": (160, 80, 80), "green": (80, 160, 80), "red": (80, 80, 160)}  # B, G, R
EACH = 20


@pytest.fixture(scope="module")
def eye() -> Model:
    """It has learned nothing: filters drawn by chance see colors, too."""
    preprocess = Preprocess(3, 32, 32, 127.5, 1 / 64, known_from="the test")
    spec = NetworkSpec("convnet-cifar10", "tiny")
    return Model(build_model(spec, (3, 32, 32), 2, seed=0).eval(), spec, preprocess, ("a", "b"))


def shade(rng: np.random.Generator, color: tuple[int, ...]) -> np.ndarray:
    noise_HWC = rng.integers(-60, 60, (32, 32, 3)) + rng.integers(-10, 10, 3)
    return np.clip(np.array(color) + noise_HWC, 0, 255).astype(np.uint8)


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """Sixty shades of three colors; `wrong` ones lie in others' folders, one of them twice, and one file is broken."""
    rng, folder = np.random.default_rng(0), tmp_path / "shades"
    for number, (name, color) in enumerate(COLORS.items()):
        (folder / name).mkdir(parents=True)
        for image in range(EACH):
            cv2.imwrite(str(folder / name / f"{image}.png"), shade(rng, color))
        other = list(COLORS.values())[number - 1]
        cv2.imwrite(str(folder / name / "wrong.png"), shade(rng, other))
    twice = (folder / "red" / "wrong.png").read_bytes()
    (folder / "red" / "wrong again.png").write_bytes(twice)
    (folder / "red" / "broken.png").write_bytes(twice[:200])
    return folder


def found_by(eye: Model, folder: Path) -> dict[str, list[str]]:
    findings = check_data(folder, model=eye).findings
    return {
        kind: [f"{Path(each.place).parent.name}/{Path(each.place).name}" for each in found]
        for kind, found in findings.by_kind()
    }


def test_wrong_labels_are_named_first(eye: Model, planted: Path) -> None:
    found = found_by(eye, planted)
    wrong = {"blue/wrong.png", "green/wrong.png", "red/wrong.png", "red/wrong again.png"}
    assert {*found["wrong label"][: len(wrong)]} == wrong and len(found["wrong label"]) <= len(wrong) + 1
    assert found["damaged image"] == ["red/broken.png"]


def test_strangers_are_far_from_every_class_as_the_other_folds_tell() -> None:
    """Two classes of 100 in 64 dimensions, and three images between, or beyond, or elsewhere."""
    rng = np.random.default_rng(0)
    features_ND = np.eye(2, 64).repeat(100, 0) + 0.1 * rng.standard_normal((200, 64))
    labels_N = np.arange(2).repeat(100)
    strangers_MD = np.eye(64)[[5, 6, 7]] + 0.1 * rng.standard_normal((3, 64))
    features = torch.from_numpy(np.concatenate([features_ND, strangers_MD])).float()
    labels = torch.from_numpy(np.append(labels_N, [0, 1, 1]))
    probe = fit(features, labels)
    assert {image for image, _ in list(_strangers(features, labels, probe))[:3]} == {200, 201, 202}
    assert len(list(_strangers(features, labels, probe))) <= 5
    assert len(list(_strangers(features[:200], labels[:200], fit(features[:200], labels[:200])))) <= 2


def test_each_says_what_it_looks_like(eye: Model, planted: Path) -> None:
    findings = {
        Path(each.place).parent.name: each
        for each in check_data(planted, model=eye).findings.kept
        if Path(each.place).name == "wrong.png" and each.kind == "wrong label"
    }
    assert findings["green"].what.startswith("labeled green (") and "looks like blue (" in findings["green"].what
    assert findings["green"].images == (("training", findings["green"].images[0][1]),)


def test_without_faults_no_label_is_named(eye: Model, planted: Path) -> None:
    for path in planted.rglob("*[a-z].png"):
        path.unlink()
    assert "wrong label" not in found_by(eye, planted)


def test_they_stand_in_page_table_and_json(eye: Model, planted: Path, convolve: Convolve, tmp_path: Path) -> None:
    eye.save(tmp_path / "eye")
    page, table = tmp_path / "page.html", tmp_path / "clean.csv"
    outcome = convolve(
        "check-data",
        str(planted),
        "--from",
        str(tmp_path / "eye"),
        "--json",
        "--html",
        str(page),
        "--write-table",
        str(table),
    )
    assert outcome.code == 3
    assert json.loads(outcome.out)["counts"]["wrong label"] >= 4
    assert "Labels that are probably wrong" in page.read_text(encoding="utf-8")
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    doubts = {row["path"].partition("shades/")[2]: row["look at"] for row in rows}
    assert "wrong label" in doubts["green/wrong.png"] and "wrong label" not in doubts["green/3.png"]


def test_classes_of_few_images_are_not_judged(eye: Model, planted: Path, convolve: Convolve, tmp_path: Path) -> None:
    for path in [*(planted / "red").iterdir(), *(planted / "blue").iterdir()]:
        if path.stem not in {"1", "2"}:
            path.unlink()
    eye.save(tmp_path / "eye")
    assert_refused(
        convolve("check-data", str(planted), "--from", str(tmp_path / "eye")), 3, "two classes of at least 5 images"
    )
