"""Tables of labeled images: the corpus says the same in every form, and every refusal names its row."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from convolve.data.options import DataOptions
from convolve.data.sources.table import open_table
from convolve.errors import DataError, FormatError, MissingDataError, UsageError
from convolve.formats.decode import Decoding
from convolve.formats.table import Columns, read_table
from convolve.formats.table_rows import read_header, read_rows

CORPUS = Path(__file__).parents[1] / "corpus" / "tables"
VALID = sorted((CORPUS / "valid").iterdir())
MESSAGES = json.loads((CORPUS / "invalid" / "messages.json").read_text(encoding="utf-8"))
LABELS = ["cat", "dog", "fox"] * 2


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Six images `img/N.png` that show N."""
    (tmp_path / "img").mkdir()
    for number in range(len(LABELS)):
        cv2.imwrite(str(tmp_path / "img" / f"{number}.png"), np.full((8, 8), number, np.uint8))
    return tmp_path


@pytest.mark.parametrize("file", VALID, ids=lambda file: file.name)
def test_each_table_says_the_same(file: Path, images: Path) -> None:
    shutil.copy(file, images)
    source = open_table(images / file.name)
    assert source.class_names == ("cat", "dog", "fox")
    assert [source.class_names[label] for label in source.labels_N.tolist()] == LABELS
    seen = [int(source.load(index, Decoding(gray=True))[0, 0, 0]) for index in range(len(source))]
    assert seen == [*range(len(LABELS))]
    if source.roles:
        assert [role == "training" for role in source.roles] == [True] * 5 + [False]


@pytest.mark.parametrize("file", [file for file in VALID if "no_header" not in file.name and "vertex" not in file.name])
def test_the_header_is_known_before_the_rows(file: Path) -> None:
    names = read_rows(file, Columns().knows)[0]
    assert [name.strip() for name in names] == read_header(file) or {*read_header(file)} < {*names}  # of JSON Lines


@pytest.mark.parametrize("name", MESSAGES)
def test_refusals_name_the_row(name: str) -> None:
    with pytest.raises(DataError, match=f"{re.escape(name)}: {MESSAGES[name]}") as refused:
        open_table(CORPUS / "invalid" / name)
    assert "\n" not in str(refused.value)


def test_a_cell_that_is_too_long_for_a_name(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(b"image,label\n" + 5000 * b"\xff" + b",a\n")
    with pytest.raises(DataError, match="not UTF-8 text"):
        read_table(tmp_path / "table.csv")


def test_the_corpus_is_complete() -> None:
    assert {file.name for file in (CORPUS / "invalid").iterdir()} == {*MESSAGES, "messages.json"}


@pytest.mark.parametrize("name", ["nan.csv", "empty_label.csv", "short_row.csv", "unknown_split.csv"])
def test_a_check_goes_on_after_a_bad_row(name: str) -> None:
    told: list[tuple[str, ...]] = []
    source = open_table(CORPUS / "invalid" / name, on_fault=lambda *fault: told.append(fault))
    assert [(kind, place.rpartition(": ")[2]) for kind, place, *_ in told] == [("bad line", "line 3")]
    assert source.labels_N.tolist() == [0, -1]


def test_columns_by_name(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,photo,label,species,site,split\na.png,b.png,cat,felis,north,holdout\n")
    table = read_table(tmp_path / "t.csv", Columns.parse("image=photo,label=species,group=site,split="))
    assert (table.paths, table.labels, table.groups, table.roles) == (["b.png"], ["felis"], ["north"], None)
    assert Columns.parse("group=site([0-9]{1,2}),label=a, b") == Columns(group="site([0-9]{1,2})", label=("a, b",))
    with pytest.raises(DataError, match=r"line 1: --columns label=specie: unknown column .*'species'"):
        read_table(tmp_path / "t.csv", Columns.parse("image=photo,label=specie"))


@pytest.mark.parametrize("text", ["image", "image=", "picture=x", "image=a,lable=b", "image=a,label="])
def test_columns_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="--columns"):
        Columns.parse(text)


def test_cells_of_several_lines_and_archives(tmp_path: Path) -> None:
    content = 'path,label,note\n/abs/x.png,1,"two\nlines"\nphotos.zip@/ü/y.png,2,\n'
    (tmp_path / "t.csv").write_text(content, encoding="utf-8")
    source = open_table(tmp_path / "t.csv")
    assert source.file(0) == "/abs/x.png" and source.file(1) == f"{tmp_path / 'photos.zip'}@/ü/y.png"
    assert [source.location(index) for index in range(2)] == [f"{tmp_path / 't.csv'}: line {line}" for line in (2, 4)]


@pytest.mark.parametrize(
    ("labels", "classes", "numbers"),
    [
        (["1", "2", "3"], "1234", [0, 1, 2]),  # by name, though all are numbers of classes, too
        (["4", "1"], "1234", [3, 0]),
        (["0", "2"], ["cat", "dog", "fox"], [0, 2]),
        (["fox", "cat"], ["cat", "dog", "fox"], [2, 0]),
        (["n02000000", "n01440764"], ["n01440764 tench", "n02000000 x, y"], [1, 0]),
        (["Koalaba\u0308r", "a"], ["a", "Koalab\u00e4r"], [1, 0]),
        (["5", "25", "1", "10"], None, [1, 3, 0, 2]),  # coins: four classes, in the order of their values
        (["1", "00", "01"], None, [2, 0, 1]),
        (["-1", "1", "0"], None, [0, 2, 1]),
        (["2", "1", "0"], None, [2, 1, 0]),
        (["b, x", "a, x"], None, [1, 0]),
        (["polar bear", "bear"], None, [1, 0]),
        (["a", "A"], None, [1, 0]),
    ],
)
def test_what_labels_mean(labels: list[str], classes: list[str] | None, numbers: list[int], tmp_path: Path) -> None:
    rows = [{"path": f"{number}.png", "label": label} for number, label in enumerate(labels)]
    (tmp_path / "t.json").write_text(json.dumps(rows))
    source = open_table(tmp_path / "t.json", classes)
    assert source.labels_N.tolist() == numbers
    assert classes or source.class_names == tuple(labels[numbers.index(k)] for k in range(len(labels)))


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (
            ["0", "1"],
            "1234",
            "object 2: the label 1 may mean the class '1', or the number of the class '2', since another label, '0'",
        ),
        (["0", "3"], ["cat", "dog"], r"object 2: the label is 3; with 2 classes it must be in 0\.\.1"),
        (["cat", "Dog"], ["cat", "dog"], r"object 2: 'Dog' \(did you mean 'dog'\?\) is not among the classes cat, dog"),
        (["cat", "1"], ["cat", "dog"], "object 2: '1' is not among the classes cat, dog"),
    ],
)
def test_labels_of_no_class(labels: list[str], classes: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps([{"path": "a.png", "label": label} for label in labels]))
    with pytest.raises(DataError, match=message):
        open_table(tmp_path / "t.json", classes)


def test_a_file_of_labels_names_the_classes(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('path,label\na.png,cat\nb.png,dog\nc.png,"cat,dog"\n')
    (tmp_path / "labels.txt").write_text("dog\ncat\ncat,dog\n")
    assert open_table(tmp_path / "t.csv").labels_N.tolist() == [1, 0, 2]
    (tmp_path / "t.csv").write_text("path,label\na.png,0\nb.png,2\n")
    source = open_table(tmp_path / "t.csv")
    assert source.labels_N.tolist() == [0, 2] and source.class_names == ("dog", "cat", "cat,dog")


def test_a_name_without_its_ending_must_be_of_one_file(images: Path) -> None:
    shutil.copy(images / "img" / "0.png", images / "img" / "0.jpg")
    (images / "t.csv").write_text("id,label\nimg/0,cat\nimg/1,dog\nimg/9,dog\n")
    source = open_table(images / "t.csv")
    assert source.file(1) == str(images / "img" / "1.png") and source.file(2) == str(images / "img" / "9")
    with pytest.raises(
        DataError, match=r"t\.csv: line 2: img/0 may be 0\.jpg or 0\.png; write the name with its ending"
    ):
        source.file(0)


@pytest.mark.parametrize("start", ["", "D:\\photos\\", "/home/somebody/photos/", "gs://bucket/", "\\\\server\\share\\"])
def test_images_that_lie_elsewhere_now(start: str, images: Path) -> None:
    (images / "lists").mkdir()
    slash = "\\" if "\\" in start else "/"
    rows = [f"{start}img{slash}{number}.png,{label}\n" for number, label in enumerate(LABELS)]
    (images / "lists" / "t.csv").write_text("path,label\n" + "".join(rows))
    for root in (images, *([images / "img"] if start else [])):
        source = open_table(images / "lists" / "t.csv", options=DataOptions(root=root))
        assert [source.file(index) for index in range(6)] == [str(images / "img" / f"{n}.png") for n in range(6)]
    if start:
        with pytest.raises(
            DataError, match=r"is not below .*lists, neither with all its folders nor without the first"
        ):
            open_table(images / "lists" / "t.csv", options=DataOptions(root=images / "lists"))


def test_a_folder_of_its_own_is_not_taken_for_another(images: Path) -> None:
    """`E:` may hold another image of the same name than `D:`."""
    (images / "t.csv").write_text("path,label\nD:\\img\\0.png,cat\nE:\\img\\1.png,dog\n")
    source = open_table(images / "t.csv", options=DataOptions(root=images))
    assert source.file(0) == str(images / "img" / "0.png") and source.file(1) == "E:\\img\\1.png"


@pytest.mark.parametrize("name", ["x" * 5000, "file://%00", "file://[a.png", "a\\b@/c", "D:"])
def test_paths_that_lead_nowhere(name: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"path,label\n{name},cat\nb,dog\n")
    with pytest.raises(DataError):
        open_table(tmp_path / "t.csv").load(0, Decoding())


def test_labels_in_latin_1_are_refused(images: Path) -> None:
    (images / "t.csv").write_bytes("path,label\nimg/0.png,b\xe4r\nimg/1.png,cat\n".encode("latin-1"))
    with pytest.raises(DataError, match="byte 22: not UTF-8 text; save the table as UTF-8"):
        open_table(images / "t.csv")


def test_addresses_of_files(images: Path) -> None:
    file = images / "img" / "ä 1.png"
    shutil.copy(images / "img" / "1.png", file)
    (images / "t.csv").write_text(f"path,label\n{file.as_uri()},cat\n")
    assert open_table(images / "t.csv").file(0) == str(file)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_line_that_is_too_long(name: str, tmp_path: Path) -> None:
    first = "image,label\n0.png,cat\n" if name == "a.csv" else '{"image": "0.png"}\n{"image": "1.png"}\n'
    (tmp_path / name).write_text(first + (17 << 20) * "\0", encoding="utf-8")
    with pytest.raises(FormatError, match="line 3: more than"):
        read_table(tmp_path / name)


def test_a_table_that_is_too_large(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("image,label\n0.png,cat\n", encoding="utf-8")
    os.truncate(tmp_path / "a.csv", 2 << 30)
    with pytest.raises(MissingDataError, match="at most"):
        read_table(tmp_path / "a.csv")
