"""`convolve reproduce`: seeds that were trained before count as they are; the figures are those of the runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convolve as package
from command_line import Convolve, assert_refused
from convolve.atomic import write_json
from convolve.errors import InterruptedTraining
from convolve.recipe import Recipe, to_mapping, with_values
from convolve.recipes import load_recipe
from convolve.records import Hardware, Result, Start
from convolve.records.reading import to_json


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    settings = {"model.variant": "tiny", "run.epochs": 2, "run.threads": 1, "run.precision": "fp32"}
    return with_values(load_recipe("mnist"), settings | {"name": "tiny"})


@pytest.fixture(scope="session")
def recipe_file(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.json"
    write_json(path, to_mapping(recipe))
    return path


def interrupted(recipe: Recipe, data: Path, out: Path, **overrides: Any) -> None:
    """A run that was stopped in its second epoch."""

    def stop(event: str, values: dict[str, Any]) -> None:
        if event == "step" and values["samples_seen"] > 600:
            raise KeyboardInterrupt

    with pytest.raises(InterruptedTraining):
        package.train(recipe, data=str(data), out=out, progress=stop, **overrides)


def events(run: Path) -> list[str]:
    return [json.loads(line)["event"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_goes_on_from_what_is_there(
    recipe: Recipe, recipe_file: Path, tiny_mnist: Path, tmp_path: Path, convolve: Convolve
) -> None:
    """Seed 0 is finished, seed 1 was interrupted, seed 2 has not begun."""
    finished, begun, fresh = (tmp_path / f"tiny-{seed}" for seed in range(3))
    done = package.train(recipe, data=str(tiny_mnist), out=finished, seed=0)
    undisturbed = package.train(recipe, data=str(tiny_mnist), out=tmp_path / "undisturbed", seed=1)
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    interrupted(recipe, tiny_mnist, begun, seed=1, checkpoint_seconds=9)
    outcome = convolve("reproduce", recipe_file, "--seeds", 3, "--data", tiny_mnist, "--runs", tmp_path, "--threads", 1)

    assert outcome.code == 0, outcome.err
    assert (finished / "report.html").exists()  # which it lacked
    del before[finished / "state.json"]
    assert {path: path.read_bytes() for path in before} == before
    assert "seed 0" not in outcome.err and "seed 1" in outcome.err
    assert "resume" in events(begun) and "resume" not in events(fresh)
    assert events(begun).count("epoch") == events(fresh).count("epoch") == 2
    assert (begun / "report.html").exists() and (fresh / "report.html").exists()
    summary = json.loads((tmp_path / "tiny.json").read_text())
    assert summary["runs"][0] == done.result
    assert summary["runs"][1]["test_loss"] == undisturbed.result["test_loss"]
    assert [run["seed"] for run in summary["runs"]] == [0, 1, 2]
    assert str(tmp_path / "tiny.json") in outcome.out and "published  0.50%" in outcome.out


def test_views_are_averaged_for_each_seed(
    recipe: Recipe, recipe_file: Path, tiny_mnist: Path, tmp_path: Path, convolve: Convolve
) -> None:
    """As `convolve evaluate --views` averages them; errors after each epoch stand beside."""
    words = ["reproduce", recipe_file, "--seeds", 1, "--data", tiny_mnist, "--runs", tmp_path, "--threads", 1]
    assert_refused(convolve(*words, "--views", 3), 2, "views can be 1, 2, 6 or 10, not 3")
    assert not (tmp_path / "tiny-0").exists()
    outcome = convolve(*words, "--views", 6)
    assert outcome.code == 0, outcome.err
    summary = json.loads((tmp_path / "tiny.json").read_text())
    asked = convolve("evaluate", tmp_path / "tiny-0", "--data", tiny_mnist, "--views", 6, "--json")
    evaluated = json.loads(asked.out)
    assert summary["over_views"]["errors"] == [evaluated["views_error"]]
    assert f"6 views{evaluated['views_error']:>9.2%}" in outcome.out
    assert summary["curves"][0]["test_error"][-1] == summary["runs"][0]["test_error"] == evaluated["test_error"]
    assert "--views 6 --seeds 1" in summary["command"]


@pytest.fixture
def three_finished(tmp_path: Path, recipe: Recipe) -> Path:
    """What is asked of finished runs: recipe, start, result."""
    for seed, (error, seconds) in enumerate([(0.004, 10.0), (0.007, 30.0), (0.005, 11.0)]):
        run = tmp_path / f"tiny-{seed}"
        write_json(run / "state.json", {"state": "reported"})
        write_json(run / "recipe.json", to_mapping(with_values(recipe, {"run.seed": seed, "run.threads": 1 + seed})))
        known: dict[str, Any] = {
            "recipe": "tiny", "device": "cpu", "precision": "bf16", "threads": 1 + seed, "parameters": 1,
            "data_name": "digits", "data_fingerprint": "f", "versions": {},
            "hardware": Hardware("Imaginary 9000", 2, None, None),
        }  # fmt: skip
        start = Start(
            precision_reason="", workers=1, from_model=None, data="digits", mean_image_sha256=None, train_samples=600,
            test_samples=150, **known,
        )  # fmt: skip
        result = Result(
            test_error=error, test_error_top5=None, test_loss=1.0, epochs=2, model_epoch=None, samples_seen=1200,
            train_seconds=seconds, total_seconds=seconds, images_per_second=1000.0, data_wait_fraction=0.0,
            world_size=1, bytes_sent=0, seed=seed, **known,
        )  # fmt: skip
        write_json(run / "start.json", to_json(start))
        write_json(run / "result.json", to_json(result))
    return tmp_path


def test_finished_runs_are_summed_up_without_their_data(
    three_finished: Path, recipe_file: Path, convolve: Convolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convolve.data.open.open_data", None)
    monkeypatch.setattr("convolve.run.train", None)
    out = three_finished / "elsewhere" / "figures.json"
    outcome = convolve("reproduce", recipe_file, "--seeds", 3, "--runs", three_finished, "--out", out, "--json")

    assert outcome.code == 0, outcome.err
    summary = json.loads(outcome.out)
    assert summary == json.loads(out.read_text())
    assert (summary["n"], summary["published_error"]) == (3, 0.005)
    for name, values in (("test_error", [0.004, 0.007, 0.005]), ("train_seconds", [10.0, 30.0, 11.0])):
        assert list(summary[name].values()) == pytest.approx(
            [np.mean(values), np.std(values, ddof=1), np.min(values), np.max(values)]
        )


def test_one_seed_has_no_deviation(three_finished: Path, recipe_file: Path, convolve: Convolve) -> None:
    outcome = convolve("reproduce", recipe_file, "--seeds", 1, "--runs", three_finished)
    assert outcome.code == 0, outcome.err
    assert "0.40%" in outcome.out and "std" not in outcome.out
    assert json.loads((three_finished / "tiny.json").read_text())["test_error"]["standard_deviation"] is None


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        (
            "recipe.json",
            {"published_error": 0.1},
            ("tiny-1", "another recipe", "published_error: 0.1 -> 0.005", "--runs"),
        ),
        ("start.json", {"data_fingerprint": "g"}, ("tiny-1", "other data", "tiny-0", "--runs")),
    ],
)
def test_a_run_of_something_else_is_refused(
    file: str,
    change: dict[str, Any],
    words: tuple[str, ...],
    three_finished: Path,
    recipe_file: Path,
    convolve: Convolve,
) -> None:
    path = three_finished / "tiny-1" / file
    write_json(path, json.loads(path.read_text()) | change)
    assert_refused(convolve("reproduce", recipe_file, "--runs", three_finished), 1, *words)
    assert not (three_finished / "tiny.json").exists()


def test_a_run_of_another_seed_is_refused(three_finished: Path, recipe_file: Path, convolve: Convolve) -> None:
    (three_finished / "tiny-2").rename(three_finished / "tiny-1-was-2")
    (three_finished / "tiny-1").rename(three_finished / "tiny-2")
    assert_refused(convolve("reproduce", recipe_file, "--runs", three_finished), 1, "tiny-2", "run.seed: 1 -> 2")


def test_finished_runs_of_other_data_than_given_are_refused(
    three_finished: Path, recipe_file: Path, tiny_mnist: Path, convolve: Convolve
) -> None:
    outcome = convolve("reproduce", recipe_file, "--runs", three_finished, "--data", tiny_mnist)
    assert_refused(outcome, 1, "tiny-0 was trained on other data than this", "--data")


def test_no_seed_is_refused(convolve: Convolve) -> None:
    assert_refused(convolve("reproduce", "mnist", "--seeds", 0), 2, "--seeds")
