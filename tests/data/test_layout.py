"""Parts of a set: the names that they go by, wrappers around them, and what lies beside them."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from convolve.checking.check import check_data
from convolve.data.build import build_data
from convolve.data.hold_out import Learned
from convolve.data.layout import find_layout
from convolve.data.lists import collect_lists, open_lists
from convolve.data.open import open_test
from convolve.errors import DataError
from convolve.formats.part_names import role_of
from convolve.recipes import load_recipe, with_values


def write(path: Path, number: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (12, 10, 3), np.uint8)
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


def part(folder: Path, names: str = "cat dog", count: int = 2) -> Path:
    for name in names.split():
        for number in range(count):
            write(folder / name / f"{number}.png", number + 100 * sum(name.encode()))
    return folder


@pytest.mark.parametrize(
    ("names", "role"),
    [
        ("train TRAIN Training train_set training_set Training-Set seg_train", "training"),
        ("val Valid VALIDATION dev val_set", "validation"),
        ("test Testing test_set testing_set seg_test", "test"),
        ("trainer contest images seg testament train2 latest", None),
    ],
)
def test_the_names_of_parts(names: str, role: str | None) -> None:
    assert {role_of(name) for name in names.split()} == {role}


@pytest.mark.parametrize("wrapper", ["", "imagenet-sample"])
def test_images_called_after_synsets_have_their_classes(wrapper: str, tmp_path: Path) -> None:
    """A folder of ImageNet's images as they are called there; that of one class, or with others beside, has none."""
    where = tmp_path / "sample"
    for number, name in enumerate(("n01440764_tench", "n01496331_electric_ray", "n01440764_10026")):
        write(where / wrapper / f"{name}.png", number)
    known = ("n01440764 tench", "n01443537 goldfish", "n01496331 electric ray")
    found, _ = open_test(str(where), "", known, (3, 8, 8), Learned())
    assert found.labels_N.tolist() == [0, 0, 2] and found.passed_over == ""
    write(where / wrapper / "other.png")
    assert find_layout(where / wrapper) is None


@pytest.mark.parametrize(
    "names",
    [
        ("train", "valid"), ("Train", "Test"), ("TRAIN", "VAL"), ("training", "validation"), ("train", "dev"),
        ("training_set", "test_set"), ("seg_train/seg_train", "seg_test/seg_test"),
    ],
)  # fmt: skip
def test_of_two_parts_the_second_is_the_test_part(names: tuple[str, str], tmp_path: Path) -> None:
    part(tmp_path / names[0], count=3)
    part(tmp_path / names[1])
    splits = open_lists(tmp_path)
    assert [(role, len(each)) for role, each in splits.parts] == [("training", 6), ("test", 4)]
    assert not splits.held_out and splits.class_names == ("cat", "dog")
    first, second = (Path(name).name for name in names)
    assert f"training part {first}, test part {second}" in splits.description


def test_of_three_parts_one_is_for_choices(tmp_path: Path) -> None:
    for name, count in (("train", 4), ("valid", 3), ("test", 2), ("raw", 5)):
        part(tmp_path / name, count=count)
    splits = open_lists(tmp_path)
    assert [(role, len(each)) for role, each in splits.parts] == [("training", 8), ("validation", 6), ("test", 4)]
    assert "validation part valid" in splits.description and "raw beside the parts is left out" in splits.description
    source, where = open_test(str(tmp_path), "", ("cat", "dog"), (3, 32, 32), Learned())
    assert len(source) == 4 and "test" in where
    faults: list[tuple[str, ...]] = []
    parts = collect_lists(tmp_path, None, lambda *fault: faults.append(fault))
    assert [role for role, _ in parts] == ["training", "validation", "test"]
    assert [(kind, what) for kind, _, what, _ in faults] == [("left out", "raw beside the parts is left out")]
    assert list(check_data(tmp_path, tmp_path / "test").images) == ["training", "validation", "test"]


@pytest.mark.parametrize(
    ("names", "fraction", "images", "said"),
    [
        (
            "train test",
            0,
            (18, 2),
            "2 of 20 training images are held out for validation, for run.keep=best",
        ),
        ("train test", 0.4, (12, 8), ""),
        ("train val test", 0, (20, 6), "each epoch is evaluated on the 6 images of the validation part"),
        ("train val test", 0.4, (20, 6), "data.validation_fraction=0.4 is not used"),
    ],
)
def test_the_best_epoch_is_never_chosen_by_the_test_part(
    names: str, fraction: float, images: tuple[int, int], said: str, tmp_path: Path
) -> None:
    for name in names.split():
        part(tmp_path / name, count=10 if name == "train" else 3)
    settings = {"run.keep": "best", "data.validation_fraction": fraction, "data.image_size": "12x10"}
    recipe = with_values(load_recipe("cifar10-aug"), {**settings, "data.train_transforms": []})
    data = build_data(recipe, open_lists(tmp_path), threads=1)
    assert (data.loader.dataset_size, len(data.validation)) == images and data.validation_name == "validation"
    assert said in data.judged_by and len(data.test) == 6


def test_lists_have_the_same_names(tmp_path: Path) -> None:
    part(tmp_path / "images", count=4)
    for name, number in (("Train.csv", 0), ("VALID.csv", 1), ("testing.csv", 2)):
        rows = [f"images/{label}/{n}.png,{label}\n" for label in ("cat", "dog") for n in {number, 3}]
        (tmp_path / name).write_text("path,label\n" + "".join(rows))
    splits = open_lists(tmp_path)
    assert [(role, len(each)) for role, each in splits.parts] == [("training", 4), ("validation", 4), ("test", 4)]


def test_a_flat_part_is_set_aside(tmp_path: Path) -> None:
    """As Kaggle's test images, whose classes nobody knows."""
    part(tmp_path / "train", count=5)
    write(tmp_path / "test" / "1.png")
    splits = open_lists(tmp_path)
    assert splits.held_out and len(splits.train) + len(splits.test) == 10
    assert "test is ignored: its images are not in class folders" in splits.description
    part(tmp_path / "val")
    splits = open_lists(tmp_path)
    assert not splits.held_out and len(splits.test) == 4 and "test is ignored" in splits.description


def test_one_wrapper_is_stepped_into(tmp_path: Path) -> None:
    part(tmp_path / "download" / "images", count=5)
    splits = open_lists(tmp_path)
    assert splits.class_names == ("cat", "dog")
    assert "download holds everything" in splits.description and "images holds everything" in splits.description
    layout = find_layout(part(tmp_path / "new" / "photos", "cat").parent.parent / "new", ("cat", "dog"))
    assert layout and layout.training == tmp_path / "new" / "photos"
    write(tmp_path / "cats" / "cat" / "deep" / "1.png")
    layout = find_layout(tmp_path / "cats", ("cat", "dog"))
    assert layout and layout.training == tmp_path / "cats"  # one class, whose images lie deeper


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["2019", "2020"], "2019 and 2020 hold the same subfolders: they may be parts of one set, or classes"),
        (["train", "augmented"], "train and augmented hold the same subfolders"),
        (["val", "test"], "test and val are names of parts, but there is no training part"),
        (["train", "val", "valid"], "val and valid are both names of the validation part"),
        pytest.param(
            ["train", "Train", "test"],
            "Train and train are both names of the training part",
            marks=pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="they are one folder"),
        ),
    ],
)
def test_what_may_be_parts_or_classes_is_refused(folders: list[str], message: str, tmp_path: Path) -> None:
    for name in folders:
        part(tmp_path / name)
    with pytest.raises(DataError, match=message):
        open_lists(tmp_path)


def test_parts_without_classes_are_no_classes(tmp_path: Path) -> None:
    for name in ("train", "test"):
        for number in range(4):
            write(tmp_path / name / f"cat.{number}.png", number)
    with pytest.raises(
        DataError, match="test and train are names of parts, but there is no training part with a folder"
    ):
        open_lists(tmp_path)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    part(tmp_path, "bus car train", count=5)
    assert open_lists(tmp_path).class_names == ("bus", "car", "train")


def test_known_classes_are_no_parts(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        part(tmp_path / name, "indoors outdoors")
    layout = find_layout(tmp_path, ("cat", "dog"))
    assert layout and layout.training == tmp_path and layout.test is None


def test_a_table_may_hold_one_part_alone(tmp_path: Path) -> None:
    """All is tested on, or of a training part what was held out of it; trained on is only what says so."""
    part(tmp_path / "images", count=20)

    def table(word: str) -> Path:
        rows = [f"images/{label}/{n}.png,{label},{word}\n" for label in ("cat", "dog") for n in range(20)]
        (tmp_path / f"{word}.csv").write_text("path,label,split\n" + "".join(rows))
        return tmp_path / f"{word}.csv"

    splits = open_lists(table("train"))
    learned = Learned(splits.fingerprint(), "", splits.membership)
    answers = {word: open_test(str(table(word)), "", ("cat", "dog"), (3, 32, 32), learned) for word in ("train", "val")}
    assert len(splits.test) < 40 and {word: len(source) for word, (source, _) in answers.items()} == {
        "train": len(splits.test),
        "val": 40,
    }
    parts = collect_lists(table("test"), None, lambda *fault: None)
    assert [(role, len(each)) for role, each in parts] == [("test", 40)]
    with pytest.raises(DataError, match="line 2: no image is in the training part"):
        open_lists(tmp_path / "test.csv")
