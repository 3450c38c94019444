"""CIFAR-10's files, both versions: values that Python 2 wrote, records laid out by hand, and refusals."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from convolve.errors import FormatError, MissingDataError
from convolve.formats.cifar_binary import parse_cifar_binary, read_bytes
from convolve.formats.cifar_python import parse_cifar_python

GOLDEN = Path(__file__).parents[1] / "golden" / "cifar"
PIXELS = (np.arange(2 * 3072) * 7 % 256).astype(np.uint8)  # what the golden files hold


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_python_version(protocol):
    path = GOLDEN / f"python2_cifar10_protocol{protocol}.pickle"
    batch = parse_cifar_python(path.read_bytes(), path)
    assert np.array_equal(batch.images_NCHW, PIXELS.reshape(2, 3, 32, 32))
    assert batch.labels_N.tolist() == [6, 9]
    assert batch.labels_N.dtype == np.int64


def test_binary_version():
    batch = parse_cifar_binary(
        b"\x06" + PIXELS[:3072].tobytes() + b"\x09" + PIXELS[3072:].tobytes(), "data_batch_1.bin"
    )
    assert np.array_equal(batch.images_NCHW, PIXELS.reshape(2, 3, 32, 32))
    assert batch.labels_N.tolist() == [6, 9]
    assert batch.labels_N.dtype == np.int64


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"", "byte 0"),
        (bytes(3072), "byte 0"),
        (bytes(3073) + b"\x01", "byte 3073"),
        (bytes(3073) + b"\x0a" + bytes(3072), "byte 3073: label 10"),
    ],
)
def test_binary_refusals_name_the_byte(content, place):
    with pytest.raises(FormatError, match=f"^file: {place}"):
        parse_cifar_binary(content, "file")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({b"data": None}, "entry data: an array of bytes"),
        ({b"data": np.zeros((2, 3072), "f4")}, "entry data"),
        ({b"data": np.zeros((2, 3071), "u1")}, "entry data"),
        ({b"data": np.zeros(3072, "u1")}, "entry data"),
        ({b"labels": [1]}, "entry labels: a list of 2 labels"),
        ({b"labels": [1, 10]}, r"entry labels\[1\]: a whole number in 0..9"),
        ({b"labels": [True, 1]}, r"entry labels\[0\]"),
        ({b"labels": "12"}, "entry labels"),
    ],
)
def test_python_refusals_name_the_entry(change, message):
    content = {b"data": np.zeros((2, 3072), "u1"), b"labels": [1, 2]}
    assert len(parse_cifar_python(pickle.dumps(content, 2), "file").labels_N) == 2
    with pytest.raises(FormatError, match=f"^file: {message}"):
        parse_cifar_python(pickle.dumps(content | change, 2), "file")


def test_a_pickle_of_something_else():
    with pytest.raises(FormatError, match="a dict is expected, as in the files of CIFAR-10; got a list"):
        parse_cifar_python(pickle.dumps([1], 2), "file")


def test_a_cifar100_file_is_not_taken_for_cifar10():
    content = (GOLDEN / "python2_cifar100.pickle").read_bytes()
    with pytest.raises(FormatError, match="the file has batch_label, coarse_labels, data, filenames, fine_labels"):
        parse_cifar_python(content, "train")


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(MissingDataError, match="no such file; unpack the official archive"):
        read_bytes(tmp_path / "nothing")
