"""From the downloaded folders of ILSVRC2012 to top-1 and top-5, with the oddities of the real files."""

from __future__ import annotations

import csv
import json
import os
import runpy
import sys
import tarfile
from pathlib import Path
from typing import Any

import cv2
import pytest
from PIL import Image

from command_line import Convolve, assert_failed
from convolve import recipes
from convolve.data import known
from convolve.recipe import Recipe, with_values
from ilsvrc2012_files import TRAIN_EACH, VAL, WORDS, write_download

TINY = ("model.variant=tiny", "data.image_size=75", "run.global_batch_size=4", "run.threads=1", "run.precision=fp32")
MODERN = (*TINY, "data.progressive_sizes=67:75", "run.epochs=2")
SCRIPT = Path(__file__).parents[1] / "examples" / "AlexNet" / "AlexNet_ImageNet_Distributed.py"
NOT_DRAWN = "n01440764_1.JPEG"


def settings(*words: str) -> list[str]:
    return [f"--set={word}" for word in words]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A download in which one image is a text, one a PNG and one a CMYK JPEG, all of them named .JPEG."""
    root = write_download(tmp_path_factory.mktemp("data") / "ILSVRC2012")
    train = root / "Data" / "CLS-LOC" / "train"
    (train / "n01440764" / NOT_DRAWN).write_text("not an image")
    png, cmyk = train / "n01443537" / "n01443537_0.JPEG", train / "n01484850" / "n01484850_2.JPEG"
    png.write_bytes(cv2.imencode(".png", cv2.imread(str(png)))[1].tobytes())
    Image.open(cmyk).convert("CMYK").save(cmyk, "JPEG")
    return root


@pytest.fixture
def prepared(source: Path, tmp_path: Path, convolve: Convolve) -> Path:
    assert convolve("prepare", "ilsvrc2012", "--source", source, "--out", tmp_path / "prepared").code == 0
    return tmp_path / "prepared"


@pytest.mark.parametrize("recipe", ["alexnet-modern", "alexnet"])
def test_the_whole_path(recipe: str, prepared: Path, tmp_path: Path, convolve: Convolve) -> None:
    words = MODERN if recipe == "alexnet-modern" else (*TINY, "run.epochs=1", *scaled(75))
    folder = tmp_path / "run"
    outcome = convolve("train", recipe, "--data", prepared, "--out", folder, *settings(*words))
    assert outcome.code == 0, outcome.err
    (warning,) = (line for line in outcome.err.splitlines() if line.startswith("warning: "))
    assert "train_map.txt: line 2: " in warning and NOT_DRAWN in warning and "replaces it" in warning
    result = json.loads((folder / "result.json").read_text())
    assert result["samples_seen"] == 3 * TRAIN_EACH * result["epochs"]

    single = json.loads(convolve("evaluate", folder, "--data", prepared, "--json").out)
    assert (single["samples"], single["test_error"]) == (VAL, result["test_error"])
    outcome = convolve("evaluate", folder, "--data", prepared, "--views", 10, "--csv", tmp_path / "classes.csv")
    assert (outcome.code, outcome.err) == (0, "")
    assert "over 10 views: error" in outcome.out
    with (tmp_path / "classes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["number"], row["class"]) for row in rows] == [
        (str(k), f"{name} {words}") for k, (name, words) in enumerate(WORDS.items())
    ]
    for row, said in zip(rows, single["classes"], strict=True):
        assert (int(row["samples"]), int(row["errors"])) == (said["samples"], said["errors"]) == (2, said["errors"])
        assert (row["most_taken_for"] == "") == (row["errors"] == "0")


def scaled(side: int) -> tuple[str]:
    """The transforms of CNTK's recipe, for smaller images."""
    crop = {"kind": "crop", "crop_type": "randomside", "side_ratio": 0.88671875, "jitter_type": "uniratio"}
    return (f"data.train_transforms={json.dumps([crop, {'kind': 'scale', 'width': side, 'height': side}])}",)


def test_no_more_damage_than_the_recipe_allows(prepared: Path, tmp_path: Path, convolve: Convolve) -> None:
    words = settings(*MODERN, "data.damaged_limit=0")
    outcome = convolve("train", "alexnet-modern", "--data", prepared, "--out", tmp_path / "run", *words)
    assert_failed(outcome, 3, "train_map.txt: line 2: ", NOT_DRAWN)


def test_a_damaged_test_image_is_never_passed_over(source: Path, tmp_path: Path, convolve: Convolve) -> None:
    """Errors are exact over the whole set."""
    copied = write_download(tmp_path / "ILSVRC2012")
    (copied / "Data" / "CLS-LOC" / "val" / "ILSVRC2012_val_00000003.JPEG").write_bytes(b"")
    convolve("prepare", "ilsvrc2012", "--source", copied, "--out", tmp_path / "prepared")
    words = ["--data", tmp_path / "prepared", "--out", tmp_path / "run", *settings(*MODERN)]
    assert_failed(convolve("train", "alexnet-modern", *words), 3, "val_map.txt: line 3: ", "val_00000003.JPEG")


def test_it_is_found_in_the_usual_place(
    prepared: Path, tmp_path: Path, convolve: Convolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    prepared.rename(tmp_path / "ilsvrc2012")
    monkeypatch.setenv("CONVOLVE_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    outcome = convolve("train", "alexnet-modern", "--out", folder, *settings(*MODERN))
    assert outcome.code == 0, outcome.err
    assert json.loads((folder / "model" / "model.json").read_text())["data"] == "ilsvrc2012"
    assert json.loads(convolve("evaluate", folder, "--json").out)["samples"] == VAL


def test_the_loop_without_data(tmp_path: Path, convolve: Convolve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "_FAKE_BYTES", 1 << 23)
    words = ["--fake-data", "--epochs", 1, "--out", tmp_path / "run", "--json"]
    outcome = convolve("train", "alexnet-modern", *words, *settings(*TINY, "data.progressive_sizes=67"))
    result = json.loads(outcome.out)
    assert result["samples_seen"] == (1 << 23) // (3 * 256 * 256)
    assert result["images_per_second"] > 0


@pytest.mark.skipif("CONVOLVE_DATA" not in os.environ, reason="needs ilsvrc2012-tiny.tar in $CONVOLVE_DATA")
def test_real_images_in_the_real_layout(tmp_path: Path, convolve: Convolve) -> None:
    """Ten of the 50 classes of Tiny ImageNet, every fifth by its WordNet ID; 2,000 validation images are of others."""
    archive = Path(os.environ["CONVOLVE_DATA"]) / "ilsvrc2012-tiny.tar"
    if not archive.exists():
        pytest.skip(f"{archive} is not there")
    with tarfile.open(archive) as file:
        members = file.getmembers()
        classes = sorted({member.name.split("/")[4] for member in members if "/train/n" in member.name})[::5]
        kept = [m for m in members if "/train/n" not in m.name or m.name.split("/")[4] in classes]
        file.extractall(tmp_path, kept, filter="data")
    source = tmp_path / "ILSVRC2012"
    outcome = convolve("prepare", "ilsvrc2012", "--source", source, "--out", tmp_path / "prepared")
    assert "train_map.txt: 5,000 images" in outcome.out and "val_map.txt: 500 images" in outcome.out
    assert "left out because its class has no training images: 2,000 (" in outcome.out
    words = settings("model.variant=tiny", "run.epochs=2", "run.epoch_samples=512", "data.image_size=99",
                     "data.progressive_sizes=67:99", "run.global_batch_size=32", "run.threads=1")  # fmt: skip
    folder = tmp_path / "run"
    outcome = convolve("train", "alexnet-modern", "--data", tmp_path / "prepared", "--out", folder, *words)
    assert outcome.code == 0, outcome.err
    said = json.loads(convolve("evaluate", folder, "--data", tmp_path / "prepared", "--views", 10, "--json").out)
    assert said["samples"] == 500
    assert {row["samples"] for row in said["classes"]} == {50}
    assert said["errors_top5"] == round(500 * said["test_error_top5"]) == sum(k["errors_top5"] for k in said["classes"])
    assert said["test_error_top5"] <= 0.6  # chance is 0.5, after 32 updates
    assert said["classes"][0]["class"].startswith(f"{classes[0]} ")


def test_the_script_of_that_name(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AlexNet_ImageNet_Distributed.py with all its flags, on the tiny twin."""
    asked: dict[str, Any] = {}

    def resolve_tiny(recipe: str, settings: dict[str, Any]) -> Recipe:
        asked.update(settings)
        words = [word for word in (*TINY, *scaled(75)) if "batch_size" not in word]
        return with_values(resolve(recipe, settings), dict(word.split("=", 1) for word in words))

    resolve = recipes.resolve
    monkeypatch.setattr(recipes, "resolve", resolve_tiny)
    flags = {
        "-datadir": prepared, "-outputdir": tmp_path / "run", "-logdir": tmp_path, "-n": 2, "-m": 4, "-e": 8, "-q": 8,
        "-a": 4, "-device": "cpu",
    }  # fmt: skip
    monkeypatch.setattr(sys, "argv", [SCRIPT.name, *(str(word) for pair in flags.items() for word in pair), "-r"])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert asked == {
        "run.epochs": 2, "run.global_batch_size": 4, "run.epoch_samples": 8, "run.device": "cpu",
        "distributed.quantization_bits": 8, "distributed.block_samples": 0, "distributed.after_samples": 4,
    }  # fmt: skip
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["recipe"], result["samples_seen"]) == ("alexnet-python", 16)
    assert (tmp_path / "log.txt").read_text().count("test_error") == 2
