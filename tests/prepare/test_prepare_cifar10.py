"""What `convolve prepare cifar10` writes, against OpenCV, numpy and the facts about CNTK's script."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from cifar10_files import NAMES, packed, samples, write_binary, write_ctf, write_maps
from command_line import Convolve
from convolve.data import cifar10
from convolve.data.cifar10 import load_cifar10
from convolve.data.download import RemoteFile
from convolve.errors import FormatError, UsageError
from convolve.formats.mean_xml import read_mean_xml
from convolve.prepare.cifar10 import prepare_cifar10
from mirrors import mirror
from preparations import prepare_and_die, state

TOP_LEVEL = {
    "Train_cntk_text.txt", "Test_cntk_text.txt", "train", "test", "train_map.txt", "test_map.txt", "CIFAR-10_mean.xml",
    "train_regrLabels.txt", "test_regrLabels.txt", "labels.txt", "prepared.json",
}  # fmt: skip


def prepare(source: Path, out: Path) -> list[str]:
    return [*map(str, prepare_cifar10(source, out))]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_binary(tmp_path / "source")


@pytest.fixture
def out(source: Path, tmp_path: Path) -> Path:
    """A finished preparation."""
    prepare(source, tmp_path / "out")
    return tmp_path / "out"


def test_the_files_are_those_of_cntks_script(out: Path, tmp_path: Path) -> None:
    assert {path.name for path in out.iterdir()} == TOP_LEVEL
    by_hand = write_ctf(tmp_path / "by-hand")
    for name in ("Train_cntk_text.txt", "Test_cntk_text.txt"):
        assert (out / name).read_bytes() == (by_hand / name).read_bytes()
    assert (out / "labels.txt").read_text().split() == list(NAMES)


@pytest.mark.parametrize(("part", "padding"), [("train", 4), ("test", 0)])
def test_pictures_and_maps(part: str, padding: int, out: Path) -> None:
    images_NCHW, labels_N = samples(part)
    rows = [line.split("\t") for line in (out / f"{part}_map.txt").read_text().splitlines()]
    assert [path for path, _ in rows] == [f"{out}/{part}/{number:05d}.png" for number in range(len(labels_N))]
    assert [int(label) for _, label in rows] == labels_N.tolist()
    for (path, _), image_CHW in zip(rows, images_NCHW, strict=True):
        picture_HWC = np.full((32 + 2 * padding, 32 + 2 * padding, 3), 128, np.uint8)
        picture_HWC[padding : padding + 32, padding : padding + 32] = image_CHW[::-1].transpose(1, 2, 0)
        assert np.array_equal(cv2.imread(path, cv2.IMREAD_UNCHANGED), picture_HWC)


@pytest.mark.parametrize(("part", "padding"), [("train", 4), ("test", 0)])
def test_regression_labels_are_means_with_the_padding(part: str, padding: int, out: Path) -> None:
    images_NCHW, _ = samples(part)
    lines = (out / f"{part}_regrLabels.txt").read_text().splitlines()
    for line, image_CHW in zip(lines, images_NCHW, strict=True):
        name, *means = line.split("\t")
        border = (32 + 2 * padding) ** 2 - 32**2
        sums_C = image_CHW.astype(int).sum(axis=(1, 2)) + 128 * border
        assert name == "|regrLabels"
        assert means == [f"{total / (1024 + border) / 255:f}" for total in sums_C]


def test_the_mean_is_planar_and_of_images_without_padding(out: Path) -> None:
    mean_CHW = samples("train")[0].astype(np.float64).mean(axis=0).astype(np.float32)
    file = cv2.FileStorage(str(out / "CIFAR-10_mean.xml"), cv2.FILE_STORAGE_READ)  # as CNTK reads it
    assert [int(file.getNode(name).real()) for name in ("Channel", "Row", "Col")] == [3, 32, 32]
    assert np.array_equal(file.getNode("MeanImg").mat(), mean_CHW.reshape(1, 3072))
    as_meant_HWC = read_mean_xml(out / "CIFAR-10_mean.xml", "planar_rgb")
    assert np.array_equal(as_meant_HWC, mean_CHW[::-1].transpose(1, 2, 0))


def test_what_was_prepared_is_the_same_data_set(source: Path, out: Path) -> None:
    data = load_cifar10(str(source))
    from_ctf = load_cifar10(str(out))
    assert "CTF files" in from_ctf.description
    (out / "Train_cntk_text.txt").unlink()
    from_maps = load_cifar10(str(out))
    assert "padding of the training pictures taken off" in from_maps.description
    assert data.fingerprint() == from_ctf.fingerprint() == from_maps.fingerprint()


def test_every_form_is_a_source(out: Path, tmp_path: Path) -> None:
    for form, where in (
        ("archive", packed(write_binary, "renamed.tar.gz", tmp_path / "archive")),
        ("maps", write_maps(tmp_path / "maps", padding=4)),
        ("itself", shutil.copytree(out, tmp_path / "itself")),
    ):
        prepare(where, tmp_path / f"from-{form}")
        ours, theirs = state(tmp_path / f"from-{form}"), state(out)
        differing = {name for name in theirs if ours[name][1] != theirs[name][1]}
        assert differing == {"train_map.txt", "test_map.txt"}  # the paths in them


def test_a_finished_output_is_left_alone(source: Path, out: Path) -> None:
    before = state(out)
    lines = prepare(source, out)
    assert state(out) == before
    assert all("already there" in line or " 0 of " in line for line in lines)


@pytest.mark.parametrize("files", [1, 4, 16, 33])
def test_a_killed_run_leaves_whole_files_and_is_continued(files: int, source: Path, out: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    prepare_and_die("cifar10", source, half, files)
    killed = {name: content for name, content in state(half).items() if not name.endswith(".tmp")}
    assert len(killed) == files - 1
    assert len(state(half)) == files
    prepare(source, half)
    finished, undisturbed = state(half), state(out)
    assert all(finished[name] == killed[name] for name in killed)
    assert finished.keys() == undisturbed.keys()
    differing = {name for name in finished if finished[name][1] != undisturbed[name][1]}
    assert differing == {"train_map.txt", "test_map.txt"}  # the paths in them


def test_files_that_lost_their_content_are_written_again(source: Path, out: Path) -> None:
    before = state(out)
    for name in ("CIFAR-10_mean.xml", "Test_cntk_text.txt", "train/00003.png", "test_regrLabels.txt"):
        (out / name).write_bytes(b"")
    prepare(source, out)
    assert {name: content for name, (_, content) in state(out).items()} == {
        name: content for name, (_, content) in before.items()
    }


def test_other_data_is_not_mixed_in(source: Path, out: Path) -> None:
    batch = source / "cifar-10-batches-bin" / "data_batch_1.bin"
    batch.write_bytes(bytes(len(batch.read_bytes())))
    before = state(out)
    with pytest.raises(UsageError, match="prepared from other data; choose another --out"):
        prepare(source, out)
    assert state(out) == before


@pytest.mark.parametrize("name", ["CIFAR-10_mean.xml", "test_regrLabels.txt", "train/mine.png", "labels.txt"])
def test_files_of_somebody_else_are_not_overwritten(name: str, source: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine\n")
    with pytest.raises(UsageError, match=rf"mine holds {Path(name).parts[0]} already, which convolve did not write"):
        prepare(source, tmp_path / "mine")
    assert list(state(tmp_path / "mine")) == [name]


def test_damaged_sources_write_nothing(source: Path, tmp_path: Path) -> None:
    batch = source / "cifar-10-batches-bin" / "test_batch.bin"
    batch.write_bytes(batch.read_bytes()[:-1])
    with pytest.raises(FormatError, match=r"test_batch\.bin: byte 9219: "):
        prepare(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_on_the_command_line(source: Path, tmp_path: Path, convolve: Convolve) -> None:
    outcome = convolve("prepare", "cifar10", "--source", source, "--out", tmp_path / "out")
    assert (outcome.code, outcome.err) == (0, "")
    assert f"{tmp_path}/out/train: 20 of 20 images written" in outcome.out
    assert {path.name for path in (tmp_path / "out").iterdir()} == TOP_LEVEL


def test_without_a_source_it_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, convolve: Convolve) -> None:
    monkeypatch.delenv("CONVOLVE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    name = cifar10._ARCHIVE.name
    content = packed(write_binary, name, tmp_path / "web").read_bytes()
    with mirror({name: content}) as (url, asked):
        there = RemoteFile(name, (url,), len(content), hashlib.sha256(content).hexdigest())
        monkeypatch.setattr(cifar10, "_ARCHIVE", there)
        outcome = convolve("prepare", "cifar10", "--out", tmp_path / "out")
    assert (outcome.code, asked) == (0, [name])
    assert outcome.err == f"downloading {name}: 0.1 of 0.1 MB\n"
    assert {path.name for path in (tmp_path / "out").iterdir()} == TOP_LEVEL
