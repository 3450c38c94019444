"""What `--write-table` writes is what is good, and training takes it as it is, corrections and all."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

import cifar10_files
from command_line import Convolve, assert_refused
from convolve.data.open import open_data
from convolve.data.options import DataOptions
from scenes import save, scene

TINY = ("--set", "model.variant=tiny", "--epochs", "1", "--threads", "1", "--device", "cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two parts of two classes, and one of each fault."""
    folder = tmp_path / "my photos"
    for number in range(24):
        part = "test" if number % 3 == 0 else "train"
        save(folder / part / ("ant", "bee, wild")[number % 2] / f"{number}.jpg", scene(number))
    train = folder / "train"
    shutil.copy(train / "ant" / "4.jpg", train / "ant" / "copy.jpg")
    shutil.copy(train / "ant" / "8.jpg", train / "bee, wild" / "8 again.jpg")
    shutil.copy(folder / "test" / "ant" / "6.jpg", train / "ant" / "6.jpg")
    (train / "ant" / "2.jpg").write_bytes((train / "ant" / "2.jpg").read_bytes()[:900])
    save(train / "ant" / "night.jpg", scene(77) // 8)
    return folder


def rows(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_of_two_spellings_of_a_class_the_rarer_is_left_out(folder: Path, tmp_path: Path, convolve: Convolve) -> None:
    """Training refuses both, and takes what is left."""
    names = [*(f"train/ant/{n}.jpg" for n in (4, 10, 14, 16, 20)), *(f"train/bee, wild/{n}.jpg" for n in (1, 5, 7, 11))]
    lines = [f'"{folder / name}";{"Ant" if name[-6:] == "16.jpg" else name[6:9]}' for name in names]
    lines[3] += " "
    (tmp_path / "list.csv").write_text("\n".join(["path;label", *lines, "gone.jpg;ant", f"{folder}/train/ant/22.jpg;"]))
    train = ("train", "mnist", "--set", "model.variant=tiny", "--epochs", 1, "--out", tmp_path / "run", "--data")
    outcome = convolve(*train, tmp_path / "list.csv")
    assert outcome.code == 3 and "`convolve check-data` names all such lines of" in outcome.err
    assert convolve("check-data", tmp_path / "list.csv", "--write-table", tmp_path / "clean.csv").code == 3
    assert [row["label"] for row in rows(tmp_path / "clean.csv")] == 4 * ["ant"] + 4 * ["bee"]
    assert convolve(*train, tmp_path / "clean.csv").code == 0


def test_the_table_holds_what_is_good(folder: Path, convolve: Convolve) -> None:
    table = folder.parent / "lists" / "clean.csv"
    assert convolve("check-data", folder, "--write-table", table).code == 3
    found = rows(table)
    train = {row["path"] for row in found if row["split"] == "train"}
    expected = {
        4,
        10,
        14,
        16,
        20,
        22,
        1,
        5,
        7,
        11,
        13,
        17,
        19,
        23,
    }  # not 2 (damaged), 8 (two labels), 6 (in the test part)
    names = {f"../my photos/train/{('ant', 'bee, wild')[n % 2]}/{n}.jpg" for n in expected}
    assert train == names | {"../my photos/train/ant/night.jpg"}
    assert sum(row["split"] == "test" for row in found) == 8
    assert [row["path"] for row in found if row["look at"]] == ["../my photos/train/ant/night.jpg"]
    assert all((table.parent / row["path"]).is_file() for row in found)
    assert {row["label"] for row in found} == {"ant", "bee, wild"}


def test_training_sees_the_table_with_its_corrections(folder: Path, convolve: Convolve) -> None:
    table = folder / "clean.csv"
    convolve("check-data", folder, "--write-table", table)
    text = table.read_text(encoding="utf-8")
    corrected = text.replace("train/ant/night.jpg,ant,", 'train/ant/night.jpg,"bee, wild",')
    assert corrected != text
    table.write_text(corrected, encoding="utf-8")
    splits = open_data(str(table))
    assert splits.class_names == ("ant", "bee, wild") and (len(splits.train), len(splits.test)) == (15, 8)
    labels = {Path(splits.train.file(n)).name: int(splits.train.labels_N[n]) for n in range(len(splits.train))}
    assert labels["night.jpg"] == 1 and labels["4.jpg"] == 0
    again = json.loads(convolve("check-data", table, "--json").out)
    assert again["images"] == {"training": 15, "test": 8}
    assert again["counts"] == {"dark": 1, "unlabeled": 2}  # the images that were left out, in two folders
    outcome = convolve("train", "cifar10-fast", "--data", table, "--out", folder / "run", *TINY)
    assert outcome.code == 0, outcome.err
    start = json.loads((folder / "run" / "start.json").read_text())
    assert (start["train_samples"], start["test_samples"]) == (15, 8)


def test_a_set_in_one_part_has_no_column_of_parts(folder: Path, convolve: Convolve) -> None:
    table = folder / "clean.csv"
    convolve("check-data", folder / "test", "--write-table", table)
    assert table.read_text(encoding="utf-8").splitlines()[:2] == ["path,label,look at", "test/ant/0.jpg,ant,"]


def test_images_without_files_fit_in_no_table(tmp_path: Path, convolve: Convolve) -> None:
    place = cifar10_files.write_binary(tmp_path / "data")
    outcome = convolve("check-data", place, "--write-table", tmp_path / "a.csv")
    assert "nothing found" in outcome.out  # the check is not lost
    assert_refused(outcome._replace(out=""), 2, "is not an image file")
    assert not (tmp_path / "a.csv").exists()


def test_images_of_an_archive_stay_where_they_are_unpacked_for_a_moment(folder: Path, convolve: Convolve) -> None:
    archive = shutil.make_archive(str(folder.parent / "photos"), "zip", folder)
    outcome = convolve("check-data", archive, "--write-table", folder / "a.csv")
    assert_refused(outcome._replace(out=""), 2, "unpack it permanently")


def test_several_labels_and_numbers(tmp_path: Path, convolve: Convolve) -> None:
    """Both are checked as what they are, and the clean table is one that training takes with the same target."""
    told = {"classes": ('["ant", "wild bee"]', '["ant"]', "[]"), "number": ("0.5", "2", "-1.5")}
    for target, labels in told.items():
        folder = tmp_path / target
        listed = [[f"{number}.jpg", labels[number % 3]] for number in range(9)]
        for number in range(9):
            save(folder / f"{number}.jpg", scene(number))
        with (folder / "list.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["path", "label"], *listed, ["9.jpg", ""], ["0.jpg", labels[1]]])
        typed = ("--target", target, "--json", "--html", folder / "page.html", "--write-table", folder / "clean.csv")
        found = json.loads(convolve("check-data", folder / "list.csv", *typed).out)["counts"]
        assert found == {"bad line": 1, "two labels": 1}
        clean = rows(folder / "clean.csv")
        assert len(clean) == 8
        source = open_data(str(folder / "clean.csv"), options=DataOptions(target=target)).train  # type: ignore[arg-type]
        assert source.labels_N.shape[1] == (2 if target == "classes" else 1)
    assert_refused(convolve("check-data", folder / "list.csv", "--target", "klasses"), 2, "--target", "classes")
    plain = convolve("check-data", tmp_path / "number" / "list.csv")
    assert "measurements, which need --target number" in plain.out
