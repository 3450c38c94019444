"""Unequal classes: what an image of each counts, how often it comes, and what is said of the rare ones."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from command_line import Convolve
from convolve.data.balance import balanced_order, class_weights, warn_of_rare_classes
from convolve.data.dataset import Dataset
from convolve.data.loader import Loader
from convolve.data.sources.source import ArraySource
from convolve.errors import UsageError
from convolve.recipe import Recipe, with_values
from convolve.specs.data import DataSpec

NAMES = ("ant", "bee", "cow")
LABELS = np.repeat([0, 1, 2], [600, 290, 10])


def test_weights_are_scikit_learns():
    """`compute_class_weight("balanced", ...)` of scikit-learn 1.9.1 gives these."""
    np.testing.assert_allclose(class_weights(LABELS, NAMES, {}), [0.5, 1.0344827586206897, 30.0])
    given = np.array(class_weights(LABELS, NAMES, {"cow": 4.0}))
    np.testing.assert_allclose(given / given[0], [1, 1, 4])
    assert (given * [600, 290, 10]).sum() == pytest.approx(900)  # 1 in the mean: the learning rate stays what it is
    absent = class_weights(np.array([0, 0, 2]), NAMES, {})
    np.testing.assert_allclose(absent, [0.75, 1.0, 1.5])
    with pytest.raises(UsageError, match=r"data\.class_weights: unknown class 'caw'; did you mean 'cow'"):
        class_weights(LABELS, NAMES, {"caw": 2.0})


def test_an_order_shows_each_class_equally_often():
    order = balanced_order(LABELS, class_weights(LABELS, NAMES, {}), np.random.default_rng(0))
    assert len(order) == 900 and np.bincount(LABELS[order]).tolist() == [300, 300, 300]
    times = np.bincount(order, minlength=900)
    assert times[:600].max() == 1 and {*times[600:890]} == {1, 2} and {*times[890:]} == {30}
    assert len({*LABELS[order][:20].tolist()}) == 3  # mixed
    double = balanced_order(LABELS, class_weights(LABELS, NAMES, {"cow": 2.0}), np.random.default_rng(0))
    assert np.bincount(LABELS[double]).tolist() == [593, 287, 20]


def test_a_loader_takes_that_order_and_each_pass_is_another():
    source = ArraySource(torch.zeros(900, 1, 2, 2, dtype=torch.uint8), torch.from_numpy(LABELS))
    weights = class_weights(LABELS, NAMES, {})
    loader = Loader((Dataset(source),), (64,), "shuffled", (), 0.0, 1.0, seed=1, sampling_K=weights)
    seen = [torch.cat([labels for _, labels in loader.epoch(epoch)]) for epoch in range(2)]
    for labels in seen:
        assert labels.bincount().tolist() == [300, 300, 300]
    assert {*loader.order(0)} != {*loader.order(1)}
    np.testing.assert_array_equal(loader.order(1), loader.order(1))


def test_rare_classes_are_named():
    said: list[str] = []
    warn_of_rare_classes(LABELS, NAMES, said.append)
    assert len(said) == 1 and said[0].startswith("under 5 % of the 600 training images of ant: cow (10)")
    warn_of_rare_classes(np.repeat([0, 1, 2], [200, 10, 0]), NAMES, said.append)  # just 5 %, and one that is absent
    assert len(said) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data.class_weights": '{"a": 2}'}, "data.class_weights needs data.balance=sampling or data.balance=loss"),
        ({"data.balance": "loss", "data.class_weights.a": "0"}, "data.class_weights.a must be above 0, got 0"),
        ({"data.balance": "loss", "data.class_weights.a": "x"}, "data.class_weights.a must be a number, got 'x'"),
        ({"data.balance": "sampling", "data.order": "cntk"}, "data.balance=sampling needs data.order=shuffled"),
        ({"data.balance": "sampling", "data.hard_fraction": 0.5}, "and data.hard_fraction=1; or choose loss"),
        ({"data.balance": "los"}, "data.balance: unknown value 'los'; did you mean 'loss'?"),
    ],
)
def test_what_cannot_be_is_refused(settings, message):
    with pytest.raises(UsageError) as caught:
        with_values(Recipe("x"), settings)
    assert message in str(caught.value)


def test_weights_are_given_by_name():
    by_path = with_values(Recipe("x"), {"data.balance": "loss", "data.class_weights.roses": "5"})
    by_json = with_values(Recipe("x"), {"data.balance": "loss", "data.class_weights": '{"roses": 5}'})
    assert by_path == by_json and by_path.data == DataSpec(balance="loss", class_weights={"roses": 5.0})


@pytest.fixture(scope="module")
def unequal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright and dark squares that are hard to tell apart, 120 and 5 of them."""
    folder, rng = tmp_path_factory.mktemp("unequal"), np.random.default_rng(0)
    for split, counts in (("train", (120, 5)), ("val", (20, 20))):
        for name, count, level in (("dark", counts[0], 110), ("light", counts[1], 135)):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                image = rng.normal(level, 40, (8, 8, 3)).clip(0, 255).astype(np.uint8)
                cv2.imwrite(str(folder / split / name / f"{number}.png"), image)
    return folder


def test_training_warns_of_a_rare_class_and_balances_it(unequal: Path, tmp_path: Path, convolve: Convolve) -> None:
    common = ("--data", unequal, "--set", "data.image_size=28", "--epochs", "3", "--threads", "1", "--set")
    found = {}
    for balance in ("none", "sampling", "loss"):
        told = convolve("train", "mnist", *common, f"data.balance={balance}", "--out", tmp_path / balance)
        warned = "under 5 % of the 120 training images of dark: light (5)" in told.err
        assert warned == (balance == "none"), told.err
        found[balance] = json.loads((tmp_path / balance / "result.json").read_text())
    recalls = {balance: result["classes"][1]["recall"] for balance, result in found.items()}
    assert recalls["none"] < 0.3 and min(recalls["sampling"], recalls["loss"]) > recalls["none"] + 0.3, recalls
    for result in found.values():
        names, images = zip(*((row["name"], row["images"]) for row in result["classes"]), strict=True)
        assert names == ("dark", "light") and images == (20, 20)
        assert result["test_balanced_error"] == pytest.approx(result["test_error"])  # as many of each
