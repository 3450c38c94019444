"""Lists of images in the layouts of others: Hugging Face's folders, lists of Windows, classes that differ by part."""

from __future__ import annotations

import json
import shutil
import sys
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest

from convolve.checking.check import check_data
from convolve.data.lists import open_list, open_lists
from convolve.data.options import DataOptions
from convolve.data.sources.classes import difference
from convolve.data.sources.files import FileSource
from convolve.errors import DataError
from convolve.formats.decode import Decoding

CLASSES = ("goldfish", "koala", "ladybug")


def write(path: Path, number: int) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((8, 8, 3), number, np.uint8))
    return path.name


def folders(place: Path, names: tuple[str, ...] = CLASSES) -> None:
    for number, name in enumerate(names):
        for copy in range(2):
            write(place / name / f"{copy}.png", 10 * number + copy)


def shown(source: FileSource) -> dict[int, int]:
    """What each image shows -> its class."""
    return {int(source.load(n, Decoding(gray=True))[0, 0, 0]): int(label) for n, label in enumerate(source.labels_N)}


@pytest.mark.parametrize("form", ["metadata.csv", "metadata.jsonl"])
def test_the_metadata_of_hugging_face(form: str, tmp_path: Path) -> None:
    for part, copies in (("train", range(4)), ("test", range(4, 6))):
        rows = []
        for number, name in enumerate(CLASSES):
            for copy in copies:
                rows.append((write(tmp_path / part / f"{name}-{copy}.jpg", 10 * number + copy), name))
        lines = ["file_name,label", *map(",".join, rows)]
        if form.endswith("jsonl"):
            lines = [json.dumps({"file_name": file, "label": name, "caption": None}) for file, name in rows]
        (tmp_path / part / form).write_text("\n".join(lines))
    own = open_lists(tmp_path)
    assert own.class_names == CLASSES and len(own.train) == 12 and len(own.test) == 6
    assert f"training part train/{form}, test part test/{form}" in own.description
    assert shown(own.test) == {10 * number + copy: number for number in range(3) for copy in (4, 5)}
    assert len(open_lists(tmp_path / "train").train) + len(open_lists(tmp_path / "train").test) == 12


def test_metadata_without_labels_leaves_them_to_the_folders(tmp_path: Path) -> None:
    folders(tmp_path)
    (tmp_path / "metadata.csv").write_text("file_name,caption\nkoala/0.png,a koala\n")
    assert open_lists(tmp_path).class_names == CLASSES


def test_a_header_makes_a_table_of_any_file(tmp_path: Path) -> None:
    folders(tmp_path)
    rows = [f"{name}/{copy}.png\t{name}" for name in CLASSES for copy in range(2)]
    (tmp_path / "images.txt").write_text("\n".join(["path\tlabel", *rows]))
    assert open_list(tmp_path / "images.txt").class_names == CLASSES


def test_a_list_of_a_competition_has_no_labels(tmp_path: Path) -> None:
    folders(tmp_path / "all")
    rows = [f"all/{name}/{copy},{name}" for name in CLASSES for copy in range(2)]
    (tmp_path / "train.csv").write_text("\n".join(["id,species", *rows]))
    (tmp_path / "test.csv").write_text("\n".join(["id", *(row.partition(",")[0] for row in rows)]))
    own = open_lists(tmp_path)
    assert "test.csv is ignored: it has no labels" in own.description and len(own.train) + len(own.test) == 6


@pytest.mark.parametrize("start", ["", "D:\\data\\"])
def test_map_files_of_windows(start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        write(tmp_path / "img" / f"{number}.png", number)
    lines = [f"{start}img\\{number}.png\t{number % 2}\r\n" for number in range(4)]
    (tmp_path / "map.txt").write_text("".join(lines), newline="")
    monkeypatch.chdir(tmp_path)
    if start:
        found = check_data(Path("map.txt"), threads=1).findings.kept[0]
        assert (
            found.what == f"{start}img\\0.png is not there" and "name its present folder with --root DIR" in found.mend
        )
    source = open_list(Path("map.txt"), options=DataOptions(root=Path() if start else None))
    assert shown(source) == {0: 0, 1: 1, 2: 0, 3: 1}
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "map.txt").write_text(
        "".join(line if start else f"...\\{line}" for line in lines), newline=""
    )
    source = open_list(Path("lists/map.txt"), options=DataOptions(root=tmp_path))
    assert shown(source) == {0: 0, 1: 1, 2: 0, 3: 1}


def test_a_list_and_its_files_may_have_names_in_two_unicode_forms(tmp_path: Path) -> None:
    """macOS' disks and archives gave names with letters of two parts."""
    composed, apart = (unicodedata.normalize(form, "K\u00e9/\u00e9") for form in ("NFC", "NFD"))
    for one, other in ((composed, apart), (apart, composed)):
        write(tmp_path / one[:1] / f"{other}.png", 1)
        (tmp_path / one[:1] / "t.csv").write_text(f"path,label\n{one}.png,x\n", encoding="utf-8")
        assert shown(open_list(tmp_path / one[:1] / "t.csv")) == {1: 0}
        shutil.rmtree(tmp_path / one[:1])


def test_a_file_whose_name_has_a_backslash_is_that_file(tmp_path: Path) -> None:
    write(tmp_path / "a\\b.png", 1)
    write(tmp_path / "a" / "b.png", 2)
    (tmp_path / "t.csv").write_text("path,label\na\\b.png,x\na/b.png,y\n")
    assert shown(open_list(tmp_path / "t.csv")) == {1: 0, 2: 1}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Koala", r"test: 'Koala' \(did you mean 'koala'\?\) is not among the classes goldfish, koala, ladybug"),
        ("koala ", r"test: 'koala ' \(did you mean 'koala'\?\) is not among the classes"),
        ("aardvark", r"test: 'aardvark' is not among the classes goldfish, koala, ladybug; name the subfolders after"),
    ],
)
def test_a_folder_of_no_class_is_named(name: str, message: str, tmp_path: Path) -> None:
    folders(tmp_path / "train")
    folders(tmp_path / "test", ("goldfish", name, "ladybug"))
    with pytest.raises(DataError, match=message):
        open_lists(tmp_path)
    kinds = [kind for kind, count in check_data(tmp_path, threads=1).findings.counts.items() if count]
    assert ("near names" in kinds) == (name != "aardvark") and "gap" in kinds


def test_numbers_are_in_the_order_of_numbers_in_folders_and_tables(tmp_path: Path) -> None:
    folders(tmp_path / "coins", ("1", "10", "2"))
    rows = [f"coins/{name}/{copy}.png,{name}\n" for name in ("10", "1", "2") for copy in range(2)]
    (tmp_path / "coins.csv").write_text("path,label\n" + "".join(rows))
    both = [open_lists(tmp_path / name) for name in ("coins", "coins.csv")]
    assert [own.class_names for own in both] == [("1", "2", "10")] * 2
    assert shown(both[0].train) == shown(both[1].train) and shown(both[0].test) == shown(both[1].test)


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names that differ in case alone are one")
def test_names_that_differ_in_capitals_alone_are_refused_as_classes(tmp_path: Path) -> None:
    folders(tmp_path, ("Koala", "koala", "bear"))
    with pytest.raises(DataError, match="the subfolders 'Koala' and 'koala' differ only in capitals or blanks; join"):
        open_lists(tmp_path)
    folders(tmp_path / "letters", ("A", "a", "b"))
    assert open_lists(tmp_path / "letters").class_names == ("A", "a", "b")


def test_unicode_forms_of_a_name_are_one_name(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "Koalab\u00e4r") for form in ("NFC", "NFD"))
    folders(tmp_path / "train", (composed, "bear"))
    folders(tmp_path / "test", (apart, "bear"))
    own = open_lists(tmp_path)
    assert own.class_names == ("Koalab\u00e4r", "bear") and own.test.labels_N.tolist() == [0, 0, 1, 1]
    assert not check_data(tmp_path, threads=1).findings.counts["gap"]
    folders(tmp_path / "train", (apart,))  # beside the other: the same class
    assert len(open_lists(tmp_path).train) == 6 and len(open_lists(tmp_path).class_names) == 2


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        (("cat", "dog", "fox"), "the images have the classes fox; the model has wolf, and 2 that both have"),
        (("cat", "dog"), "the images have the classes cat, dog; the model has wolf, and 2 that both have"),
        (("0", "1"), "the images have the classes 0, 1; the model has cat, dog, wolf"),
    ],
)
def test_the_classes_that_differ_are_said(theirs: tuple[str, ...], said: str) -> None:
    assert difference(theirs, ("cat", "dog", "wolf")) == said
