"""`convolve train --folds`: each image is answered by a network that has not seen it; one network is trained on all."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from command_line import Convolve, Outcome, assert_refused, files_in
from convolve.loading import load

TINY = "--set", "model.variant=tiny", "--set", "run.threads=1", "--epochs", "2", "--set", "run.precision=fp32"
FOLDS = 3


@pytest.fixture
def shades(tmp_path: Path) -> Path:
    """Two classes of 12 images each, in groups of two that the names tell."""
    rng, folder = np.random.default_rng(0), tmp_path / "shades"
    for number, name in enumerate(("dark", "light")):
        (folder / name).mkdir(parents=True)
        for image in range(12):
            pixels_HWC = rng.integers(0, 150, (32, 32, 3), dtype=np.uint8) + np.uint8(60 * number)
            cv2.imwrite(str(folder / name / f"g{image // 2}-{image}.png"), pixels_HWC)
    return folder


def train(convolve: Convolve, data: Path, out: Path, *more: str) -> Outcome:
    asked = "train", "cifar10-fast", "--data", str(data), "--out", str(out), "--folds", str(FOLDS)
    return convolve(*asked, *TINY, *more)


def rows(out: Path) -> list[dict[str, str]]:
    with out.with_name(f"{out.name}-folds.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_image_is_answered_once_by_a_network_that_has_not_seen_it(
    convolve: Convolve, shades: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    outcome = train(convolve, shades, out, "--set", r"data.group=/(\w+/g\d+)-")
    assert outcome.code == 0 and "cross-validation: error" in outcome.out
    found, result = rows(out), json.loads((out / "result.json").read_text())
    assert len(found) == 24 and len({row["image"] for row in found}) == 24
    wrong = sum(row["label"] != row["predicted"] for row in found)
    assert result["test_error"] == pytest.approx(wrong / 24) and result["folds"] == FOLDS
    for fold in range(1, FOLDS + 1):
        mine = [row for row in found if row["fold"] == str(fold)]
        model = load(tmp_path / f"run-fold{fold}")
        said = {one.path: dict(one.classes) for one in model.predict([row["image"] for row in mine])}
        for row in mine:
            assert said[row["image"]][row["label"]] == pytest.approx(float(row["of the label"]), abs=1e-5)
    groups = {(Path(row["image"]).parent.name, Path(row["image"]).name.split("-")[0], row["fold"]) for row in found}
    assert len(groups) == 12  # no group is torn apart
    start = json.loads((out / "start.json").read_text())
    assert start["train_samples"] == 24
    assert "estimated by cross-validation" in (out / "report.html").read_text(encoding="utf-8")
    assert "Estimated by cross-validation with 3 folds" in (out / "model" / "model-card.md").read_text(encoding="utf-8")


def test_it_goes_on_where_it_was_and_comes_to_the_same_bits(convolve: Convolve, shades: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert train(convolve, shades, out).code == 0
    weights = (out / "model" / "weights.safetensors").read_bytes()
    kept = (tmp_path / "run-fold1" / "metrics.jsonl").read_bytes()
    for folder in (out, tmp_path / "run-fold3"):
        shutil.rmtree(folder)
    assert train(convolve, shades, out).code == 0
    assert (out / "model" / "weights.safetensors").read_bytes() == weights
    assert (tmp_path / "run-fold1" / "metrics.jsonl").read_bytes() == kept
    other = train(convolve, shades, out, "--seed", "7")
    assert other.code == 1 and "run.seed: 0 -> 7" in other.err


def test_a_test_part_of_its_own_stays_the_test_part(convolve: Convolve, photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    outcome = train(convolve, photographs, out, "--json")
    assert outcome.code == 0
    result = json.loads((out / "result.json").read_text())
    assert "folds" not in result and json.loads((out / "start.json").read_text())["test_samples"] == 12
    assert len(rows(out)) == 24
    spread = json.loads((tmp_path / "run-folds.json").read_text())
    assert spread["folds"] == FOLDS and json.loads(outcome.out)["cross_validation"] == spread


def test_a_class_that_a_fold_would_lack_is_named(convolve: Convolve, shades: Path, tmp_path: Path) -> None:
    for path in sorted((shades / "light").iterdir())[2:]:
        path.unlink()
    said = "class light has 2 images", "use --folds 2, add more images of it, or leave the class out"
    outcome = train(convolve, shades, tmp_path / "run")
    assert outcome.code == 3 and all(words in outcome.err for words in said)
    assert [name for name in files_in(tmp_path) if not name.startswith("shades")] == []
    assert_refused(train(convolve, shades, tmp_path / "run", "--folds", "1"), 2, "give 2 or more")
    assert_refused(train(convolve, shades, tmp_path / "run", "--skip-unreadable"), 2, "leave --skip-unreadable out")


@pytest.mark.parametrize("has_test_part", [False, True])
def test_how_sure_the_last_model_is_it_learns_from_the_folds(
    has_test_part: bool, convolve: Convolve, shades: Path, photographs: Path, tmp_path: Path
) -> None:
    """Nothing of the training part is held out for it: each image was answered by a network that had not seen it."""
    out, data = tmp_path / "run", photographs if has_test_part else shades
    assert train(convolve, data, out, "--accept", "0.9", "--coverage", "0.8").code == 0
    known = load(out).confidence
    assert known is not None and known.record.learned_from == "cross-validation" and known.record.images == 24
    assert json.loads((out / "start.json").read_text())["train_samples"] == 24
    kept, answers = [], {}
    for fold in range(1, FOLDS + 1):
        path = tmp_path / f"run-fold{fold}"
        kept.append(load_file(path / "evaluation.safetensors")["distances_N"])
        found, temperature = load_file(path / "evaluation.safetensors"), load(path).confidence.record.temperature  # type: ignore[union-attr]
        logits_NK = found["probabilities_NK"].log() * temperature / known.record.temperature
        answers[fold] = 1 - logits_NK.softmax(1).gather(1, found["labels_N"][:, None])[:, 0]
    torch.testing.assert_close(known.distances_M, torch.cat(kept).sort().values)
    torch.testing.assert_close(known.scores_M, torch.cat([*answers.values()]).sort().values, atol=1e-5, rtol=1e-4)
    assert "How sure it is" in (out / "report.html").read_text(encoding="utf-8")
