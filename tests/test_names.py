"""Files and folders of classes may be called by any bytes: every command takes them, and gives them back."""

from __future__ import annotations

import csv
import json
import os
import random
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from command_line import Convolve, assert_refused

pytestmark = pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")

# As they come out of an archive from Windows (latin-1), out of a shell, or out of a spreadsheet.
FILES = (
    b"caf\xe9.jpg", b"a,b.jpg", b'"q".jpg', b"-x.jpg", "\N{KOALA}.jpg".encode(), b"x" * 240 + b".jpg", b" lead.jpg",
    b"50% off #1?.jpg", b"=cmd.jpg", b"back\\slash.jpg", b"<b>&amp;.jpg", b"\xff\xfe\x80.jpg",
)  # fmt: skip
LETTERS = [byte for byte in range(1, 256) if byte not in b"\t\n\r/@\\"]
FILES += tuple(b"_" + bytes(random.Random(seed).choices(LETTERS, k=12)) + b".jpg" for seed in range(12))
ODDER = (b"new\nline.jpg", b"tab\t.jpg", b"img@/k.jpg")  # which a map file cannot hold
CLASSES = (b"Koalab\xe4r", "r\u00f8d <i>".encode(), b'a,"b"')
TINY = ("--threads", "1", "--epochs", "1", "--set", "model.variant=tiny", "--set", "run.global_batch_size=8")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of three classes, all different, in folders and files with names of all kinds."""
    folder, generator = tmp_path_factory.mktemp("names"), np.random.default_rng(0)
    for name in CLASSES:
        for file in FILES:
            path = folder / os.fsdecode(name) / os.fsdecode(file)
            path.parent.mkdir(exist_ok=True)
            pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            path.write_bytes(cv2.imencode(".jpg", pixels)[1].tobytes())
    return folder


def ok(convolve: Convolve, *words: object) -> str:
    """What a command that finds nothing wrong prints."""
    outcome = convolve(*words)
    assert outcome.code == 0, outcome.err
    return outcome.out


def test_every_command_takes_names_of_any_bytes(photos: Path, convolve: Convolve, tmp_path: Path) -> None:
    run, names = tmp_path / "l\u00e4uf", [os.fsdecode(name) for name in sorted(CLASSES)]
    ok(convolve, "train", "cifar10-fast", "--data", photos, "--out", run, *TINY)
    assert json.loads((run / "model" / "model.json").read_text())["class_names"] == names

    table = json.loads(ok(convolve, "evaluate", run, "--data", photos, "--json"))["classes"]
    assert [row["class"] for row in table] == names
    ok(convolve, "evaluate", run, "--data", photos, "--csv", tmp_path / "classes.csv")
    assert {row["class"] for row in rows(tmp_path / "classes.csv")} == set(names)

    files = {str(path) for path in photos.rglob("*.jpg")}
    ok(convolve, "predict", run, photos, "--csv", tmp_path / "table.csv")
    predicted = rows(tmp_path / "table.csv")
    assert {row["path"] for row in predicted} == files
    assert {row["class_1"] for row in predicted} <= set(names)
    images = json.loads(ok(convolve, "predict", run, photos, "--json"))["images"]
    assert {image["path"] for image in images} == files
    assert ok(convolve, "predict", run, photos).count("\n") == len(files)

    table = tmp_path / "good.csv"
    found = json.loads(ok(convolve, "check-data", photos, "--json", "--write-table", table))
    assert found["findings"] == []
    assert json.loads(ok(convolve, "check-data", table, "--json"))["images"] == found["images"]
    assert "nothing found" in ok(convolve, "check-data", photos)
    for form, net in (("exported-program", "net.pt2"), ("onnx", "net.onnx")):
        ok(convolve, "convert", run, "--to", form, "--out", tmp_path / net)
    assert first_answer(convolve, tmp_path / "net.onnx", photos) == set(names)
    ok(convolve, "report", run)
    assert "Koalab\\udce4r" in (run / "report.html").read_text()
    ok(convolve, "show", run, "--json")


def test_a_run_wants_a_name_that_libraries_take(photos: Path, convolve: Convolve, tmp_path: Path) -> None:
    run = tmp_path / os.fsdecode(b"l\xe4uf")
    assert_refused(
        convolve("train", "cifar10-fast", "--data", photos, "--out", run, *TINY), 2, "is not valid UTF-8", "--out"
    )
    assert not run.exists()


def first_answer(convolve: Convolve, model: Path, photos: Path) -> set[str]:
    images = json.loads(ok(convolve, "predict", model, photos, "--json"))["images"]
    return {found["class"] for found in images[0]["classes"]}


def rows(path: Path) -> list[dict[str, str]]:
    """The table as another tool reads it that wants the files: their bytes."""
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


def test_prepared_lists_hold_any_bytes(photos: Path, convolve: Convolve, tmp_path: Path) -> None:
    ok(convolve, "prepare", "folder", "--source", photos, "--out", tmp_path / "lists")
    listed = b"".join((tmp_path / "lists" / f"{part}_map.txt").read_bytes() for part in ("train", "test"))
    assert {line.rpartition(b"\t")[0] for line in listed.splitlines()} == {
        os.fsencode(path) for path in photos.rglob("*.jpg")
    }
    assert json.loads(ok(convolve, "check-data", tmp_path / "lists", "--json"))["findings"] == []


@pytest.mark.parametrize("name", ODDER)
def test_what_a_map_file_cannot_hold_is_refused_there_alone(
    name: bytes, photos: Path, convolve: Convolve, tmp_path: Path
) -> None:
    for number, file in enumerate(sorted(photos.rglob("*.jpg"))[:4]):
        path = tmp_path / "set" / str(number % 2) / str(number) / os.fsdecode(name)
        path.parent.mkdir(parents=True)
        path.write_bytes(file.read_bytes())
    table = tmp_path / "good.csv"
    for source in (tmp_path / "set", table):
        found = json.loads(ok(convolve, "check-data", source, "--json", "--write-table", table))
        assert (found["images"], found["findings"]) == ({"training": 4}, [])
    outcome = convolve("prepare", "folder", "--source", tmp_path / "set", "--out", tmp_path / "lists")
    assert_refused(outcome._replace(out=""), 2, "map file", "rename")
