"""`convolve train --find-lr`: the suggestion beside rates that people found by hand, and no trace in the run folder."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from command_line import Convolve, assert_refused, files_in
from convolve.find_lr import ramp_of
from convolve.recipes import resolve
from convolve.training.schedule import step_size

FEW = "--set", "model.variant=tiny", "--set", "run.threads=1"


@pytest.mark.parametrize("recipe", ["mnist", "mnist-fast"])  # rates per sample and on the mean gradient
def test_the_suggestion_is_near_the_published_rate(recipe: str, convolve: Convolve, tmp_path: Path) -> None:
    outcome = convolve("train", recipe, "--data", "sample", "--out", str(tmp_path / "run"), "--find-lr", "--json")
    assert outcome.code == 0
    found, published = json.loads(outcome.out), max(resolve(recipe, {}).schedule.learning_rates)
    assert published / 5 < found["suggested"] < 5 * published
    assert len(found["rates"]) == len(found["losses"]) <= 105  # with the short batches
    assert files_in(tmp_path) == ["run-find-lr.html"]
    assert f"--set {found['setting']}" in (tmp_path / "run-find-lr.html").read_text(encoding="utf-8")
    assert max(resolve(recipe, dict([found["setting"].split("=", 1)])).schedule.learning_rates) == found["suggested"]


@pytest.mark.parametrize("recipe", ["mnist", "cifar10-fast"])
def test_the_rate_grows_by_one_factor(recipe: str) -> None:
    ramp = ramp_of(resolve(recipe, {}), 100)
    size = ramp.run.global_batch_size
    rates = [
        step_size(ramp.optimizer, ramp.schedule, step * size, size, 10**9, total_samples=10**9).lr
        for step in range(100)
    ]
    assert rates[0] == pytest.approx(1e-6) and rates[-1] == pytest.approx(10)
    assert [later / earlier for earlier, later in pairwise(rates)] == pytest.approx([10 ** (7 / 99)] * 99)


def test_where_nothing_is_to_be_learned_no_rate_is_suggested(convolve: Convolve, tmp_path: Path) -> None:
    noise = "train", "mnist", "--fake-data", "--find-lr", "--out", str(tmp_path / "run"), *FEW
    assert_refused(convolve(*noise, "--set", "run.global_batch_size=8"), 2, "the loss falls at no learning rate")
    assert files_in(tmp_path) == []
