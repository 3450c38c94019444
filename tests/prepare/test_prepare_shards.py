"""`convolve prepare shards`: what tarfile reads in them is what was there; whoever writes them, the same bytes."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from command_line import Convolve, assert_refused
from convolve.data.open import open_data
from convolve.data.options import AS_FOUND
from convolve.errors import ConvolveError, DataError
from convolve.prepare import shards
from convolve.prepare.shards import prepare_shards
from shard_files import picture

NAMES = ("cat", "dög")


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVOLVE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shards, "_MB", 4000)  # so that a few pictures fill several


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for part, count in (("train", 20), ("val", 6)):
        for name in NAMES:
            folder = tmp_path / "photos" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{name}.{number}.png").write_bytes(picture(number + 100 * (part == "val")))
    return tmp_path / "photos"


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def write(source: Path, out: Path) -> list[str]:
    return [*map(str, prepare_shards(source, out, AS_FOUND, shard_mb=1))]


def test_the_same_images_in_the_same_order(photos: Path, tmp_path: Path) -> None:
    write(photos, tmp_path / "out")
    own, again = open_data(str(photos)), open_data(str(tmp_path / "out"))
    assert again.class_names == own.class_names == NAMES
    for part, other in ((own.train, again.train), (own.test, again.test)):
        assert [other.read(index) for index in range(len(other))] == [part.read(index) for index in range(len(part))]
        assert other.labels_N.tolist() == part.labels_N.tolist()
    names = sorted(path.name for path in (tmp_path / "out").glob("*.tar"))
    assert len(names) > 4 and {name.split("-")[0] for name in names} == {"train", "test"}
    for name in names:
        with tarfile.open(tmp_path / "out" / name, "r:") as tar:
            members = tar.getmembers()
            assert {(member.mtime, member.uid, member.mode) for member in members} == {(0, 0, 0o644)}
            for image, label in zip(members[::2], members[1::2], strict=True):
                assert Path(image.name).stem == Path(label.name).stem
                content = tar.extractfile(label)
                assert content and NAMES[int(content.read())] == Path(label.name).parent.name


def test_the_same_bytes_after_a_kill(photos: Path, tmp_path: Path) -> None:
    """Shards that are whole are kept; one that is missing, cut off or another's is written again."""
    write(photos, tmp_path / "out")
    before, first, *others = hashes(tmp_path / "out"), *sorted((tmp_path / "out").glob("train-*.tar"))
    others[0].unlink()
    others[1].write_bytes(others[1].read_bytes()[:-600])
    kept = first.stat().st_mtime_ns
    said = write(photos, tmp_path / "out")
    assert hashes(tmp_path / "out") == before and first.stat().st_mtime_ns == kept
    assert f"{len(others) - 1} of them already there" in said[1]
    write(photos, tmp_path / "more")
    assert hashes(tmp_path / "more") == before


def test_another_set_is_refused(photos: Path, tmp_path: Path, convolve: Convolve) -> None:
    write(photos, tmp_path / "out")
    (photos / "train" / NAMES[0] / "new.png").write_bytes(picture(7))
    found = convolve("prepare", "shards", "--source", photos, "--out", tmp_path / "out", "--shard-size", 1)
    assert_refused(found, 2, str(tmp_path / "out"), "other data")


def test_what_was_written_is_read_again(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bit on the disk is not what was written."""
    verify = shards._verify

    def damage(written: Path, path: Path, digests: list[bytes]) -> None:
        content = bytearray(written.read_bytes())
        content[600] ^= 1
        written.write_bytes(content)
        verify(written, path, digests)

    monkeypatch.setattr(shards, "_verify", damage)
    with pytest.raises(ConvolveError, match=r"train-0000..\.tar: the file differs from what was written"):
        write(photos, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.tar"))


def test_pixels_become_pictures(tiny_mnist: Path, tmp_path: Path, convolve: Convolve) -> None:
    found = convolve("prepare", "shards", "--source", tiny_mnist, "--out", tmp_path / "out")
    assert found.code == 0, found.err
    own, again = open_data(str(tiny_mnist), "mnist"), open_data(str(tmp_path / "out"))
    members = {}
    for path in (tmp_path / "out").glob("train-*.tar"):
        with tarfile.open(path) as tar:
            members |= {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    for index in range(len(own.train)):
        name = f"{index:07}"
        pixels_HW = cv2.imdecode(np.frombuffer(members[f"{name}.png"], np.uint8), cv2.IMREAD_GRAYSCALE)
        assert np.array_equal(pixels_HW, own.arrays[0].images_NCHW[index, 0].numpy())
        assert int(members[f"{name}.cls"]) == own.train.labels_N[index]
    assert again.class_names == own.class_names


def test_an_image_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "map.txt").write_text(".../a.png\t0\n.../b.png\t1\n")
    (tmp_path / "a.png").write_bytes(picture(1))
    with pytest.raises(DataError, match=r"b\.png"):
        write(tmp_path / "map.txt", tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.tar"))
