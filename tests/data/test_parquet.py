"""Parquet as Hugging Face's `datasets` writes sets of images, and as others do."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command_line import Convolve, assert_refused
from convolve.data.image_files import find_images
from convolve.data.lists import open_list
from convolve.data.open import open_data
from convolve.data.options import DataOptions
from convolve.formats import parquet
from convolve.formats.archive import ByteReader
from convolve.formats.table import Columns
from shard_files import CLASSES, picture

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")


def write_parquet(path: Path, numbers: range, names: tuple[str, ...] | None = CLASSES, **columns: Any) -> Path:
    """The picture of each number, as `datasets` has it: a group of rows for every five."""
    struct = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    image = pa.array([{"bytes": picture(number), "path": f"{number}.png"} for number in numbers], struct)
    rows = {"image": image, "label": pa.array([number % 3 for number in numbers], pa.int64())} | columns
    table = pa.table({name: each for name, each in rows.items() if each is not None})
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    if names:
        features["label"] = {"_type": "ClassLabel", "names": list(names)}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=5)
    return path


def test_a_repository_of_hugging_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_GROUP_BYTES", 1)  # of one group at a time
    for part in range(2):
        write_parquet(tmp_path / f"set/data/train-{part:05}-of-00002.parquet", range(part * 12, part * 12 + 12))
    write_parquet(tmp_path / "set/data/validation-00000-of-00001.parquet", range(24, 30))
    splits = open_data(str(tmp_path / "set"))
    assert (splits.class_names, len(splits.train), len(splits.test)) == (CLASSES, 24, 6)
    for index in np.random.default_rng(0).permutation(24).tolist():
        assert splits.train.read(index) == picture(index) and splits.train.labels_N[index] == index % 3
    assert splits.train.location(13).endswith("train-00001-of-00002.parquet: row 2")
    places = list(find_images([tmp_path / "set"]))
    with ByteReader() as reader:
        assert [reader.read(place) for place in places] == [picture(number) for number in range(30)]


def test_other_columns(tmp_path: Path) -> None:
    plain = pa.array([picture(number) for number in range(6)], pa.binary())
    words = pa.array([CLASSES[number % 3] for number in range(6)])
    path = write_parquet(tmp_path / "a.parquet", range(6), None, image=None, label=None, photo=plain, kind=words)
    found = open_list(path, options=DataOptions(Columns(image="photo", label=("kind",))))
    assert found.class_names == CLASSES and found.labels_N.tolist() == [0, 1, 2] * 2
    assert [found.read(index) for index in range(6)] == [picture(number) for number in range(6)]
    path = write_parquet(tmp_path / "b.parquet", range(6), ("owl", "cat", "dog"))
    assert open_list(path, CLASSES).labels_N.tolist() == [2, 0, 1, 2, 0, 1]  # by the names that the model knows


def test_shards_of_it(tmp_path: Path, convolve: Convolve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVOLVE_CACHE", str(tmp_path / "cache"))
    source = write_parquet(tmp_path / "set/train-0.parquet", range(24)).parent
    found = convolve("prepare", "shards", "--source", source, "--out", tmp_path / "out")
    assert found.code == 0, found.err
    again = open_list(tmp_path / "out")
    assert sorted(again.read(index) for index in range(24)) == sorted(map(picture, range(24)))
    assert again.class_names == CLASSES


def many_rows(path: Path) -> None:
    count = 1 << 21
    rows = {"image": pa.nulls(count, pa.binary()), "label": pa.array(np.zeros(count, np.int64))}
    pq.write_table(pa.table(rows), path)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def empty_row(path: Path) -> None:
    struct = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    write_parquet(path, range(6), image=pa.array([{"bytes": None, "path": "/elsewhere.png"}] * 6, struct))


def two_columns(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.append_column("image", table["image"]), path)


BAD = {
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:700]), ["truncated or damaged", "get it again"]),
    "no Parquet": (lambda path: path.write_bytes(b"PAR1 and text"), ["not a Parquet file"]),
    "no image column": (lambda path: write_parquet(path, range(6), None, image=None), ["no column of images"]),
    "no label column": (lambda path: write_parquet(path, range(6), None, label=None), ["--columns label=NAME"]),
    "rows without labels": (
        lambda path: write_parquet(path, range(6), label=pa.array([0, 1, None, 0, 1, 2])), ["row 3", "no label"],
    ),
    "hidden labels": (
        lambda path: write_parquet(path, range(6), label=pa.array([0, 1, -1, 0, 1, 2])), ["row 3", "'-1' is not among"],
    ),
    "labels that are records": (
        lambda path: write_parquet(path, range(6), label=pa.array([{"a": 1}] * 6)), ["column label", "numbers or text"],
    ),
    "images that are text": (
        lambda path: write_parquet(path, range(6), image=pa.array(["x"] * 6)), ["holds 'string'", "images are bytes"],
    ),
    "images of another record": (
        lambda path: write_parquet(path, range(6), image=pa.array([{"path": "x"}] * 6)), ["images are bytes"],
    ),
    **({"a pipe": (pipe, ["a regular file"])} if hasattr(os, "mkfifo") else {}),
    "two columns of images": (two_columns, ["several columns are called image"]),
    "more rows than bytes": (many_rows, ["2,097,152 rows", "get it again"]),
    "images that lie elsewhere": (empty_row, ["row 1", "the row has no image"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_one_sentence(tmp_path: Path, convolve: Convolve, kind: str) -> None:
    path = write_parquet(tmp_path / "set/train-0.parquet", range(12))
    harm, words = BAD[kind]
    harm(path)
    found = convolve("prepare", "shards", "--source", path.parent, "--out", tmp_path / "out")
    assert_refused(found, 3, str(path), *words)
