"""Images that are not the published ones are used, and called others wherever figures stand; another CIFAR, a page
and half an archive are refused."""

from __future__ import annotations

import json
import pickle
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cifar10_files import NAMES, packed, samples, write_binary, write_ctf, write_maps, write_python, write_tree
from command_line import Convolve, assert_refused
from convolve.data import cifar10
from convolve.data.open import open_data
from convolve.data.sources.source import ArraySource
from convolve.data.splits import NOT_OFFICIAL, checksum

FORMS: dict[str, Callable[[Path], Path]] = {
    "binary": write_binary,
    "archive": lambda place: packed(write_binary, "cifar-10-binary.tar.gz", place),
    "python": write_python,
    "ctf": write_ctf,
    "padded maps": lambda place: write_maps(place, padding=4),
    "class folders": write_tree,
}
TINY = ("--epochs", "1", "--set", "model.variant=tiny", "--set", "run.threads=1", "--set", "run.precision=fp32")


def sources() -> list[ArraySource]:
    return [ArraySource(torch.from_numpy(i), torch.from_numpy(n)) for i, n in map(samples, ("train", "test"))]


@pytest.fixture
def as_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny set counts as the published one."""
    info = replace(cifar10.INFO, train_samples=20, test_samples=4, checksum=checksum(sources()))
    monkeypatch.setattr(cifar10, "INFO", info)


@pytest.mark.usefixtures("as_published")
@pytest.mark.parametrize("form", FORMS)
def test_the_published_images_are_known_in_every_form(form: str, tmp_path: Path) -> None:
    found = open_data(str(FORMS[form](tmp_path / "data")), "cifar10")
    assert (found.name, found.note) == ("cifar10", "") and NOT_OFFICIAL not in found.description


@pytest.mark.parametrize("form", FORMS)
def test_others_are_used_and_called_others(form: str, tmp_path: Path) -> None:
    found = open_data(str(FORMS[form](tmp_path / "data")), "cifar10")
    assert (found.name, found.note) == ("cifar10", NOT_OFFICIAL) and found.description.endswith(f", {NOT_OFFICIAL}")


def test_the_checksum_sees_each_pixel_each_label_and_no_order() -> None:
    train, test = sources()
    whole = checksum([train, test])
    assert checksum([train.take(np.arange(20)[::-1]), test]) == whole
    assert checksum([train.take(np.arange(19)), test]) != whole
    other_pixel, other_label, swapped = train.images_NCHW.clone(), train.labels_N.clone(), train.labels_N.clone()
    other_pixel[7, 1, 30, 2] ^= 1
    other_label[3] = 5
    swapped[[0, 1]] = swapped[[1, 0]]
    for images_NCHW, labels_N in (
        (other_pixel, train.labels_N), (train.images_NCHW, other_label), (train.images_NCHW, swapped)
    ):  # fmt: skip
        assert checksum([ArraySource(images_NCHW, labels_N), test]) != whole
    moved = train.images_NCHW.clone()
    moved[[0, 1], 0, 0] = moved[[1, 0], 0, 0]  # rows of two images change places
    assert checksum([ArraySource(moved, train.labels_N), test]) != whole


def test_a_training_on_others_says_so_everywhere(convolve: Convolve, tmp_path: Path) -> None:
    data, run = write_binary(tmp_path / "data"), tmp_path / "runs" / "cifar10-0"
    words = ("--data", data, "--runs", tmp_path / "runs", "--seeds", 1)
    outcome = convolve("train", "cifar10", "--data", data, "--out", run, *TINY)
    assert outcome.code == 0, outcome.err
    assert NOT_OFFICIAL in outcome.err and "published, on the official files: 18.0%" in outcome.out
    assert NOT_OFFICIAL in json.loads((run / "start.json").read_text())["data"]
    assert json.loads((run / "result.json").read_text())["data_note"] == NOT_OFFICIAL
    card = (run / "model" / "model-card.md").read_text()
    assert f"trained on cifar10 ({NOT_OFFICIAL})" in card and f"data cifar10 ({NOT_OFFICIAL})" in card
    assert NOT_OFFICIAL in (run / "report.html").read_text()
    evaluated = convolve("evaluate", run, "--data", data)
    assert NOT_OFFICIAL in evaluated.out + evaluated.err
    settings = [word for word in TINY[2:] if word != "--epochs"] + ["--set", "run.epochs=1"]
    summed = convolve("reproduce", "cifar10", *settings, *words)
    assert summed.code == 0, summed.err
    assert NOT_OFFICIAL in summed.out


def write_cifar100(folder: Path) -> Path:
    inside = folder / "cifar-100-binary"
    inside.mkdir(parents=True)
    (inside / "train.bin").write_bytes(bytes(3074 * 3))
    (inside / "test.bin").write_bytes(bytes(3074))
    (inside / "fine_label_names.txt").write_text("apple\n")
    return folder


def write_cifar100_python(folder: Path) -> Path:
    inside = folder / "cifar-100-python"
    inside.mkdir(parents=True)
    for name in ("train", "test", "meta"):
        (inside / name).write_bytes(pickle.dumps({b"fine_labels": [1]}, protocol=2))
    return folder


@pytest.mark.parametrize("where", ["", "cifar-100-binary", "cifar-100-python", "packed", "folder", "renamed"])
def test_another_cifar_is_named(where: str, convolve: Convolve, tmp_path: Path) -> None:
    place = (write_cifar100_python if "python" in where else write_cifar100)(tmp_path / "data") / where
    if where in ("packed", "folder", "renamed"):
        place = tmp_path / where / ("cifar-10-binary.tar.gz" if where == "renamed" else "cifar-100-binary.tar.gz")
        place.parent.mkdir()
        with tarfile.open(place, "w:gz") as tar:
            tar.add(tmp_path / "data" / "cifar-100-binary", "cifar-100-binary")
        place = place if where == "packed" else place.parent
    outcome = convolve("train", "cifar10", "--data", place, "--out", tmp_path / "run", *TINY)
    assert_refused(outcome, 3, "holds CIFAR-100, with 100 classes")
    assert not (tmp_path / "run" / "recipe.json").exists()


@pytest.mark.parametrize("is_given", [True, False])
def test_a_page_and_half_an_archive_are_named(is_given: bool, convolve: Convolve, tmp_path: Path) -> None:
    """As --data itself, and in the folder that is."""
    archive = packed(write_binary, "cifar-10-binary.tar.gz", tmp_path)
    whole = archive.read_bytes()
    for content, words in (
        (b"<!doctype html>\n<html>Log in</html>", "a web page"),
        (whole[: len(whole) // 2], "damaged"),
    ):
        archive.write_bytes(content)
        place = archive if is_given else tmp_path
        outcome = convolve("train", "cifar10", "--data", place, "--out", tmp_path / "run", *TINY)
        assert_refused(outcome, 3, str(archive), words, "get it again")
    assert not (tmp_path / "run" / "recipe.json").exists()


def test_the_names_are_the_published_ones() -> None:
    assert cifar10.INFO.class_names == NAMES
