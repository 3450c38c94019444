"""IDX against bytes written by hand from the format's description, and against the official MNIST sums."""

from __future__ import annotations

import gzip
import hashlib
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from convolve.errors import FormatError
from convolve.formats import idx as module
from convolve.formats.idx import read_idx
from idx_files import write_idx

IMAGES = bytes.fromhex("00000803 00000002 00000001 00000003 000102 fdfeff")


def test_reads_what_the_format_describes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(IMAGES)
    array = read_idx(tmp_path / "a")
    assert array.dtype == np.uint8
    assert array.tolist() == [[[0, 1, 2]], [[253, 254, 255]]]


@pytest.mark.parametrize(
    ("code", "values_hex", "dtype", "values"),
    [
        ("08", "00ff", np.uint8, [0, 255]),
        ("09", "01ff", np.int8, [1, -1]),
        ("0b", "0102ff00", np.int16, [258, -256]),
        ("0c", "00000102ffffffff", np.int32, [258, -1]),
        ("0d", "3f800000c0000000", np.float32, [1.0, -2.0]),
        ("0e", "3ff0000000000000c000000000000000", np.float64, [1.0, -2.0]),
    ],
)
def test_every_type_both_ways(tmp_path: Path, code: str, values_hex: str, dtype: type, values: list[float]) -> None:
    content = bytes.fromhex(f"0000{code}01 00000002 {values_hex}")
    (tmp_path / "a").write_bytes(content)
    array = read_idx(tmp_path / "a")
    assert array.dtype == dtype
    assert array.dtype.isnative
    assert array.tolist() == values
    write_idx(tmp_path / "b", array)
    assert (tmp_path / "b").read_bytes() == content


def test_gzip_is_recognized_by_content_and_written_by_name(tmp_path: Path) -> None:
    (tmp_path / "packed").write_bytes(gzip.compress(IMAGES))
    array = read_idx(tmp_path / "packed")
    assert array.shape == (2, 1, 3)
    write_idx(tmp_path / "b.gz", array)
    assert gzip.decompress((tmp_path / "b.gz").read_bytes()) == IMAGES


BROKEN = {
    "empty": (b"", "byte 0", "got nothing"),
    "a text": (b"|labels 0 1", "byte 0", "7c 6c 61 62"),
    "only two bytes": (IMAGES[:2], "byte 0", "00 00"),
    "unknown type": (b"\0\0\x0a\x01\0\0\0\0", "byte 2", "got 0a"),
    "no dimension": (b"\0\0\x08\0", "byte 3", "1 to 64 dimensions"),
    "header cut": (IMAGES[:10], "byte 10", "3 dimensions"),
    "values cut": (IMAGES[:-2], "byte 20", "2 x 1 x 3 values of 1 bytes from byte 16 on, but the file ends here"),
    "values missing": (IMAGES[:16], "byte 16", "the file ends here"),
    "too long": (IMAGES + b"\0", "byte 22", "the file has more"),
    "absurd dimensions": (b"\0\0\x0e\x03" + b"\xff" * 12 + b"12345", "byte 21", "the file ends here"),
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("case", BROKEN)
def test_refuses_what_is_broken(tmp_path: Path, case: str, packed: bool) -> None:
    content, place, words = BROKEN[case]
    (tmp_path / "a").write_bytes(gzip.compress(content) if packed else content)
    tracemalloc.start()
    with pytest.raises(FormatError) as caught:
        read_idx(tmp_path / "a")
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.place == place
    assert words in caught.value.what
    assert str(tmp_path / "a") in str(caught.value)
    assert peak_bytes < 4 << 20


def test_damaged_gzip_is_a_format_error(tmp_path: Path) -> None:
    whole = gzip.compress(bytes.fromhex("00000801 00001000") + os.urandom(4096))
    for damaged in (whole[:-100], whole[:2000] + bytes(100) + whole[2100:]):
        (tmp_path / "a.gz").write_bytes(damaged)
        with pytest.raises(FormatError, match="of the gzip file: the compressed data is damaged"):
            read_idx(tmp_path / "a.gz")


def test_a_few_bytes_do_not_become_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 1 << 29
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"\0\0\x08\1" + size.to_bytes(4, "big") + bytes(1 << 23)))
    monkeypatch.setattr(module, "_ALWAYS_BYTES", 1 << 21)
    tracemalloc.start()
    with pytest.raises(FormatError, match="byte 8: more than 2,097,152 bytes from so few"):
        read_idx(path)
    assert tracemalloc.get_traced_memory()[1] < 6 << 20
    tracemalloc.stop()


def test_zeros_behind_a_gzip_file_are_not_looked_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's gzip reads such padding byte by byte, which takes minutes for gigabytes."""
    monkeypatch.setattr("convolve.formats.idx._PADDING_BYTES", 1000)
    path = tmp_path / "labels.gz"
    path.write_bytes(gzip.compress(bytes.fromhex("00000801 00000002 0102")) + bytes(2000))
    with pytest.raises(FormatError, match="larger than its values unpacked"):
        read_idx(path)


@pytest.mark.skipif("CONVOLVE_DATA" not in os.environ, reason="needs the official MNIST files in $CONVOLVE_DATA/mnist")
def test_official_mnist_survives_reading_and_writing(tmp_path: Path) -> None:
    folder = Path(os.environ["CONVOLVE_DATA"]) / "mnist"
    for name, md5 in {
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    }.items():
        write_idx(tmp_path / name, read_idx(folder / f"{name}.gz"))
        assert hashlib.md5((tmp_path / name).read_bytes()).hexdigest() == md5
