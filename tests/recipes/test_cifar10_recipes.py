"""The CIFAR-10 recipes are CNTK's, number by number."""

import json
from pathlib import Path

import pytest
import torch

from command_line import Convolve
from convolve.data.build import build_data
from convolve.data.sources.source import ArraySource
from convolve.data.splits import Splits
from convolve.recipe import Recipe, to_mapping, with_values
from convolve.recipe_values import differences
from convolve.recipes import load_recipe
from convolve.training.schedule import StepSize, step_size
from convolve.transforms.crop import Crop
from convolve.transforms.pad import Pad

NAMES = ("cifar10", "cifar10-aug", "cifar10-aug-lrn")


def sizes(recipe: Recipe, batch_size: int = 64) -> list[StepSize]:
    """The size of the first step of each epoch on the official 50,000 images."""
    total = 50_000 * recipe.run.epochs
    return [
        step_size(recipe.optimizer, recipe.schedule, 50_000 * epoch, batch_size, 50_000, total)
        for epoch in range(recipe.run.epochs)
    ]


def test_cifar10_steps() -> None:
    """0.0015625 per sample is 0.1 on the mean gradient of 64 samples; the momentum is 0.9 in every minibatch."""
    steps = sizes(load_recipe("cifar10"))
    assert [step.lr for step in steps] == pytest.approx([0.1] * 10 + [0.03] * 10 + [0.01] * 10)
    assert {step.momentum for step in steps} == {0.9}


@pytest.mark.parametrize("name", ["cifar10-aug", "cifar10-aug-lrn"])
def test_cifar10_aug_steps(name: str) -> None:
    """Time constants of 600 and 1200 samples leave exp(-64 / 600) and exp(-64 / 1200) after a minibatch."""
    steps = sizes(load_recipe(name))
    rates = [0.1] * 20 + [0.03] * 20 + [0.01] * 20 + [0.003] * 10 + [0.001] * 10
    assert [step.lr for step in steps] == pytest.approx(rates)
    momenta = [0.0] * 20 + [0.8988] * 20 + [0.9481] * 40
    assert [step.momentum for step in steps] == pytest.approx(momenta, abs=5e-5)
    last_batch = sizes(load_recipe(name), batch_size=50_000 % 64)[-1]  # the last one of an epoch has its own
    assert (last_batch.lr, last_batch.momentum) == pytest.approx((0.001 * 16 / 64, 0.9868), abs=5e-5)


@pytest.mark.parametrize("name", NAMES)
def test_what_all_three_share(name: str) -> None:
    recipe = load_recipe(name)
    assert (recipe.optimizer.name, recipe.optimizer.unit_gain, recipe.optimizer.l2) == ("momentum_sgd", True, 0.002)
    assert (recipe.run.global_batch_size, recipe.model.dropout, recipe.data.scale) == (64, (0.5,), 1 / 256)


def test_images() -> None:
    plain, augmented = load_recipe("cifar10").data, load_recipe("cifar10-aug").data
    assert (plain.mean, plain.mean_image, plain.train_transforms) == ((128,), "", ())
    assert augmented.mean_image == "train"
    crop = Crop(crop_type="randomside", side_ratio=(0.8,), jitter_type="uniratio")
    assert augmented.train_transforms == (Pad(pixels=4, value=128), crop)
    assert crop.mirrors


@pytest.mark.parametrize(
    ("side", "epochs", "seen"),
    [(32, 1, [32]), (32, 2, [24, 32]), (32, 4, [16, 24, 32, 32]), (64, 3, [32, 48, 64]), (50, 3, [24, 40, 50])],
)
def test_the_images_of_the_fast_one_grow(side: int, epochs: int, seen: list[int]) -> None:
    """To their own size, whatever that is, and also in a short run; borders grow with them."""
    table = ArraySource(torch.full((6, 3, side, side), 200, dtype=torch.uint8), torch.arange(6))
    recipe = with_values(load_recipe("cifar10-fast"), {"run.epochs": epochs, "data.image_size": side})
    data = build_data(recipe, Splits(table, table, tuple("abcdef"), "gray"), threads=1)
    shapes = [{tuple(images.shape[-2:]) for images, _ in data.loader.epoch(epoch)} for epoch in range(epochs)]
    assert shapes == [{(side, side)} for side in seen]
    assert data.preprocess.shape_CHW == (3, side, side)
    assert data.preprocess.padding == side // 8


def test_a_size_that_the_network_does_not_take(convolve: Convolve, tmp_path: Path) -> None:
    words = ["--fake-data", "--epochs", 1, "--out", tmp_path / "run", "--set"]
    outcome = convolve("train", "cifar10", *words, "data.progressive_sizes=0.5:1")
    assert outcome.code == 2
    assert "data.progressive_sizes: the network does not accept images of 16x16" in outcome.err


def test_normalization_is_all_that_lrn_adds() -> None:
    changes = differences(load_recipe("cifar10-aug"), load_recipe("cifar10-aug-lrn"))
    assert [change.split(":")[0] for change in changes] == ["name", "model.name", "published_error"]


# What is left of 32 pixels after each pair of convolutions, and the parameters: CNTK's logs and documentation.
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("variant", "maps", "parameters"), [("python", (16, 8), 1_195_594), ("brainscript", (15, 7), 949_834)]
)
def test_both_networks(
    name: str, variant: str, maps: tuple[int, int], parameters: int, convolve: Convolve, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(to_mapping(with_values(load_recipe(name), {"model.variant": variant}))))
    said = json.loads(convolve("show", path, "--json").out)
    assert said["parameters"] == parameters
    assert said["input_shape"] == [3, 32, 32]
    shapes = [layer["output_shape"] for layer in said["layers"] if layer["parameters"]]
    first, second = maps
    assert shapes == [[64, 32, 32], [64, 32, 32], [64, first, first], [64, first, first], [256], [128], [10]]
    pooled = [layer["output_shape"] for layer in said["layers"] if layer["kind"] == "MaxPool2d"]
    assert pooled == [[64, first, first], [64, second, second]]
    norms = [layer["output_shape"] for layer in said["layers"] if layer["kind"] == "LocalResponseNorm"]
    assert norms == ([[64, 32, 32], [64, first, first]] if name == "cifar10-aug-lrn" else [])
