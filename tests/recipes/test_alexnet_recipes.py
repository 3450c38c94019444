"""The AlexNet recipes: CNTK's are CNTK's, number by number; the one of today stretches with its epochs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from command_line import Convolve
from convolve.data.build import build_data
from convolve.data.sources.source import ArraySource
from convolve.data.splits import Splits
from convolve.importers.brainscript.job import TrainStep, read_job
from convolve.recipe import Recipe, with_values
from convolve.recipes import load_recipe
from convolve.training.schedule import StepSize, schedule_rows, step_size
from convolve.transforms.crop import Crop
from convolve.transforms.scale import Scale

TEXT = Path(__file__).parents[2] / "examples" / "BrainScript" / "AlexNet_ImageNet.cntk"
IMAGES = 1_281_167


def step(recipe: Recipe, samples_seen: int, batch_size: int = 256) -> StepSize:
    return step_size(recipe.optimizer, recipe.schedule, samples_seen, batch_size, IMAGES, IMAGES * recipe.run.epochs)


def test_steps_of_the_configuration() -> None:
    """0.1 for a minibatch of 256 with unit gain: 0.01 with the momentum of other toolkits. 143 images are left over."""
    recipe = load_recipe("alexnet")
    first = [step(recipe, IMAGES * epoch) for epoch in range(recipe.run.epochs)]
    assert [size.lr for size in first] == pytest.approx(
        [0.1] * 25 + [0.01] * 25 + [0.001] * 25 + [1e-4] * 25 + [1e-5] * 12
    )
    assert {size.momentum for size in first} == {0.9}
    last = step(recipe, IMAGES - 143, IMAGES % 256)
    assert (last.lr, last.momentum) == pytest.approx((0.1 * 143 / 256, 0.9 ** (143 / 256)))
    assert recipe.optimizer.unit_gain


def test_steps_of_the_script() -> None:
    """A tenth of the rates, without unit gain; rate and momentum are meant for any minibatch as it is."""
    recipe = load_recipe("alexnet-python")
    first = [step(recipe, IMAGES * epoch) for epoch in range(recipe.run.epochs)]
    assert [size.lr for size in first] == pytest.approx(
        [0.01] * 25 + [1e-3] * 25 + [1e-4] * 25 + [1e-5] * 25 + [1e-6] * 12
    )
    last = step(recipe, IMAGES - 143, IMAGES % 256)
    assert (last.lr, last.momentum, recipe.optimizer.unit_gain) == (0.01, 0.9, False)


def test_both_are_caffes_solver() -> None:
    """BVLC's AlexNet: base_lr 0.01, momentum 0.9, weight_decay 0.0005."""
    for name in ("alexnet", "alexnet-python"):
        first = schedule_rows(load_recipe(name), IMAGES)[0]
        assert (first.caffe_base_lr, first.caffe_momentum, first.caffe_weight_decay) == pytest.approx(
            (0.01, 0.9, 0.0005)
        )


def test_the_configuration_says_the_same() -> None:
    """CNTK's own text, as the BrainScript importer reads it."""
    (job,) = (part for part in read_job([str(TEXT)]).steps if isinstance(part, TrainStep))
    ours, theirs = load_recipe("alexnet"), job.recipe
    assert (ours.optimizer, ours.schedule) == (theirs.optimizer, theirs.schedule)
    assert ours.model.dropout == theirs.model.dropout
    assert (ours.run.epochs, ours.run.global_batch_size) == (theirs.run.epochs, theirs.run.global_batch_size)
    assert ours.data.train_transforms == job.reader.transforms


def test_images() -> None:
    for name in ("alexnet", "alexnet-python"):
        data = load_recipe(name).data
        assert (data.mean, data.scale, data.image_size) == ((114.0,), 1.0, 227)
        assert (data.resize, data.crop_ratio) == ("square", 227 / 256)
        crop, scale = data.train_transforms
        assert isinstance(crop, Crop) and crop.mirrors and crop.side_ratio == (227 / 256,)
        assert scale == Scale(227, 227)


def test_what_show_prints(convolve: Convolve) -> None:
    for name, parameters in (("alexnet", 62_003_496), ("alexnet-python", 75_634_984)):
        said = json.loads(convolve("show", name, "--json").out)
        assert (said["parameters"], said["input_shape"]) == (parameters, [3, 227, 227])
        assert len(said["class_names"]) == 1000
        shapes = {layer["name"]: layer["output_shape"] for layer in said["layers"]}
        assert (shapes["conv1"], shapes["norm1"], shapes["fc8"]) == ([96, 55, 55], [96, 55, 55], [1000])
    rows = json.loads(convolve("show", "alexnet", "--schedule", "--json").out)["schedule"]
    assert [row["from_epoch"] for row in rows] == [0, 25, 50, 75, 100]


def test_the_modern_one_stretches_with_its_epochs() -> None:
    recipe = load_recipe("alexnet-modern")
    peak = recipe.schedule.learning_rates[0]
    for epochs in (10, 30):
        shorter = replace(recipe, run=replace(recipe.run, epochs=epochs))
        total = IMAGES * epochs
        rates = [step(shorter, round(part * total)).lr for part in (0, 0.05, 0.1, 0.55, 1)]
        assert rates == pytest.approx([0, peak / 2, peak, peak / 2, 0], abs=1e-6)
    assert recipe.run.label_smoothing and recipe.run.ema_epochs


def test_the_modern_one_grows_its_images() -> None:
    """On noise: the sizes that the network sees in 8 passes, and what it is tested on."""
    table = ArraySource(torch.randint(0, 256, (6, 3, 90, 72), dtype=torch.uint8), torch.arange(6))
    recipe = with_values(
        load_recipe("alexnet-modern"),
        {"data.progressive_sizes": "67:72:80:99", "data.image_size": 99, "run.epochs": 8, "run.global_batch_size": 4},
    )
    data = build_data(recipe, Splits(table, table, tuple("abcdef"), "noise"), threads=1)
    sizes = [{tuple(images.shape[-2:]) for images, _ in data.loader.epoch(epoch)} for epoch in range(8)]
    assert sizes == [{(side, side)} for side in (67, 67, 72, 72, 80, 80, 99, 99)]
    assert data.preprocess.shape_CHW == (3, 99, 99)
    assert {tuple(images.shape[1:]) for images, _ in data.test.batches(torch.arange(6).numpy(), 6)} == {(3, 99, 99)}
    images, labels = next(data.loader.epoch(7))
    again, same = next(data.loader.epoch(7))
    assert torch.equal(images, again) and torch.equal(labels, same)
