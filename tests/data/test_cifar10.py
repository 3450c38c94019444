"""CIFAR-10 in every form gives the same pixels; damage of every kind is named."""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cifar10_files import (
    NAMES,
    packed,
    samples,
    write_binary,
    write_ctf,
    write_maps,
    write_picture,
    write_python,
    write_tree,
)
from convolve.cache import cache_folder
from convolve.data import cifar10
from convolve.data.cifar10 import load_cifar10
from convolve.data.download import RemoteFile
from convolve.data.known import dataset_info
from convolve.data.open import open_data
from convolve.data.sources import ctf
from convolve.errors import DataError, FormatError, MissingDataError
from mirrors import mirror


@pytest.fixture(autouse=True)
def no_data_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither its data folders nor its network."""
    monkeypatch.delenv("CONVOLVE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    there = cifar10._ARCHIVE
    offline = RemoteFile(there.name, ("http://127.0.0.1:9/",), there.size_bytes, there.checksum)
    monkeypatch.setattr(cifar10, "_ARCHIVE", offline)


BINARY, PYTHON = "cifar-10-binary.tar.gz", "cifar-10-python.tar.gz"
# form -> what writes it below a folder and returns what to give to --data
IN_ORDER: dict[str, Callable[[Path], Path]] = {
    "binary": write_binary,
    "binary, inside": lambda place: write_binary(place) / "cifar-10-batches-bin",
    "binary, packed": lambda place: packed(write_binary, BINARY, place).parent,
    "binary, archive": lambda place: packed(write_binary, "renamed.tar", place),
    "python": write_python,
    "python, inside": lambda place: write_python(place) / "cifar-10-batches-py",
    "python, packed": lambda place: packed(write_python, PYTHON, place).parent,
    "python, archive": lambda place: packed(write_python, "renamed.tgz", place),
    "ctf": write_ctf,
    "maps": write_maps,
    "padded maps": lambda place: write_maps(place, padding=4),
}
BY_CLASS: dict[str, Callable[[Path], Path]] = {
    "tree": write_tree,
    "tree, archive": lambda place: packed(write_tree, "pictures.tar", place),
    "tree, packed archive": lambda place: packed(write_tree, "pictures.tar.gz", place),
}


@pytest.mark.parametrize("form", [*IN_ORDER, *BY_CLASS])
def test_every_form_holds_the_same_images(form: str, tmp_path: Path) -> None:
    where = (IN_ORDER | BY_CLASS)[form](tmp_path / "data")
    data = open_data(str(where), "cifar10")
    for part, table in zip(("train", "test"), data.arrays, strict=True):
        images_NCHW, labels_N = samples(part)
        order_N = np.argsort(labels_N, kind="stable") if form in BY_CLASS else np.arange(len(labels_N))
        assert table.images_NCHW.is_contiguous()
        assert np.array_equal(table.images_NCHW.numpy(), images_NCHW[order_N])
        assert np.array_equal(table.labels_N.numpy(), labels_N[order_N])
    assert data.class_names == NAMES
    assert (where.name if where.is_file() and form in BY_CLASS else str(where)) in data.description
    assert ("padding" in data.description) == (form == "padded maps")


@pytest.mark.parametrize("form", ["binary", "ctf", "maps", "tree"])
def test_chunks_are_those_of_cntk_readers(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctf, "chunks_by_bytes", lambda bytes_N: np.cumsum(bytes_N) // 50_000)
    where = (IN_ORDER | BY_CLASS)[form](tmp_path / "data")
    chunk_N = load_cifar10(str(where)).train.chunk_N
    if form == "ctf":
        sizes_N = [len(line) for line in (where / "Train_cntk_text.txt").read_bytes().splitlines(keepends=True)]
        assert chunk_N is not None
        assert chunk_N.tolist() == (np.cumsum(sizes_N) // 50_000).tolist()
    elif form == "maps":
        assert chunk_N is not None
        assert chunk_N.tolist() == list(range(20))
    else:
        assert chunk_N is None


def test_the_binary_version_comes_first(tmp_path: Path) -> None:
    """What `convolve prepare` writes may stand beside its source."""
    write_binary(tmp_path / "data")
    write_python(tmp_path / "data")
    assert "binary version" in load_cifar10(str(tmp_path / "data")).description


def test_a_folder_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_binary(tmp_path / "cifar10")
    monkeypatch.setenv("CONVOLVE_DATA", str(tmp_path))
    assert len(load_cifar10().train) == 20


def test_the_rows_of_the_tables() -> None:
    known = dataset_info("cifar10")
    assert (known.shape_CHW, known.class_names) == ((3, 32, 32), NAMES)
    assert (known.train_samples, known.test_samples) == (50_000, 10_000)


def remote(content: bytes, url: str, checksum: str = "") -> RemoteFile:
    return RemoteFile(BINARY, (url,), len(content), checksum or hashlib.md5(content).hexdigest())


def test_the_cache_is_filled_by_download_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = packed(write_binary, BINARY, tmp_path / "web").read_bytes()
    with mirror({BINARY: content}) as (url, asked):
        monkeypatch.setattr(cifar10, "_ARCHIVE", remote(content, url))
        heard: list[tuple[str, int, int]] = []
        load_cifar10(None, lambda *values: heard.append(values))
        data = load_cifar10(None)
    assert asked == [BINARY]
    assert heard[-1] == (BINARY, len(content), len(content))
    assert data.fingerprint() == load_cifar10(str(tmp_path / "web" / BINARY)).fingerprint()


def test_a_download_with_a_wrong_checksum_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = packed(write_binary, BINARY, tmp_path / "web").read_bytes()
    with mirror({BINARY: content}) as (url, _):
        monkeypatch.setattr(cifar10, "_ARCHIVE", remote(content, url, checksum="0" * 32))
        with pytest.raises(MissingDataError, match=rf"the checksum is wrong\); put {BINARY} or {PYTHON} into "):
            load_cifar10(None)
    assert list(cache_folder("cifar10").iterdir()) == []


def test_offline_says_what_belongs_where() -> None:
    with pytest.raises(MissingDataError) as raised:
        load_cifar10(None)
    message = str(raised.value)
    for word in (str(cache_folder("cifar10")), BINARY, PYTHON, "Train_cntk_text.txt", "train_map.txt", "refused"):
        assert word in message
    assert "sample" not in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("empty", r"no CIFAR-10 in .*empty; put cifar-10-binary\.tar\.gz or cifar-10-python\.tar\.gz into .*empty"),
        ("nowhere", r"nowhere does not exist; give a folder that holds cifar10$"),
        ("text.txt", r"text\.txt: not a tar archive, or a damaged one"),
    ],
)
def test_no_data_there(where: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("hello\n" * 200)
    with pytest.raises(DataError, match=message):
        load_cifar10(str(tmp_path / where))
    assert list((tmp_path / "empty").iterdir()) == []


def test_there_is_no_sample() -> None:
    with pytest.raises(MissingDataError, match="no sample of cifar10; give a folder"):
        load_cifar10("sample")


@pytest.mark.parametrize("part", ["data_batch_3", "test_batch"])
@pytest.mark.parametrize(("write", "ending"), [(write_binary, ".bin"), (write_python, "")])
def test_a_missing_batch(part: str, write: Callable[[Path], Path], ending: str, tmp_path: Path) -> None:
    next(write(tmp_path / "data").rglob(part + ending)).unlink()
    with pytest.raises(MissingDataError, match=rf"{part}{ending}: no such file; unpack the official archive"):
        load_cifar10(str(tmp_path / "data"))
    archive = packed(lambda _: tmp_path / "data", "archive.tar", tmp_path)
    with pytest.raises(MissingDataError, match=rf"archive\.tar has no {part}{ending}; get the official archive again"):
        load_cifar10(str(archive))


@pytest.mark.parametrize("keep", [0.02, 0.5, 1])
@pytest.mark.parametrize("name", ["whole.tar", "whole.tar.gz"])
def test_an_archive_cut_off(keep: float, name: str, tmp_path: Path) -> None:
    """The whole of a .tar ends before its empty blocks, which tell that no file follows."""
    content = packed(write_binary, name, tmp_path).read_bytes().rstrip(b"\0")
    (tmp_path / name).write_bytes(content[: round(len(content) * keep) - 1])
    with pytest.raises(FormatError, match=rf"{name}.*(damaged|cut off).*; get it again"):
        load_cifar10(str(tmp_path / name))


def test_a_wrong_label(tmp_path: Path) -> None:
    path = write_binary(tmp_path / "binary") / "cifar-10-batches-bin" / "data_batch_2.bin"
    content = bytearray(path.read_bytes())
    content[2 * 3073] = 10
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"data_batch_2\.bin: byte 6146: label 10; it must be below 10"):
        load_cifar10(str(tmp_path / "binary"))

    images_NCHW, _ = samples("test")
    path = write_python(tmp_path / "python") / "cifar-10-batches-py" / "test_batch"
    path.write_bytes(pickle.dumps({"data": images_NCHW.reshape(4, -1), "labels": [1, 2, -3, 4]}, protocol=2))
    with pytest.raises(FormatError, match=r"test_batch: entry labels\[2\]: a whole number in 0\.\.9"):
        load_cifar10(str(tmp_path / "python"))

    path = write_maps(tmp_path / "maps") / "test_map.txt"
    path.write_text(path.read_text().replace("\t7\n", "\t10\n"))
    with pytest.raises(FormatError, match=r"test_map\.txt: line 3: the label is 10; with 10 classes"):
        load_cifar10(str(tmp_path / "maps"))

    path = write_ctf(tmp_path / "ctf") / "Test_cntk_text.txt"
    path.write_text(path.read_text().replace("|labels 0 0 0 0 0 0 0 1", "|labels 0 0 0 0 0 0 0 0"))
    with pytest.raises(FormatError, match=r"Test_cntk_text\.txt: line 3: expected one 1 and otherwise zeros as labels"):
        load_cifar10(str(tmp_path / "ctf"))


class RunsACommand:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch run",)


@pytest.mark.parametrize("pack", [False, True])
def test_a_pickle_that_would_run_a_command(pack: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_python(tmp_path / "data") / "cifar-10-batches-py" / "data_batch_1"
    path.write_bytes(pickle.dumps({"data": RunsACommand()}, protocol=2))
    where = packed(lambda _: tmp_path / "data", PYTHON, tmp_path) if pack else tmp_path / "data"
    with pytest.raises(FormatError, match=r"data_batch_1: byte \d+: .*system"):
        load_cifar10(str(where))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("form", ["tree", "tree, archive", "maps"])
def test_a_picture_of_another_size(form: str, tmp_path: Path) -> None:
    wide_CHW = np.zeros((3, 32, 33), np.uint8)

    def write(folder: Path) -> Path:
        write_tree(folder) if form != "maps" else write_maps(folder)
        picture = "train/frog/0003.png" if form != "maps" else "train/00003.png"
        assert (folder / picture).exists()
        write_picture(folder / picture, wide_CHW)
        return folder

    where = packed(write, "pictures.tar", tmp_path) if "archive" in form else write(tmp_path / "data")
    place = {"maps": r"train_map\.txt: line 4"}.get(form, r"train/frog/0003\.png")
    with pytest.raises(DataError, match=rf"{place}: expected 32 x 32 pixels, got 33 x 32"):
        load_cifar10(str(where))


def test_a_tree_with_other_folders(tmp_path: Path) -> None:
    """A class that CIFAR-10 does not have is not guessed at."""
    write_tree(tmp_path / "data")
    (tmp_path / "data" / "train" / "frog").rename(tmp_path / "data" / "train" / "toad")
    with pytest.raises(DataError, match=r"train: 'toad' is not among the classes .*; name the subfolders after"):
        load_cifar10(str(tmp_path / "data"))


def test_an_archive_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("x")
    with tarfile.open(tmp_path / "notes.tar", "w") as tar:
        tar.add(tmp_path / "note.txt", "note.txt")
    with pytest.raises(
        MissingDataError, match=r"notes\.tar does not hold CIFAR-10: neither .* nor pictures as train/<class>"
    ):
        load_cifar10(str(tmp_path / "notes.tar"))
    write_tree(tmp_path / "data")
    with tarfile.open(tmp_path / "half.tar", "w") as tar:
        tar.add(tmp_path / "data" / "train", "train")
    with pytest.raises(MissingDataError, match=r"half\.tar has no pictures as test/<class>/"):
        load_cifar10(str(tmp_path / "half.tar"))


def test_padding_that_is_not_cntks(tmp_path: Path) -> None:
    write_maps(tmp_path / "black", padding=4, value=0)
    with pytest.raises(DataError, match=r"train_map\.txt: line 1: expected a border of 4 pixels of value 128"):
        load_cifar10(str(tmp_path / "black"))
    write_maps(tmp_path / "mixed", padding=4)
    write_picture(tmp_path / "mixed" / "train" / "00007.png", samples("train")[0][7])
    with pytest.raises(DataError, match=r"train_map\.txt: line 8: expected 40 x 40 pixels, got 32 x 32"):
        load_cifar10(str(tmp_path / "mixed"))
    write_maps(tmp_path / "test", padding=4)
    (tmp_path / "test" / "test_map.txt").write_text((tmp_path / "test" / "train_map.txt").read_text())
    with pytest.raises(DataError, match=r"test_map\.txt: line 1: expected 32 x 32 pixels, got 40 x 40"):
        load_cifar10(str(tmp_path / "test"))


def test_a_map_that_names_what_is_not_there(tmp_path: Path) -> None:
    write_maps(tmp_path / "data")
    (tmp_path / "data" / "test" / "00001.png").unlink()
    with pytest.raises(DataError, match=r"test_map\.txt: line 2: .*00001\.png: No such file"):
        load_cifar10(str(tmp_path / "data"))
    (tmp_path / "data" / "train" / "00000.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"train_map\.txt: line 1: .*00000\.png: the file is empty"):
        load_cifar10(str(tmp_path / "data"))


def test_a_packed_binary_file(tmp_path: Path) -> None:
    """An archive inside is not looked for: the message says what was found."""
    path = write_binary(tmp_path) / "cifar-10-batches-bin" / "data_batch_1.bin"
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(FormatError, match=r"data_batch_1\.bin: byte \d+: a CIFAR-10 file consists of records of 3073"):
        load_cifar10(str(tmp_path))
