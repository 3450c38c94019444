"""Images that cannot be read: named all at once, left out where that is asked for, and then the figures say so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from command_line import Convolve, Outcome, assert_failed
from convolve.training.calibration import wilson_interval

SMALL = ("--threads", "1", *(f"--set={each}" for each in ("model.variant=tiny", "run.epochs=1", "run.precision=fp32")))
COUNTS = {"train": 120, "test": 30}
DAMAGED = (3, 7, 11)


def pictures(folder: Path) -> Path:
    """Two classes, told apart by their brightness, as good PNG files: train/dark/0.png and so on."""
    rng = np.random.default_rng(1)
    for part, count in COUNTS.items():
        for level, name in ((60, "dark"), (180, "light")):
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                image = rng.integers(level - 40, level + 40, (40, 40, 3), np.uint8)
                cv2.imwrite(str(folder / part / name / f"{number}.png"), image)
    return folder


def damage(folder: Path, numbers: tuple[int, ...]) -> None:
    for number in numbers:
        file = folder / f"{number}.png"
        file.write_bytes(file.read_bytes()[:60])


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures(tmp_path_factory.mktemp("good"))


@pytest.fixture
def photos(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "photos"))


def train(convolve: Convolve, data: Path, out: Path, *words: object) -> Outcome:
    return convolve("train", "cifar10-aug", "--data", data, "--out", out, *SMALL, *words)


def result(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "result.json").read_text())
    return found


@pytest.mark.parametrize("is_cached", [True, False])
def test_test_images_are_named_all_at_once_or_left_out(
    is_cached: bool, photos: Path, tmp_path: Path, convolve: Convolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_cached:
        monkeypatch.setattr("convolve.data.caching.CACHE_BYTES", 1000)
    damage(photos / "test" / "light", DAMAGED)
    run = tmp_path / "run"
    outcome = train(convolve, photos, run)
    assert_failed(outcome, 3, "3 of 60 images", *(f"{number}.png" for number in DAMAGED), "--skip-unreadable")
    assert "check-data DATA --write-table FILE" in outcome.err  # it leaves out those of the training part, too

    outcome = train(convolve, photos, run, "--skip-unreadable")  # goes on with the run
    assert outcome.code == 0 and "3 test images could not be read" in outcome.out
    assert outcome.err.count("warning: 3 of 60 images") == 1
    found = result(run)
    assert found["test_unreadable"] == 3
    assert tuple(found["test_error_interval"]) == wilson_interval(found["test_error"], 57)
    assert f"{found['test_error']:.2%} (95% interval" in outcome.out
    page = (run / "report.html").read_text()
    assert "of 57 wrong" in page and "3 more could not be read" in page
    card = (run / "model" / "model-card.md").read_text()
    assert "of 57 images wrong" in card and "except 3 images that could not be read" in card

    outcome = convolve("evaluate", run, "--data", photos)
    assert_failed(outcome, 3, "3 of 60 images", *(f"{number}.png" for number in DAMAGED), "--skip-unreadable")
    said = json.loads(convolve("evaluate", run, "--data", photos, "--skip-unreadable", "--views", 2, "--json").out)
    assert (said["samples"], said["test_unreadable"]) == (57, 3)
    assert (said["test_error"], said["test_error_interval"]) == (found["test_error"], found["test_error_interval"])
    assert sum(row["samples"] for row in said["classes"]) == 57
    text = convolve("evaluate", run, "--data", photos, "--skip-unreadable").out
    assert text.startswith("57 of 60 test images from ")


def test_pictures_of_errors_are_those_of_the_images_that_are_left(
    photos: Path, tmp_path: Path, convolve: Convolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cached or decoded on demand, with the first images left out: the same evaluation, picture by picture."""
    from safetensors.numpy import load_file

    damage(photos / "test" / "dark", (0, 1, 10, 11))
    assert train(convolve, photos, tmp_path / "cached", "--skip-unreadable").code == 0
    monkeypatch.setattr("convolve.data.caching.CACHE_BYTES", 1000)
    words = ("--skip-unreadable", "--set=data.resize=square")
    assert train(convolve, photos, tmp_path / "exact", *words).code == 0
    monkeypatch.undo()
    assert train(convolve, photos, tmp_path / "again", *words).code == 0
    one, other = (load_file(tmp_path / name / "evaluation.safetensors") for name in ("exact", "again"))
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_all_test_images_unreadable(photos: Path, tmp_path: Path, convolve: Convolve) -> None:
    for file in (photos / "test").rglob("*.png"):
        file.write_bytes(b"")
    assert_failed(train(convolve, photos, tmp_path / "run", "--skip-unreadable"), 3, "60 of 60 images")


def test_of_ones_own_training_images_a_hundredth_may_be_damaged(
    photos: Path, tmp_path: Path, convolve: Convolve
) -> None:
    """Of 240: two. They are named and counted; a number says otherwise."""
    damage(photos / "train" / "dark", DAMAGED[:2])
    outcome = train(convolve, photos, tmp_path / "run")
    assert outcome.code == 0 and outcome.err.count("another image replaces it") == 2
    assert "2 training images could not be read: other images replaced them" in outcome.out
    assert result(tmp_path / "run")["train_damaged"] == 2
    strict = train(convolve, photos, tmp_path / "strict", "--set=data.damaged_limit=0")
    assert_failed(strict, 3, "2 of 240 images", "3.png", "7.png")
    damage(photos / "train" / "dark", DAMAGED[2:])
    outcome = train(convolve, photos, tmp_path / "more")
    assert_failed(
        outcome,
        3,
        "3 training images are damaged, but data.damaged_limit allows only 2",
        "3.png",
        "11.png",
        "--write-table",
    )
    assert train(convolve, photos, tmp_path / "more", "--set=data.damaged_limit=3").code == 0


def test_published_sets_stay_strict(photos: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from convolve.data.build import build_data
    from convolve.data.open import open_data
    from convolve.errors import DataError
    from convolve.recipes import resolve

    damage(photos / "train" / "dark", DAMAGED[:1])
    recipe, splits = resolve("cifar10-aug", {}), open_data(str(photos))
    assert len(build_data(recipe, splits, threads=1).loader.order(0)) == 240
    with pytest.raises(DataError, match=r"3\.png"):
        build_data(recipe, replace(splits, name="cifar10"), threads=1)


def test_the_epoch_that_is_kept_is_named(photos: Path, tmp_path: Path, convolve: Convolve) -> None:
    words = ("--set=run.epochs=3", "--set=run.keep=best", "--set=data.validation_fraction=0.2")
    outcome = train(convolve, photos, tmp_path / "run", *words)
    epoch = result(tmp_path / "run")["model_epoch"]
    assert epoch in (1, 2, 3) and f"after 3 epochs, the model is that of epoch {epoch}, " in outcome.out
    assert "the model is that of" not in train(convolve, photos, tmp_path / "last").out


def test_two_models_on_the_same_images(
    photos: Path, tmp_path: Path, convolve: Convolve, model: Path, model_of_letters: Path
) -> None:
    assert train(convolve, photos, tmp_path / "one").code == 0
    assert train(convolve, photos, tmp_path / "two", "--seed", 5).code == 0
    words = ("evaluate", tmp_path / "one", tmp_path / "two", "--data", photos)
    both = json.loads(convolve(*words, "--json").out)
    first, second = (
        json.loads(convolve("evaluate", tmp_path / name, "--data", photos, "--json").out) for name in ("one", "two")
    )
    assert {name: both[name] for name in first} == first
    assert both["other_error"] == second["test_error"]
    assert both["difference"] == pytest.approx(second["test_error"] - first["test_error"])
    assert both["wrong_in_other_only"] - both["wrong_in_model_only"] == second["errors"] - first["errors"]
    low, high = both["difference_interval"]
    assert low <= both["difference"] <= high
    text = convolve(*words).out
    assert f"the other model: error {second['test_error']:.2%}" in text and "difference: " in text
    outcome = convolve("evaluate", model, model_of_letters, "--data", "sample")
    assert_failed(outcome, 2, "do not know the same classes (0, 1")


def test_two_models_are_compared_on_what_neither_has_learned(good: Path, tmp_path: Path, convolve: Convolve) -> None:
    """One set without a test part, and a part of it: what one of the models holds out the other may have learned."""
    whole = Path(shutil.copytree(good / "train", tmp_path / "whole"))
    part = Path(shutil.copytree(whole, tmp_path / "part"))
    for number in range(0, 120, 3):
        (part / "dark" / f"{number}.png").unlink()
    assert train(convolve, whole, tmp_path / "one").code == train(convolve, part, tmp_path / "two").code == 0
    both = json.loads(convolve("evaluate", tmp_path / "one", tmp_path / "two", "--data", whole, "--json").out)
    alone = [
        json.loads(convolve("evaluate", tmp_path / name, "--data", whole, "--json").out)["samples"]
        for name in ("one", "two")
    ]
    assert 0 < both["samples"] <= min(alone)


def test_the_labels_of_the_other_model_go_by_name(model: Path, tmp_path: Path, convolve: Convolve) -> None:
    """The same network with its classes in another order answers the same."""
    from convolve.loading import load

    asked = load(model)
    turned = load(model)
    turned.class_names = tuple(reversed(asked.class_names))
    (final,) = [layer for layer in turned.module.modules() if getattr(layer, "out_features", 0) == 10]
    final.weight.data, final.bias.data = final.weight.data.flip(0), final.bias.data.flip(0)
    turned.save(tmp_path / "turned")
    said = json.loads(convolve("evaluate", model, tmp_path / "turned", "--data", "sample", "--json").out)
    assert said["other_errors"] == said["errors"]
    assert said["wrong_in_model_only"] == said["wrong_in_other_only"] == 0
