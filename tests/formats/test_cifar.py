"""CIFAR files, both versions: values that Python 2 wrote, records laid out by hand, and refusals with their place."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from convolve.errors import FormatError, MissingDataError
from convolve.formats.cifar_binary import parse_cifar_binary, read_cifar_binary, read_label_names
from convolve.formats.cifar_python import parse_cifar_python, read_cifar_python, read_cifar_python_names

GOLDEN = Path(__file__).parents[1] / "golden" / "cifar"
PIXELS = (np.arange(2 * 3072) * 7 % 256).astype(np.uint8)  # what the golden files hold
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_python_version_of_cifar10(protocol):
    batch = read_cifar_python(GOLDEN / f"python2_cifar10_protocol{protocol}.pickle")
    assert np.array_equal(batch.images_NCHW, PIXELS.reshape(2, 3, 32, 32))
    assert batch.labels_N.tolist() == [6, 9]
    assert batch.labels_N.dtype == np.int64
    assert batch.coarse_labels_N is None


def test_python_version_of_cifar100():
    batch = read_cifar_python(GOLDEN / "python2_cifar100.pickle", classes=100)
    assert np.array_equal(batch.images_NCHW, PIXELS.reshape(2, 3, 32, 32))
    assert (batch.labels_N.tolist(), batch.coarse_labels_N.tolist()) == ([19, 99], [11, 0])


def test_class_names():
    assert read_cifar_python_names(GOLDEN / "python2_meta.pickle") == NAMES


def test_binary_version_of_cifar10(tmp_path):
    path = tmp_path / "data_batch_1.bin"
    path.write_bytes(b"\x06" + PIXELS[:3072].tobytes() + b"\x09" + PIXELS[3072:].tobytes())
    batch = read_cifar_binary(path)
    assert np.array_equal(batch.images_NCHW, PIXELS.reshape(2, 3, 32, 32))
    assert batch.labels_N.tolist() == [6, 9]
    assert batch.labels_N.dtype == np.int64


def test_binary_version_of_cifar100():
    batch = parse_cifar_binary(b"\x0b\x13" + PIXELS[:3072].tobytes(), "train.bin", classes=100)
    assert (batch.labels_N.tolist(), batch.coarse_labels_N.tolist()) == ([19], [11])
    assert np.array_equal(batch.images_NCHW.reshape(-1), PIXELS[:3072])


@pytest.mark.parametrize(
    ("content", "classes", "place"),
    [
        (b"", 10, "byte 0"),
        (bytes(3072), 10, "byte 0"),
        (bytes(3073) + b"\x01", 10, "byte 3073"),
        (bytes(3073), 100, "byte 0"),
        (bytes(3073) + b"\x0a" + bytes(3072), 10, "byte 3073: label 10"),
        (b"\x14" + bytes(3073), 100, "byte 0: label 20"),
        (b"\x00\x64" + bytes(3072), 100, "byte 1: label 100"),
    ],
)
def test_binary_refusals_name_the_byte(content, classes, place):
    with pytest.raises(FormatError, match=f"^file: {place}"):
        parse_cifar_binary(content, "file", classes)


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


def test_a_cifar100_file_is_not_taken_for_cifar10():
    with pytest.raises(FormatError, match="the file has batch_label, coarse_labels, data, filenames, fine_labels"):
        read_cifar_python(GOLDEN / "python2_cifar100.pickle", classes=10)


def test_label_names(tmp_path):
    path = tmp_path / "batches.meta.txt"
    path.write_bytes("\r\n".join(NAMES).encode() + b"\r\n\r\n")
    assert read_label_names(path, 10) == NAMES
    with pytest.raises(FormatError, match=r"9 class names are expected.* it has 10"):
        read_label_names(path, 9)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(FormatError, match="byte 0: class names"):
        read_label_names(path, 10)


def test_missing_files_say_what_to_do(tmp_path):
    for read in (read_cifar_binary, read_cifar_python, read_cifar_python_names):
        with pytest.raises(MissingDataError, match="no such file; unpack the official archive"):
            read(tmp_path / "nothing")
