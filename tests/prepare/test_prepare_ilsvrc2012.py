"""`prepare ilsvrc2012` and readlabels.py: maps, class numbers, and every fault of the data by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from command_line import Convolve, assert_refused
from convolve.data.lists import open_lists
from convolve.errors import ConvolveError, DataError, MissingDataError, UsageError
from convolve.prepare.ilsvrc2012 import prepare_ilsvrc2012
from ilsvrc2012_files import TRAIN_EACH, VAL, WORDS, annotation, write_download
from processes import start

IDS = list(WORDS)
SCRIPT = Path(__file__).parents[2] / "examples" / "AlexNet" / "readlabels.py"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_download(tmp_path / "ILSVRC2012")


def prepare(source: Path, out: Path, order_from: Path | None = None) -> list[str]:
    return [*map(str, prepare_ilsvrc2012(source, out, order_from=order_from))]


def rows(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]


def left_out(out: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for why, what in rows(out / "left_out.txt"):
        found.setdefault(why, []).append(what)
    return found


def xml(source: Path, number: int) -> Path:
    return source / "Annotations" / "CLS-LOC" / "val" / f"ILSVRC2012_val_{number:08d}.xml"


def test_every_image_with_its_class(source: Path, tmp_path: Path) -> None:
    out, data = tmp_path / "out", source / "Data" / "CLS-LOC"
    prepare(source, out)
    expected = [
        [f"{data}/train/{name}/{name}_{i}.JPEG", str(k)] for k, name in enumerate(IDS) for i in range(TRAIN_EACH)
    ]
    assert rows(out / "train_map.txt") == expected
    expected = [[f"{data}/val/ILSVRC2012_val_{i + 1:08d}.JPEG", str(i % 3)] for i in range(VAL)]
    assert rows(out / "val_map.txt") == expected
    assert rows(out / "classmappings.txt") == [[name, str(k)] for k, name in enumerate(IDS)]
    assert (out / "labels.txt").read_text().splitlines() == [f"{name} {words}" for name, words in WORDS.items()]
    assert not (out / "left_out.txt").exists()
    own = open_lists(out)
    assert (len(own.train), len(own.test), own.class_names[0]) == (3 * TRAIN_EACH, VAL, "n01440764 tench, Tinca tinca")


def test_without_the_list_of_synsets_classes_are_called_by_their_ids(source: Path, tmp_path: Path) -> None:
    (source / "LOC_synset_mapping.txt").unlink()
    prepare(source, tmp_path / "out")
    assert (tmp_path / "out" / "labels.txt").read_text().split() == IDS


@pytest.mark.parametrize("columns", ["number first", "number last", "in another order"])
def test_old_numbers_are_kept(columns: str, source: Path, tmp_path: Path) -> None:
    order = [IDS[2], IDS[0], IDS[1], "n99999999"]
    lines = [f"{k}\t{name}\n" if columns == "number first" else f"{name}\t{k}\n" for k, name in enumerate(order)]
    (tmp_path / "old.txt").write_text("".join(reversed(lines) if columns == "in another order" else lines))
    prepare(source, tmp_path / "out", tmp_path / "old.txt")
    assert rows(tmp_path / "out" / "classmappings.txt") == [[name, str(k)] for k, name in enumerate(order)]
    labels = {Path(path).parent.name: int(label) for path, label in rows(tmp_path / "out" / "train_map.txt")}
    assert labels == {IDS[0]: 1, IDS[1]: 2, IDS[2]: 0}
    assert [label for _, label in rows(tmp_path / "out" / "val_map.txt")] == ["1", "2", "0"] * 2
    assert left_out(tmp_path / "out") == {"the class has no folder (it keeps its number)": ["n99999999"]}


def test_old_numbers_of_other_classes_are_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text(f"0\t{IDS[1]}\n1\tn99999999\n")
    with pytest.raises(DataError, match=r"old\.txt has no number for 2 of the classes \(n01440764, n01484850\)"):
        prepare(source, tmp_path / "out", tmp_path / "old.txt")
    (tmp_path / "old.txt").write_text("".join(f"{k}\t{name}\n" for k, name in enumerate([*IDS, IDS[1]])))
    with pytest.raises(DataError, match=r"old\.txt gives n01443537 two numbers"):
        prepare(source, tmp_path / "out", tmp_path / "old.txt")
    assert not (tmp_path / "out").exists()


def test_every_fault_is_named(source: Path, tmp_path: Path) -> None:
    train, val = source / "Data" / "CLS-LOC" / "train", source / "Data" / "CLS-LOC" / "val"
    (train / "list.txt").touch()
    (train / "fish").mkdir()
    (train / "n02000000").mkdir()
    (train / IDS[0] / "notes.txt").touch()
    (train / IDS[0] / "more.JPEG").mkdir()
    (val / ".DS_Store").touch()
    (val / "ILSVRC2012_val_00000001.JPEG").unlink()
    xml(source, 2).unlink()
    xml(source, 3).write_text(annotation(IDS[0], IDS[1]))
    xml(source, 4).write_text("<annotation><object>")
    xml(source, 5).write_text(annotation("n99999999"))
    xml(source, 6).write_text(annotation())
    xml(source, 6).with_name("readme").touch()
    lines = prepare(source, tmp_path / "out")
    found = left_out(tmp_path / "out")
    damaged = found.pop("the annotation is damaged")
    assert damaged[0].startswith(f"{xml(source, 4)}: line 1, column ")
    assert found == {
        "it is not the folder of a class": [f"{train}/list.txt"],
        "the folder is not named by a WordNet ID": [f"{train}/fish"],
        "the class has no images (it keeps its number)": [f"{train}/n02000000"],
        "its name is not that of an image": [
            f"{train}/{IDS[0]}/more.JPEG",
            f"{train}/{IDS[0]}/notes.txt",
            f"{val}/.DS_Store",
        ],
        "its name is not that of an annotation": [str(xml(source, 6).with_name("readme"))],
        "the image has no annotation": [f"{val}/ILSVRC2012_val_00000002.JPEG"],
        "the annotation has objects of different classes": [f"{xml(source, 3)}: {IDS[0]}, {IDS[1]}"],
        "its class has no training images": [f"{val}/ILSVRC2012_val_00000005.JPEG"],
        "the annotation has no object": [str(xml(source, 6))],
        "the image of the annotation is missing": [str(xml(source, 1))],
    }
    assert [line for line in lines if "its name is not that of an image: 3 (" in line and "notes.txt" in line]
    assert not (tmp_path / "out" / "val_map.txt").exists()
    assert rows(tmp_path / "out" / "classmappings.txt")[-1] == ["n02000000", "3"]


def test_a_long_list_of_faults_is_shortened_on_the_screen_only(source: Path, tmp_path: Path) -> None:
    for number in range(25):
        (source / "Data" / "CLS-LOC" / "train" / f"stray{number:02d}").touch()
    (line,) = (line for line in prepare(source, tmp_path / "out") if "left out" in line)
    assert "it is not the folder of a class: 25 (" in line
    assert line.count("stray") == 10
    assert line.endswith("and 15 more)")
    assert len(left_out(tmp_path / "out")["it is not the folder of a class"]) == 25


def test_several_objects_of_one_class_are_no_fault(source: Path, tmp_path: Path) -> None:
    xml(source, 1).write_text(annotation(IDS[0], IDS[0]))
    prepare(source, tmp_path / "out")
    assert len(rows(tmp_path / "out" / "val_map.txt")) == VAL


def test_an_annotation_that_would_explode(source: Path, tmp_path: Path) -> None:
    bomb = '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;&b;">]>' + annotation(IDS[0])
    xml(source, 1).write_text(bomb)
    prepare(source, tmp_path / "out")
    assert "unsupported kind of XML" in left_out(tmp_path / "out")["the annotation is damaged"][0]


@pytest.mark.parametrize("part", ["val", "annotations"])
def test_without_validation_there_is_no_map_of_it(part: str, source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out")
    folders = {"val": source / "Data" / "CLS-LOC" / "val", "annotations": source / "Annotations" / "CLS-LOC" / "val"}
    folders[part].rename(tmp_path / "elsewhere")
    lines = prepare(source, tmp_path / "out")
    assert not (tmp_path / "out" / "val_map.txt").exists()
    assert any("val_map.txt: not written" in line for line in lines)
    assert [str(folders[part])] in left_out(tmp_path / "out").values()
    assert open_lists(tmp_path / "out").held_out


def test_mended_data_is_prepared_anew(source: Path, tmp_path: Path) -> None:
    whole = xml(source, 1).read_text()
    xml(source, 1).write_text("")
    prepare(source, tmp_path / "out")
    assert len(rows(tmp_path / "out" / "val_map.txt")) == VAL - 1
    xml(source, 1).write_text(whole)
    prepare(source, tmp_path / "out")
    assert len(rows(tmp_path / "out" / "val_map.txt")) == VAL
    assert not (tmp_path / "out" / "left_out.txt").exists()


def test_what_cannot_be_prepared(source: Path, tmp_path: Path, convolve: Convolve) -> None:
    with pytest.raises(MissingDataError, match=r"has no Data/CLS-LOC/train; give --source the unpacked download"):
        prepare(source / "Data", tmp_path / "out")
    (tmp_path / "Kaggle").mkdir()
    (source.rename(tmp_path / "Kaggle" / "ILSVRC"))
    prepare(tmp_path / "Kaggle", tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(ConvolveError, match="cannot write"):
        prepare(tmp_path / "Kaggle", tmp_path / "file" / "out")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "train_map.txt").touch()
    with pytest.raises(UsageError, match="which convolve did not write"):
        prepare(tmp_path / "Kaggle", tmp_path / "theirs")
    outcome = convolve("prepare", "mnist", "--out", tmp_path / "mnist", "--order-from", tmp_path / "file")
    assert_refused(outcome, 2, "--order-from is for ilsvrc2012")


@pytest.mark.skipif(sys.platform != "linux", reason="limits as Linux has them")
def test_a_map_that_cannot_grow(source: Path, tmp_path: Path, convolve: Convolve) -> None:
    out = tmp_path / "out"
    words = ["prepare", "ilsvrc2012", "--source", source, "--out", out]
    outcome = start(tmp_path / "log", *words, most_file_bytes=400).outcome()
    assert outcome.code == 1
    assert f"cannot write {out / 'train_map.txt'}: File too large" in outcome.err
    assert not (out / "train_map.txt").exists()
    assert convolve(*words).code == 0
    assert len(rows(out / "train_map.txt")) == 3 * TRAIN_EACH


def test_a_download_without_images(source: Path, tmp_path: Path) -> None:
    for file in source.rglob("*.JPEG"):
        file.unlink()
    with pytest.raises(DataError, match="there are no training images"):
        prepare(source, tmp_path / "out")


def test_readlabels_under_its_own_name(source: Path, tmp_path: Path, convolve: Convolve) -> None:
    data, annotations = source / "Data" / "CLS-LOC", source / "Annotations" / "CLS-LOC" / "val"
    (tmp_path / "here").mkdir()
    command = [sys.executable, SCRIPT, data / "train", data / "val", annotations]
    done = subprocess.run(command, cwd=tmp_path / "here", capture_output=True, text=True, timeout=600, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    outcome = convolve("prepare", "ilsvrc2012", "--source", source, "--out", tmp_path / "there")
    assert (outcome.code, outcome.err) == (0, "")
    for name in ("train_map.txt", "val_map.txt", "classmappings.txt", "labels.txt"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()
    done = subprocess.run(
        [*command[:3], tmp_path, tmp_path, "--order-from", "x"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
