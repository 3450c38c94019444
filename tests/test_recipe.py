"""Recipes: one mechanism for Python, files and --set; unknown keys and wrong values are refused by their path."""

import json
import os
from pathlib import Path

import pytest
import yaml

from convolve.cli import main
from convolve.errors import ConvolveError, UsageError
from convolve.recipe import Recipe, from_mapping, to_mapping, with_values
from convolve.recipe_values import differences, leaf_paths, steps_text
from convolve.recipes import RECIPES, load_recipe
from convolve.specs.schedule import PlateauSpec
from convolve.transforms.color import Color
from convolve.transforms.crop import Crop
from convolve.transforms.flip import Flip
from convolve.transforms.intensity import Intensity
from convolve.transforms.pad import Pad
from convolve.transforms.scale import Scale
from convolve.transforms.shift import Shift


@pytest.mark.parametrize("name", RECIPES)
def test_round_trip(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A recipe survives JSON, YAML, and what `convolve show` prints is itself a recipe file."""
    recipe = load_recipe(name)
    assert from_mapping(json.loads(json.dumps(to_mapping(recipe)))) == recipe
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(to_mapping(recipe)))
    assert load_recipe(str(tmp_path / "r.yaml")) == recipe
    assert main(["show", name]) == 0
    (tmp_path / "shown.yaml").write_text(capsys.readouterr().out)
    assert load_recipe(str(tmp_path / "shown.yaml")) == recipe


def test_mnist_is_cntks() -> None:
    """Examples/Image/Classification/ConvNet/Python/ConvNet_MNIST.py of CNTK 2.7, number by number."""
    recipe = load_recipe("mnist")
    assert recipe.schedule.learning_rates == (0.001,) * 10 + (0.0005,) * 10 + (0.0001,)
    assert recipe.schedule.reference_batch_size == 1
    assert recipe.optimizer.momentum == (0.0,) * 5 + (1024.0,)
    assert recipe.optimizer.momentum_unit == "time_constant_samples"
    assert recipe.optimizer.unit_gain
    assert (recipe.run.epochs, recipe.run.global_batch_size, recipe.data.scale) == (40, 64, 1 / 256)


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("run.epochs", "3", 3),
        ("schedule.learning_rates", "0.1*2:0.01", (0.1, 0.1, 0.01)),
        ("model.dropout", "0", (0.0,)),
        ("data.progressive_sizes", "128:160", (128.0, 160.0)),
        ("data.progressive_sizes", "0.5:1", (0.5, 1.0)),
        ("data.progressive_sizes", "", ()),
        ("optimizer.unit_gain", "False", False),
        ("published_error", "none", None),
        ("name", "mine", "mine"),
        ("data.train_transforms", '[{"kind": "shift", "pixels": 1}]', (Shift(1),)),
    ],
)
def test_set(path: str, text: str, value: object) -> None:
    assert leaf_paths(with_values(load_recipe("mnist"), {path: text}))[path] == value


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("run.epoch", "3", r"run\.epoch: unknown field 'epoch'; did you mean 'epochs'\?"),
        ("epochs", "3", r"epochs: unknown field 'epochs'"),
        ("run", "3", r"run has fields of its own .*run\.epochs"),
        ("run.epochs", "2.5", r"run\.epochs must be a whole number, got '2\.5'"),
        ("run.epochs", "0", r"run\.epochs must be at least 1 without a network to start from"),
        ("data.scale", "nan", r"data\.scale must be a number"),
        ("optimizer.name", "sdg", r"optimizer\.name: unknown optimizer 'sdg'; did you mean 'sgd'\?"),
        (
            "optimizer.name",
            "torch.adamv",
            r"optimizer\.name: unknown optimizer 'torch\.adamv'; did you mean 'torch\.adam",
        ),
        ("optimizer.arguments.betas", "0.9:0.9", r"for optimizers of torch\.optim, not for momentum_sgd"),
        ("adjust.every_epochs", "2", r"adjust was renamed to plateau"),
        ("plateau.every_epoch", "2", r"plateau\.every_epoch: unknown field .*did you mean 'every_epochs'"),
        ("plateau", "2", r"plateau has fields of its own .*plateau\.every_epochs"),
        ("optimizer.vector_rate", "2", r"optimizer\.vector_rate was renamed to optimizer\.bias_lr"),
        ("data.progressive_sizes", "12.5", r"data\.progressive_sizes must be parts up to 1, or whole numbers"),
        ("data.damaged_limit", "-1", r"data\.damaged_limit must be at least 0"),
        ("model.dropout", "", r"model\.dropout must be at least one value"),
        ("optimizer.momentum", "-1", r"optimizer\.momentum must be time constants"),
        ("schedule.learning_rates", "0.1*0:0.01", r"schedule\.learning_rates must be a repeat count of at least 1"),
        ("schedule.learning_rates", "0.1*300000000", r"at most 100,000 numbers, got '0\.1\*300000000'"),
        ("schedule.learning_rates", "0.1:" * 100_000 + "0.1", r"at most 100,000 numbers"),
        (
            "schedule.learning_rates",
            [0.1] * 100_001,
            r"at most 100,000 numbers, got \[0\.1, 0\.1, .*, \.\.\.\]$",
        ),
        ("run.global_batch_size", 10**400, r"must be a whole number, got a number of 400 digits"),
        ("run.seed", -(10**400), r"must be a whole number, got a number of 400 digits"),
        ("run.epochs", "9" * 5000, r"must be a whole number, got '9+\.\.\.9+'$"),
        ("schedule.learning_rates", "0.1*x", r"schedule\.learning_rates must be a whole number, got 'x'"),
        ("data.train_transforms", "shift", r"data\.train_transforms must be a list"),
        ("run.early_stopping_epochs", "3", r"needs run\.keep=best"),
        ("run.epochs.more", "3", r"run\.epochs\.more: run\.epochs has no fields of its own"),
    ],
)
def test_refused_by_path(path: str, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        with_values(load_recipe("mnist"), {path: text})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"name": "a", "run": {"epochs": 1', r"line 1, column"),
        ("[1, 2]", r"a recipe is a mapping"),
        ("{}", r"name is missing"),
        ('{"name": "../../x"}', r"name: no folder can be called '../../x'"),
        ('{"name": "nul"}', r"name: no folder"),
        (
            '{"name": "a", "data": {"train_transforms": [{"kind": "shft"}]}}',
            r"data\.train_transforms\[0\]\.kind: .*'shift'",
        ),
        ('{"name": "a", "data": {"train_transforms": [{"kind": "shift", "pixels": -1}]}}', r"at least 0"),
    ],
)
def test_bad_files_name_the_place(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(content)
    with pytest.raises(ConvolveError, match=message):
        load_recipe(str(path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.yaml", "name: &x a\nrun:\n  seed: *x\n", r"line 3, column 9: not YAML: a recipe must not use YAML aliases"),
        ("a.yaml", "a: &a {<<: *a}\n", r"a recipe must not use YAML aliases"),
        ("a.yaml", "name: a\nrun:\n  epochs: " + "[" * 5000, r"nested too deeply"),
        ("a.json", "[" * 100_000, r"nested too deeply"),
        ("a.json", " " * (1 << 20) + "{}", r"1,048,578 bytes, but at most 1,048,576 are expected"),
    ],
)  # fmt: skip
def test_files_that_stand_for_more_than_they_hold(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ConvolveError, match=message):
        load_recipe(str(tmp_path / name))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_pipes_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    (tmp_path / "folder.json").mkdir()
    for name in ("pipe.json", "zero.yaml", "folder.json"):
        with pytest.raises(UsageError, match="cannot read the recipe"):
            load_recipe(str(tmp_path / name))


def test_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'mnist-fast'"):
        load_recipe("mnist-fsat")


def test_differences_are_named() -> None:
    one = load_recipe("mnist")
    assert differences(one, with_values(one, {"run.seed": "1"})) == ["run.seed: 0 -> 1"]


def test_steps_text_is_read_back() -> None:
    values = (0.0, 0.0, 1024.0)
    assert steps_text(values) == "0*2:1024"
    assert with_values(Recipe("a"), {"model.dropout": steps_text((0.0, 0.5))}).model.dropout == (0.0, 0.5)
    per_sample = (0.9 ** (1 / 64), 0.1)  # more digits than a person would write
    assert with_values(Recipe("a"), {"optimizer.momentum": steps_text(per_sample)}).optimizer.momentum == per_sample


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('[{"kind": "pad", "pixels": 4, "value": 128}]', (Pad(4, 128),)),
        ('[{"kind": "crop", "side_ratio": 0.8, "hflip": false}]', (Crop(side_ratio=(0.8,), hflip=False),)),
        ('[{"kind": "crop", "side_ratio": "0.8", "hflip": null}]', (Crop(side_ratio=(0.8,)),)),
        ('[{"kind": "crop", "area_ratio": "0.5:1", "jitter_type": "uniratio"}]',
         (Crop(area_ratio=(0.5, 1.0), jitter_type="uniratio"),)),
        ('[{"kind": "scale", "width": 8, "height": 9, "scale_mode": "pad", "pad_value": 0}]',
         (Scale(8, 9, scale_mode="pad", pad_value=0),)),
        ('[{"kind": "crop", "area_ratio": [0.5, 1]}, {"kind": "flip", "probability": 0.2}]',
         (Crop(area_ratio=(0.5, 1.0)), Flip(0.2))),
        ('[{"kind": "color", "brightness_radius": 0.3}, {"kind": "intensity", "file": "a.xml"}]',
         (Color(0.3), Intensity("a.xml"))),
    ],
)  # fmt: skip
def test_transforms_of_images(text: str, value: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = with_values(load_recipe("cifar10-aug"), {"data.train_transforms": text, "data.mean_image": "m.xml"})
    assert recipe.data.train_transforms == value
    assert from_mapping(json.loads(json.dumps(to_mapping(recipe)))) == recipe
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(to_mapping(recipe)))
    assert main(["show", str(tmp_path / "r.yaml")]) == 0
    (tmp_path / "shown.yaml").write_text(capsys.readouterr().out)
    assert load_recipe(str(tmp_path / "shown.yaml")) == recipe


@pytest.mark.parametrize(
    ("setting", "text", "message"),
    [
        ("data.train_transforms", '[{"kind": "crop", "side_ratio": 1.5}]', r"crop\.side_ratio must be one number"),
        ("data.train_transforms", '[{"kind": "crop", "crop_typ": "center"}]', r"did you mean 'crop_type'"),
        ("data.train_transforms", '[{"kind": "crop", "crop_type": "multiview10"}]', "--views 10"),
        ("data.train_transforms", '[{"kind": "scale"}]', r"scale\.width must be in 1\.\."),
        ("data.train_transforms", '[{"kind": "pad", "value": 256}]', r"pad\.value must be in 0\.\.255"),
        ("data.train_transforms", '[{"kind": "pad", "side_ratio": 2}]', r"pad\.side_ratio must be in 0\.\.1, got 2"),
        ("data.mean", "1:2", r"data\.mean must be one number, or one for red, green and blue"),
        ("data.crop_ratio", "1.5", r"data\.crop_ratio must be in \(0, 1\], got 1\.5"),
        ("data.resize", "fill", r"data\.resize: .*cover"),
        ("data.image_size", "-1", r"data\.image_size must be N or WxH"),
        ("data.mean_image_layout", "rgb", r"data\.mean_image_layout: unknown value"),
    ],
)
def test_image_fields_that_are_refused(setting: str, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        with_values(load_recipe("cifar10-aug"), {setting: text})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"quantization_bits": "3"}, "distributed.quantization_bits must be one of 32, 16, 8, 4, 2, 1, got 3"),
        ({"method": "block_momentum"}, "block_samples and distributed.method=block_momentum .* must be given together"),
        ({"block_samples": "64"}, "block_samples and distributed.method=block_momentum .* must be given together"),
        ({"method": "block_momentum", "block_samples": "64", "quantization_bits": "1"}, "is for method=gradients"),
        (
            {"method": "model_averaging", "block_samples": "64", "nesterov": "false"},
            "do not apply to .*=model_averaging",
        ),
        ({"block_momentum_time_constant": "-1"}, "block_momentum_time_constant must be at least 0, got -1.0"),
        ({"block_learning_rate": "0"}, "block_learning_rate must be above 0"),
    ],
)
def test_settings_of_many_workers_that_are_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        with_values(load_recipe("mnist"), {f"distributed.{name}": text for name, text in settings.items()})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule.min_lr_per_sample": 1}, "min_lr_per_sample .*: nothing would be trained"),
        (
            {"schedule.min_lr_per_sample": 1e-9, "schedule.kind": "cosine", "schedule.warmup_fraction": 0.1},
            "min_lr_per_sample .*: nothing would be trained",
        ),
        ({"plateau.every_epochs": 1, "plateau.threshold": -0.1}, "rollback needs a rate that falls"),
        ({"plateau.factor": 1}, "rollback needs a rate that falls"),
    ],
)
def test_trainings_without_a_beginning_or_an_end_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        with_values(load_recipe("mnist"), settings)


def test_workers_that_take_local_steps_have_no_average_and_no_rollback() -> None:
    apart = {"distributed.method": "block_momentum", "distributed.block_samples": 64}
    for setting, message in (
        ("run.ema_epochs", r"run\.ema_epochs needs one network"),
        ("plateau.every_epochs", "rollback needs one network"),
    ):
        with pytest.raises(UsageError, match=message):
            with_values(load_recipe("mnist"), apart | {setting: 1})


def test_an_optimizer_of_torch_with_its_own_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"optimizer.name": "torch.adamw", "optimizer.arguments.betas": "0.9:0.95"}
    recipe = with_values(load_recipe("mnist"), settings)
    more = with_values(recipe, {"optimizer.arguments.weight_decay": "0.01"})
    assert more.optimizer.arguments == {"betas": (0.9, 0.95), "weight_decay": 0.01}
    assert from_mapping(json.loads(json.dumps(to_mapping(more)))) == more
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(to_mapping(more)))
    assert main(["show", str(tmp_path / "r.yaml")]) == 0
    (tmp_path / "shown.yaml").write_text(capsys.readouterr().out)
    assert load_recipe(str(tmp_path / "shown.yaml")) == more
    assert main(["show", str(tmp_path / "r.yaml"), "--schedule"]) == 0
    assert "PyTorch AdamW" in capsys.readouterr().out
    for setting, message in (
        (
            {"optimizer.arguments.beta": 1},
            r"optimizer\.arguments\.beta: unknown argument; torch\.adamw takes amsgrad, betas",
        ),
        ({"optimizer.arguments.lr": 1}, r"the learning rate comes from schedule\.learning_rates"),
        ({"optimizer.arguments.eps": "x"}, r"optimizer\.arguments\.eps must be a number"),
        ({"optimizer.l2": 0.1}, r"optimizer\.l2 is for CNTK's .*weight_decay in its place"),
    ):
        with pytest.raises(UsageError, match=message):
            with_values(recipe, setting)


def test_a_part_that_is_absent_comes_with_its_first_field_and_goes_again() -> None:
    plain = load_recipe("mnist")
    assert plain.plateau is None
    recipe = with_values(plain, {"plateau.factor": "0.5"})
    assert recipe.plateau == PlateauSpec(factor=0.5)
    assert from_mapping(json.loads(json.dumps(to_mapping(recipe)))) == recipe
    assert with_values(recipe, {"plateau.every_epochs": 3}).plateau == PlateauSpec(every_epochs=3, factor=0.5)
    assert with_values(recipe, {"plateau": "none"}) == plain
    assert "plateau.factor: None -> 0.5" in differences(plain, recipe)
    assert "plateau.factor: 0.5 -> None" in differences(recipe, plain)
