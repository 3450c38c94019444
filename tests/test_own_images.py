"""From a folder of photographs to a model: training, resuming, evaluating, predicting, streamed or in memory."""

from __future__ import annotations

import json
import re
import shutil
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from command_line import Convolve, assert_refused
from convolve.data.build import build_data
from convolve.data.dataset import Dataset
from convolve.data.lists import open_lists
from convolve.data.sources.source import ArraySource
from convolve.errors import InterruptedTraining
from convolve.formats.decode import decode_image
from convolve.formats.mean_xml import write_mean_xml
from convolve.loading import load
from convolve.recipe import with_values
from convolve.recipes import load_recipe
from convolve.run import train as run_recipe
from convolve.training.trainer import Trainer
from convolve.transforms.preprocess import Preprocess, fit_image

CLASSES = {"blue": (200, 60, 40), "green": (40, 180, 60), "rød": (30, 50, 190)}
SETTINGS = ("model.variant=tiny", "run.epochs=2", "run.global_batch_size=16", "run.threads=1", "run.precision=fp32")
# As AlexNet's recipe: crops of various places from the files, scaled to what the network sees.
FROM_FILES = (
    "data.image_size=24", "data.resize=square", "data.crop_ratio=0.875", "data.mean_image=",
    'data.train_transforms=[{"kind": "crop", "crop_type": "randomside", "side_ratio": 0.875}, '
    '{"kind": "scale", "width": 24, "height": 24}, {"kind": "color", "brightness_radius": 0.1}, {"kind": "flip"}]',
)  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 photographs of each of three classes, of different sizes; the classes differ in color."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name, color in CLASSES.items():
        (folder / name).mkdir()
        for number in range(40):
            height, width = rng.integers(30, 130, size=2)
            noise = rng.normal(0, 25, (height, width, 3))
            pixels = np.clip(np.array(color) + rng.normal(0, 30, 3) + noise, 0, 255).astype(np.uint8)
            (folder / name / f"{number}.jpg").write_bytes(cv2.imencode(".jpg", pixels)[1].tobytes())
    return folder


def write_noise(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), np.uint8)
    path.write_bytes(cv2.imencode(".jpg", pixels)[1].tobytes())


def all_fitted(photos: Path, want: Preprocess) -> np.ndarray:
    files = sorted(photos.rglob("*.jpg"))
    return np.stack([fit_image(decode_image(file.read_bytes(), file), want)[0] for file in files])


def train(convolve: Convolve, photos: Path, out: Path, *words: str) -> str:
    """What a finished training said on stderr."""
    settings = [f"--set={word}" if "=" in word else word for word in (*SETTINGS, *words)]
    outcome = convolve("train", "cifar10-aug", "--data", photos, "--out", out, *settings)
    assert outcome.code == 0, outcome.err
    return outcome.err


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = with_values(load_recipe("cifar10-aug"), dict(word.split("=", 1) for word in SETTINGS))
    return run_recipe(recipe, data=str(photos), out=tmp_path_factory.mktemp("own") / "run").folder.path


def test_it_says_what_it_took(convolve: Convolve, photos: Path, tmp_path: Path) -> None:
    said = train(convolve, photos, tmp_path / "run")
    held_out = len(open_lists(photos).test)
    assert (
        f"{photos}, 3 classes (blue, green, rød); {held_out / 120:.0%} of the images are held out for testing" in said
    )
    assert f"{120 - held_out} training images of mixed or large sizes and {held_out} test images of" in said
    assert "cached in memory; the network sees 32x32 RGB, (pixel - mean image)" in said
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["samples_seen"] == 2 * (120 - held_out)
    assert result["data_name"] == photos.name  # and not the data set that the recipe is made for
    assert f"trained on {photos.name}\n" in (tmp_path / "run" / "model" / "model-card.md").read_text()
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["published_error"] is None
    model = load(tmp_path / "run")
    assert model.class_names == tuple(CLASSES)
    assert model.preprocess.shape_CHW == (3, 32, 32)


def test_the_recipe_says_what_the_network_sees(convolve: Convolve, tmp_path: Path) -> None:
    """Whatever the size of the images; 0 takes theirs, if they have one. Padded by 4 and cut, 28x28 becomes 29x29."""
    for name in ("a", "b"):
        (tmp_path / "small" / name).mkdir(parents=True)
        for number in range(5):
            assert cv2.imwrite(
                str(tmp_path / "small" / name / f"{number}.png"), np.full((28, 28, 3), 9 * number, np.uint8)
            )
    assert "the network sees 32x32" in train(convolve, tmp_path / "small", tmp_path / "cut")
    for size, seen in (("32", "32x32"), ("0", "28x28"), ("24x20", "24x20")):
        words = (f"data.image_size={size}", "data.train_transforms=[]")
        assert f"the network sees {seen} RGB" in train(convolve, tmp_path / "small", tmp_path / size, *words)
    assert "the network sees 32x32 gray" in train(convolve, tmp_path / "small", tmp_path / "gray", "data.channels=1")
    outcome = convolve(
        "train", "cifar10-aug", "--data", tmp_path / "small", "--out", tmp_path / "r", "--set=data.image_size=64"
    )
    assert_refused(outcome, 2, '"crop_width": 64, "crop_height": 64}]')


def listed(photos: Path, layout: str, place: Path) -> Path:
    """The same photographs in another form, in an order that is not theirs."""
    if layout == "class folders":
        return photos
    files = sorted(photos.rglob("*.jpg"), key=lambda file: (file.stat().st_size, file))
    place.mkdir()
    if layout == "table":
        (place / "all.csv").write_text(
            "path,label\n" + "".join(f"{file},{file.parent.name}\n" for file in files), encoding="utf-8"
        )
        return place / "all.csv"
    (place / "labels.txt").write_text("".join(f"{name}\n" for name in CLASSES), encoding="utf-8")
    if layout == "map of an archive":
        with zipfile.ZipFile(place / "all.zip", "w") as archive:
            for file in files:
                archive.write(file, f"{file.parent.name}/{file.name}")
    at = ".../all.zip@" if layout == "map of an archive" else photos
    lines = (f"{at}/{file.parent.name}/{file.name}\t{[*CLASSES].index(file.parent.name)}\n" for file in files)
    (place / "map.txt").write_text("".join(lines), encoding="utf-8")
    return place / "map.txt"


def test_columns_and_root_go_wherever_data_goes(convolve: Convolve, run: Path, photos: Path, tmp_path: Path) -> None:
    files = sorted(photos.rglob("*.jpg"))
    rows = [f"D:\\pictures\\{file.parent.name}\\{file.name};{file.parent.name}\n" for file in files]
    place = tmp_path / "table.csv"
    place.write_text("photo;color;\n" + "".join(row.replace("\n", ";\n") for row in rows), encoding="utf-8")
    given = ("--columns", "image=photo,label=color", "--root", photos)
    settings = [f"--set={word}" for word in SETTINGS]
    outcome = convolve("train", "cifar10-aug", "--data", place, "--out", tmp_path / "run", *settings)
    assert_refused(outcome, 3, "line 1: no column of images", "there is photo, color", "--columns image=NAME")
    assert not (tmp_path / "run" / "model").exists()
    outcome = convolve("train", "cifar10-aug", "--data", place, "--out", tmp_path / "run", *settings, *given)
    assert outcome.code == 0, outcome.err
    weights = [load_file(path / "model" / "weights.safetensors") for path in (run, tmp_path / "run")]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])
    outcome = convolve("evaluate", tmp_path / "run", "--data", place, *given)
    assert outcome.code == 0 and "held out in training" in outcome.out
    assert "120 training images: " in convolve("check-data", place, *given).out
    outcome = convolve("prepare", "folder", "--source", place, "--out", tmp_path / "prepared", *given)
    assert outcome.code == 0 and str(photos / "blue" / "0.jpg") in (tmp_path / "prepared" / "train_map.txt").read_text()


@pytest.mark.parametrize("layout", ["table", "map", "map of an archive"])
def test_a_layout_does_not_change_a_result(layout: str, run: Path, photos: Path, tmp_path: Path) -> None:
    recipe = with_values(load_recipe("cifar10-aug"), dict(word.split("=", 1) for word in SETTINGS))
    place = listed(photos, layout, tmp_path / "listed")
    other = run_recipe(recipe, data=str(place), out=tmp_path / "run").folder.path
    one, same = weights(run), weights(other)
    assert all(torch.equal(one[name], same[name]) for name in one)
    results = [json.loads((folder / "result.json").read_text()) for folder in (run, other)]
    assert results[0]["test_loss"] == results[1]["test_loss"]


def squares(place: Path, side: int, count: int) -> None:
    """Two classes of images that hold 0, 1, ... row by row."""
    ramp = (np.arange(side * side) % 251).astype(np.uint8).reshape(side, side)
    for name in ("a", "b"):
        (place / name).mkdir(parents=True)
        for number in range(count):
            assert cv2.imwrite(str(place / name / f"{number}.png"), np.repeat(ramp[:, :, None], 3, axis=2))


def test_images_with_a_border_are_cut_as_they_are(convolve: Convolve, tmp_path: Path) -> None:
    """As CNTK's script leaves CIFAR-10: the training images alone are padded."""
    squares(tmp_path / "set" / "train", 40, 5)
    squares(tmp_path / "set" / "test", 32, 2)
    crop = {"kind": "crop", "crop_type": "randomside", "crop_width": 32, "crop_height": 32, "hflip": False}
    recipe = with_values(load_recipe("cifar10-aug"), {"data.train_transforms": [crop], "data.mean_image": ""})
    images_NCHW, _ = next(build_data(recipe, open_lists(tmp_path / "set"), threads=1).loader.epoch(0))
    corners = {float(image[0, 0, 0]) for image in images_NCHW}
    assert len(corners) > 3  # different places, not one image shrunk
    said = train(convolve, tmp_path / "set", tmp_path / "run", f"data.train_transforms={json.dumps([crop])}")
    assert "10 training images of 40x40 and 4 test images of 32x32" in said


def test_a_crop_with_nothing_to_cut_is_refused(convolve: Convolve, tmp_path: Path) -> None:
    squares(tmp_path / "set", 40, 5)
    crop = '[{"kind": "crop", "crop_type": "randomside", "crop_width": 32, "crop_height": 32}]'
    outcome = convolve(
        "train",
        "cifar10-aug",
        "--data",
        tmp_path / "set",
        "--out",
        tmp_path / "r",
        f"--set=data.train_transforms={crop}",
    )
    assert_refused(outcome, 2, "A random 32x32 crop of a 32x32 image is always the whole image; pad first")


def test_a_crop_of_the_middle_may_take_the_whole(convolve: Convolve, tmp_path: Path) -> None:
    squares(tmp_path / "set", 40, 5)
    crop = '[{"kind": "crop", "crop_width": 32, "crop_height": 32}]'
    assert "the network sees 32x32" in train(
        convolve, tmp_path / "set", tmp_path / "r", f"data.train_transforms={crop}"
    )


def test_classes_that_a_part_lacks_are_named(convolve: Convolve, tmp_path: Path) -> None:
    squares(tmp_path / "set" / "train", 32, 3)
    squares(tmp_path / "set" / "test", 32, 1)
    shutil.move(tmp_path / "set" / "test" / "b", tmp_path / "set" / "train" / "c")
    assert "; no test images of b, c\n" in train(convolve, tmp_path / "set", tmp_path / "run")


def test_damaged_images_are_passed_over_in_the_mean_too(convolve: Convolve, tmp_path: Path) -> None:
    squares(tmp_path / "set", 40, 6)
    broken = Path(open_lists(tmp_path / "set").train.location(0))
    broken.write_bytes(broken.read_bytes()[:60])
    words = (*FROM_FILES, "data.mean_image=train", "data.damaged_limit=1")
    assert "another image replaces it" in train(convolve, tmp_path / "set", tmp_path / "run", *words)


def test_the_mean_is_that_of_the_training_images(run: Path, photos: Path) -> None:
    """Test images, by what the report shows of them: not one of them is in the mean."""
    preprocess = load(run).preprocess
    mean_CHW = preprocess.mean_image_CHW
    assert mean_CHW is not None
    everything = all_fitted(photos, preprocess)
    assert len(everything) == 120
    start = json.loads((run / "start.json").read_text())
    trained, held_out = start["train_samples"], start["test_samples"]
    assert trained + held_out == 120 and held_out == len(open_lists(photos).test)
    # What is left of the sum is the images held out, whose pixels lie in 0..255.
    rest = (np.sum(everything, axis=0) - trained * mean_CHW.astype(np.float64)) / held_out
    assert rest.min() >= -0.01 and rest.max() <= 255.01
    assert np.abs(rest - mean_CHW).mean() > 1


def test_evaluation_is_on_the_part_held_out(run: Path, photos: Path, convolve: Convolve, tmp_path: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    outcome = convolve("evaluate", run, "--data", photos, "--json")
    said = json.loads(outcome.out)
    assert said["samples"] == (held_out := len(open_lists(photos).test))
    assert said["test_error"] == result["test_error"]
    assert said["test_loss"] == pytest.approx(result["test_loss"], rel=1e-5)
    assert "held out" in convolve("evaluate", run, "--data", photos).out
    words = ("the model was trained on", photos.name, "blue, green, rød", "give the test images with --data")
    assert_refused(convolve("evaluate", run), 2, *words)
    other = shutil.copytree(photos, tmp_path / "other")
    learned = [Path(open_lists(photos).train.location(index)) for index in range(3)]
    for number in range(3):  # after additions and a loss, none that was learned from is counted
        shutil.copy(learned[number], other / "green" / f"copy{number}.jpg")
        write_noise(other / "green" / f"new{number}.jpg", number)
    (other / learned[0].relative_to(photos)).unlink()
    outcome = convolve("evaluate", run, "--data", other)
    new = int(re.search(r"the part held out in training, and ([0-9]+) of the images added since \(3\)", outcome.out)[1])  # type: ignore[index]
    assert f"{held_out + new} test images from" in outcome.out
    for number in range(50):  # images of another set, among which some are known
        write_noise(tmp_path / "another" / ("blue", "green")[number % 2] / f"{number}.jpg", 100 + number)
    assert (
        f"50 test images from {tmp_path / 'another'}\n" in convolve("evaluate", run, "--data", tmp_path / "another").out
    )
    shutil.copy(learned[0], tmp_path / "another" / "green" / "1000.jpg")
    outcome = convolve("evaluate", run, "--data", tmp_path / "another")
    assert "50 test images from" in outcome.out and "without 1 images that the model was trained on" in outcome.out


def test_predict_gives_the_answers_of_the_evaluation(run: Path, photos: Path, convolve: Convolve) -> None:
    last_NK = load_file(run / "evaluation.safetensors")["probabilities_NK"]
    images = json.loads(convolve("predict", run, photos, "--top", 3, "--json").out)["images"]
    said_NK = [[{row["class"]: row["probability"] for row in image["classes"]}[k] for k in CLASSES] for image in images]
    distance_NN = torch.cdist(last_NK.double(), torch.tensor(said_NK, dtype=torch.float64))
    assert float(distance_NN.min(1).values.max()) < 1e-5


def test_views_stand_beside_the_single_one(run: Path, photos: Path, convolve: Convolve) -> None:
    single = json.loads(convolve("evaluate", run, "--data", photos, "--json").out)
    for views in (2, 6, 10):
        said = json.loads(convolve("evaluate", run, "--data", photos, "--views", views, "--json").out)
        assert {key: said[key] for key in single} == single
        assert said["views"] == views
        assert said["views_loss"] != single["test_loss"]
        assert said["views_errors"] == round(said["views_error"] * said["samples"])
    assert "over 10 views: error" in convolve("evaluate", run, "--data", photos, "--views", 10).out
    assert_refused(convolve("evaluate", run, "--data", photos, "--views", 3), 2, "1, 2, 6 or 10")


def test_two_views_are_the_mean_of_the_image_and_its_mirror(run: Path, photos: Path) -> None:
    model = load(run)
    images_NCHW = all_fitted(photos, model.preprocess)
    source = ArraySource(torch.from_numpy(images_NCHW), torch.zeros(len(images_NCHW), dtype=torch.int64))
    said = model.evaluate(model.dataset(source, 2), 2)
    mirrored = np.ascontiguousarray(images_NCHW[:, :, :, ::-1])
    expected_NK = (model.probabilities(images_NCHW) + model.probabilities(mirrored)) / 2
    torch.testing.assert_close(said.probabilities_NK, expected_NK)
    assert said.loss == pytest.approx(float(-expected_NK[:, 0].double().log().mean()), rel=1e-5)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "weights.safetensors")


def test_what_does_not_fit_is_decoded_on_demand_to_the_same_model(
    photos: Path, convolve: Convolve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = "data.resize=square"  # otherwise images on demand are decoded at a part of their size
    assert "cached in memory" in train(convolve, photos, tmp_path / "resident", exact)
    monkeypatch.setattr("convolve.data.caching.CACHE_BYTES", 1000)
    assert "decoded on demand" in train(convolve, photos, tmp_path / "streamed", exact)
    assert "decoded on demand" in train(convolve, photos, tmp_path / "small")
    one, other = weights(tmp_path / "resident"), weights(tmp_path / "streamed")
    assert all(torch.equal(one[name], other[name]) for name in one)
    shown = [load_file(tmp_path / name / "evaluation.safetensors") for name in ("resident", "streamed")]
    assert all(torch.equal(shown[0][name], shown[1][name]) for name in shown[0])


def test_transforms_that_scale_work_on_the_files(photos: Path, convolve: Convolve, tmp_path: Path) -> None:
    said = train(convolve, photos, tmp_path / "run", *FROM_FILES)
    assert "the network sees central 0.875 of the shorter side scaled to 24x24 RGB" in said
    again = train(convolve, photos, tmp_path / "again", *FROM_FILES, "run.threads=2")
    assert again
    one, other = weights(tmp_path / "run"), weights(tmp_path / "again")
    assert all(torch.allclose(one[name], other[name], atol=1e-4) for name in one)
    assert len(json.loads((tmp_path / "run" / "result.json").read_text())["data_fingerprint"]) == 64
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ('data.train_transforms=[{"kind": "crop", "crop_type": "randomside", "side_ratio": 0.8}]', ("26x26", "32x32")),
        ('data.train_transforms=[{"kind": "scale", "width": 20, "height": 20}]', ("20x20", "32x32", "data.image_size")),
        ('data.train_transforms=[{"kind": "shift"}, {"kind": "color"}]', ("shift", "after color")),
        ("data.mean_image=nowhere.xml", ("nowhere.xml",)),
        ('data.train_transforms=[{"kind": "intensity", "file": "nowhere.xml"}]', ("convolve: nowhere.xml: no such",)),
        ("data.order=cntk", ("chunks",)),
    ],
)
def test_what_cannot_be_is_said_before_training(
    setting: str, words: tuple[str, ...], photos: Path, convolve: Convolve, tmp_path: Path
) -> None:
    outcome = convolve("train", "cifar10-aug", "--data", photos, "--out", tmp_path / "run", f"--set={setting}")
    assert_refused(outcome, outcome.code, *words)
    assert outcome.code in (2, 3)
    assert not (tmp_path / "run" / "start.json").exists()


def test_damaged_photographs_are_named_all_at_once(photos: Path, convolve: Convolve, tmp_path: Path) -> None:
    copied = shutil.copytree(photos, tmp_path / "photos")
    for number in range(10):
        file = copied / "blue" / f"{number}.jpg"
        file.write_bytes(file.read_bytes()[:200])
    outcome = convolve("train", "cifar10-aug", "--data", copied, "--out", tmp_path / "run")
    assert_refused(outcome, 3, "images are damaged", "cut off here")
    assert outcome.err.count("blue") > 1


def test_a_streamed_run_goes_on_in_the_middle_of_an_epoch(photos: Path, convolve: Convolve, tmp_path: Path) -> None:
    one_epoch = len(open_lists(photos).train)
    recipe = with_values(load_recipe("cifar10-aug"), dict(word.split("=", 1) for word in (*SETTINGS, *FROM_FILES)))
    recipe = with_values(recipe, {"run.checkpoint_seconds": "0.001"})

    def stop(event: str, values: dict[str, Any]) -> None:
        if event == "step" and values["samples_seen"] == one_epoch + 48:
            raise KeyboardInterrupt

    with pytest.raises(InterruptedTraining):
        run_recipe(recipe, data=str(photos), out=tmp_path / "stopped", progress=stop)
    steps: list[int] = []
    run_recipe(
        recipe, data=str(photos), out=tmp_path / "stopped",
        progress=lambda event, values: steps.append(values["samples_seen"]) if event == "step" else None,
    )  # fmt: skip
    assert steps[0] == one_epoch + 48  # the checkpoint before that step is the newest
    run_recipe(recipe, data=str(photos), out=tmp_path / "whole")
    one, other = weights(tmp_path / "stopped"), weights(tmp_path / "whole")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_mean_for_each_channel(photos: Path, convolve: Convolve, tmp_path: Path) -> None:
    setting = ("data.mean_image=", "data.mean=90:120.5:70", "data.scale=0.5")
    assert "(pixel - (90, 120.5, 70)) * 0.5" in train(convolve, photos, tmp_path / "run", *setting)
    preprocess = load(tmp_path / "run").preprocess
    assert (preprocess.mean, preprocess.channel_order) == ((90.0, 120.5, 70.0), "rgb")


def test_another_mean_image_is_refused_when_a_run_goes_on(photos: Path, convolve: Convolve, tmp_path: Path) -> None:
    mean_HWC = np.random.default_rng(0).uniform(90, 110, (32, 32, 3)).astype(np.float32)
    write_mean_xml(tmp_path / "mean.xml", mean_HWC, "planar_rgb")
    setting = f"data.mean_image={tmp_path / 'mean.xml'}"
    train(convolve, photos, tmp_path / "run", setting)
    kept_CHW = load(tmp_path / "run").preprocess.mean_image_CHW
    np.testing.assert_array_equal(kept_CHW, mean_HWC[:, :, ::-1].transpose(2, 0, 1))
    train(convolve, photos, tmp_path / "scrambled", setting, "data.mean_image_layout=interleaved_bgr")
    scrambled_CHW = load(tmp_path / "scrambled").preprocess.mean_image_CHW  # CNTK's reading of the same bytes
    as_read_HWC = mean_HWC[:, :, ::-1].transpose(2, 0, 1).reshape(32, 32, 3)
    np.testing.assert_array_equal(scrambled_CHW, as_read_HWC[:, :, ::-1].transpose(2, 0, 1))

    (tmp_path / "run" / "state.json").write_text('{"state": "running"}')
    write_mean_xml(tmp_path / "mean.xml", mean_HWC + 1, "planar_rgb")
    settings = [f"--set={word}" for word in (*SETTINGS, setting)]
    outcome = convolve("train", "cifar10-aug", "--data", photos, "--out", tmp_path / "run", *settings)
    assert_refused(outcome, 1, "the mean image (its fingerprint differs)")


@pytest.mark.parametrize(("data_seconds", "step_seconds"), [(0.2, 0.0), (0.0, 0.1)])
def test_the_log_tells_who_waited_for_whom(
    data_seconds: float,
    step_seconds: float,
    photos: Path,
    convolve: Convolve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Six batches an epoch, each of which takes 0.2 s to be read, or 0.1 s to be learned from."""
    read, step = Dataset.batches, Trainer.train_step

    def slow_batches(*arguments: Any) -> Iterator[Any]:
        for batch in read(*arguments):
            time.sleep(data_seconds)
            yield batch

    def slow_step(*arguments: Any) -> Any:
        time.sleep(step_seconds)
        return step(*arguments)

    monkeypatch.setattr(Dataset, "batches", slow_batches)
    monkeypatch.setattr(Trainer, "train_step", slow_step)
    train(convolve, photos, tmp_path / "run", *FROM_FILES, "data.validation_fraction=0")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    waited = result["data_wait_fraction"] * result["train_seconds"]
    if data_seconds:
        assert waited > 2 * 6 * data_seconds * 0.3  # most of it, whatever the machine does besides
    else:
        assert result["train_seconds"] - waited > 2 * 6 * step_seconds * 0.99  # sleeping takes as long as it takes


def test_a_model_knows_the_groups_of_its_images(photos: Path, convolve: Convolve, tmp_path: Path) -> None:
    train(convolve, photos, tmp_path / "run", "data.group=[0-9][.]jpg")
    assert load(tmp_path / "run").training_info.data_group == "[0-9][.]jpg"
    outcome = convolve("evaluate", tmp_path / "run", "--data", photos)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert "the part held out in training" in outcome.out and f"error {result['test_error']:.2%}" in outcome.out
