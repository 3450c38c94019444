"""Tables whose labels are several classes of an image, or numbers: what they mean, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from convolve.data.lists import open_lists
from convolve.data.open import open_data
from convolve.data.options import DataOptions
from convolve.data.sources.source import ArraySource, strata
from convolve.data.sources.table import open_table
from convolve.data.splits import Splits
from convolve.errors import ConvolveError, DataError, FormatError
from convolve.formats.table import Columns

SEVERAL, NUMBER = DataOptions(target="classes"), DataOptions(target="number")


def table(folder: Path, text: str, name: str = "t.csv") -> Path:
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("path,tags\na.png,cat;dog\nb.png,[]\nc.png,dog\n", "t.csv"),
        ("path,tags\na.png,cat | dog\nb.png,[]\nc.png,dog\n", "t.csv"),
        ('path,tags\na.png,"cat,dog"\nb.png,[]\nc.png,dog\n', "t.csv"),
        ("path,tags\na.png,dog cat\nb.png,[]\nc.png,dog\nd.png,cat\n", "t.csv"),
        ("path,cat,dog\na.png,1,1\nb.png,0,0\nc.png,0,1\n", "t.csv"),
        ('[{"path": "a.png", "labels": ["cat", "dog"]}, {"path": "b.png", "labels": []}, '
         '{"path": "c.png", "labels": ["dog"]}]', "t.json"),
    ],
    ids=["semicolon", "bar", "comma", "blank", "marks", "json"],
)  # fmt: skip
def test_several_classes_of_an_image(tmp_path: Path, text: str, name: str) -> None:
    source = open_table(table(tmp_path, text, name), options=SEVERAL)
    assert source.class_names == ("cat", "dog")
    assert source.labels_N[:3].tolist() == [[1, 1], [0, 0], [0, 1]] and source.labels_N.dtype == torch.float32


def test_columns_of_marks_are_named_beside_others(tmp_path: Path) -> None:
    path = table(tmp_path, "path,cat,dog,weight\na.png,1,0,3.5\nb.png,1,1,2.5\n")
    columns = Columns.parse("label=dog,label=cat")
    source = open_table(path, options=DataOptions(columns, target="classes"))
    assert source.class_names == ("dog", "cat") and source.labels_N.tolist() == [[0, 1], [1, 1]]
    known = open_table(path, ("cat", "dog"), options=SEVERAL)  # as a model asks for them
    assert known.labels_N.tolist() == [[1, 0], [1, 1]]


def test_names_that_hold_blanks_are_those_of_labels_txt(tmp_path: Path) -> None:
    table(tmp_path, "palm tree\nsea\nsand\n", "labels.txt")
    source = open_table(table(tmp_path, "path,tags\na.png,palm tree\nb.png,sea;palm tree\n"), options=SEVERAL)
    assert source.class_names == ("palm tree", "sea", "sand") and source.labels_N.tolist() == [[1, 0, 0], [1, 1, 0]]
    alone = open_table(table(tmp_path, "path,tags\na.png,palm tree\nb.png,sea\n"), options=SEVERAL)
    assert alone.labels_N.tolist() == [[1, 0, 0], [0, 1, 0]]


def test_numbers(tmp_path: Path) -> None:
    path = table(tmp_path, "path,age,height\na.png,31.5,180\nb.png,-2e1,95\n")
    one = open_table(path, options=DataOptions(Columns.parse("label=age"), target="number"))
    assert one.class_names == ("age",) and one.labels_N.tolist() == [[31.5], [-20]]
    both = open_table(path, options=DataOptions(Columns.parse("label=height,label=age"), target="number"))
    assert both.class_names == ("height", "age") and both.labels_N.tolist() == [[180, 31.5], [95, -20]]
    assert open_table(path, ("age",), options=NUMBER).labels_N.tolist() == [[31.5], [-20]]  # as a model asks for it


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("path,tags\na.png,cat\nb.png,\n", SEVERAL, "line 3: the label is missing; write []"),
        ("path,tags\na.png,cat;nan\n", SEVERAL, "line 2: the labels are missing"),
        ("path,tags\na.png,[cat\n", SEVERAL, "line 2: [cat is not a JSON list of names"),
        ("path,tags\na.png,cat;Cat\nb.png,cat\n", SEVERAL, "differ only in capitals or blanks"),
        ("path,cat,dog\na.png,1,0\nb.png,0.3,0.7\n", SEVERAL, "line 3: 0.3 in the column cat; write 1"),
        ("path,cat,dog\na.png,1,1\n", DataOptions(), "one must be 1 and the others 0; there is 1 in cat, dog"),
        (
            "path,age\na.png,31\nb.png,old\n",
            DataOptions(Columns(label=("age",)), target="number"),
            "line 3: age is old",
        ),
        ("path,value\na.png,31\nb.png,nan\n", NUMBER, "line 3: the number value is missing"),
        ("path,age\na.png,31\n", NUMBER, "name it with --columns label=NAME"),
        (
            "path,a,b\na.png,x,y\n",
            DataOptions(Columns.parse("label=a,label=b")),
            "name one, or set data.target",
        ),
    ],
)
def test_labels_of_another_kind_are_refused(tmp_path: Path, text: str, options: DataOptions, said: str) -> None:
    with pytest.raises(FormatError) as caught:
        open_table(table(tmp_path, text), options=options)
    assert said in str(caught.value)


def test_classes_that_a_model_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"line 3: 'bird' is not among the classes cat, dog"):
        open_table(table(tmp_path, "path,tags\na.png,cat\nb.png,bird;cat\n"), ("cat", "dog"), options=SEVERAL)


def test_folders_have_one_class_an_image(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"data\.target=number needs a table"):
        open_lists(tmp_path, options=NUMBER)
    with pytest.raises(ConvolveError, match=r"data\.target=classes needs a table"):
        open_data(str(tmp_path), options=SEVERAL)


def test_a_set_must_have_something_to_learn() -> None:
    images_NCHW = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)

    def splits(labels: list[list[float]], target: str) -> Splits:
        source = ArraySource(images_NCHW, torch.tensor(labels, dtype=torch.float32))
        return Splits(source, source, ("a",) * len(labels[0]), "own", target=target)  # type: ignore[arg-type]

    with pytest.raises(DataError, match="all training images have the same number"):
        splits([[3.0]] * 4, "number")
    with pytest.raises(DataError, match="all training images are of the same classes"):
        splits([[1.0, 0.0]] * 4, "classes")
    with pytest.raises(DataError, match="are soft; target=classes needs 0 or 1"):
        splits([[1.0, 0.3]] * 4, "classes")
    with pytest.raises(DataError, match="hold values that are not numbers"):
        splits([[float("nan")]] * 4, "number")
    with pytest.raises(DataError, match="several per image, or numbers; set target="):
        splits([[1.0]] * 4, "class")
    assert splits([[1.0], [0.0]] * 2, "classes").class_names == ("a",)


def test_each_class_is_on_both_sides_of_a_split() -> None:
    """The rarest class of an image decides; numbers have none."""
    labels_NK = torch.tensor([[1.0, 0, 0], [1, 1, 0], [1, 1, 1], [0, 0, 0], [1, 0, 0]])
    assert strata(labels_NK).tolist() == [0, 1, 2, -1, 0]
    assert strata(torch.tensor([[0.5], [2.0]])).tolist() == [-1, -1]
    assert np.array_equal(strata(torch.tensor([3, 1])), [3, 1])
