"""Tables of labeled images: columns by name, every refusal with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from convolve.formats.labeled_csv import read_labeled_csv

from convolve.errors import DataError


@pytest.mark.parametrize(
    "content",
    [
        "path,label\na.png,cat\nb b.png,dog\n",
        'label,note,path\ncat,x,a.png\ndog,"y, z",b b.png',
        "\ufeffpath,label\r\na.png,cat\r\n\r\nb b.png,dog\r\n",
        'path , label\n"a.png",cat \n"b b.png", dog\n',
    ],
)
def test_tables_that_say_the_same(content: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(content, encoding="utf-8", newline="")
    table = read_labeled_csv(tmp_path / "t.csv")
    assert (table.paths, table.labels, len(table)) == (("a.png", "b b.png"), ("cat", "dog"), 2)
    assert str(table.location(1)) == str(tmp_path / "b b.png")


def test_cells_of_several_lines_and_archives(tmp_path: Path) -> None:
    content = 'path,label,note\n/abs/x.png,1,"two\nlines"\nphotos.zip@/ü/y.png,2,\n'
    (tmp_path / "t.csv").write_text(content, encoding="utf-8")
    table = read_labeled_csv(tmp_path / "t.csv")
    assert str(table.location(0)) == "/abs/x.png"
    assert table.location(1).file == str(tmp_path / "photos.zip") and table.location(1).member == "ü/y.png"
    assert [table.place(index) for index in range(2)] == [f"{tmp_path / 't.csv'}: line {line}" for line in (2, 4)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"t\.csv: line 1: the header must name the columns path and label"),
        (b"path,class\na.png,cat\n", r"line 1: the header must name"),
        (b"path,label,path\na,b,c\n", r"line 1: the header must name"),
        (b"path,label\n", r"holds no image; each row below the header"),
        (b"path,label\na.png,cat\nb.png\n", r"line 3: 1 columns, the header has 2"),
        (b"path,label\na.png,cat\nb.png,dog,x\n", r"line 3: 3 columns, the header has 2"),
        (b"path,label\n,cat\n", r"line 2: the path is missing"),
        (b"path,label\na.png, \n", r"line 2: the label is missing"),
        (b'path,label\n"a.png,cat\n', r"line \d: no CSV"),
        (b"path,label\n\xff.png,cat\n", r"byte 11: no text in UTF-8"),
        (b"path,label\na.png\0,cat\n", r"line 2"),
    ],
)
def test_refusals_name_the_line(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_labeled_csv(tmp_path / "t.csv")
