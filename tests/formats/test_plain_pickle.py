"""The restricted pickle reader against Python's own, on pickles that we wrote; and what it must refuse."""

from __future__ import annotations

import collections
import datetime
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from convolve.errors import FormatError
from convolve.formats import plain_pickle
from convolve.formats.plain_pickle import read_plain_pickle

GOLDEN = Path(__file__).parents[1] / "golden" / "cifar"
PICKLES = sorted(GOLDEN.glob("*.pickle"))


def same(one, other):
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def test_the_golden_files_are_there():
    assert len(PICKLES) == 5


@pytest.mark.parametrize("path", PICKLES, ids=lambda path: path.stem)
def test_python_2_pickles_read_as_python_reads_them(path):
    content = path.read_bytes()
    trusted = pickle.loads(content, encoding="bytes")  # noqa: S301  our own file
    assert same(read_plain_pickle(content, path), trusted)


SHARED = [1, 2]
VALUES = [
    None,
    [True, False, 0, 1, 255, 256, 65535, 65536, -1, 2**31 - 1, -(2**31), 2**31, 10**30, -(10**30)],
    ["", "text", "naïve ☃ \U0001f600", "line\nbreak\\u0041", "quote'\""],
    [b"", b"bytes", bytes(range(256)), b"x" * 300],
    {"a": [], "b": {}, 3: {"deep": [[[[]]]]}, b"key": None},
    [SHARED, SHARED],
    [np.arange(12, dtype=code).reshape(3, 4) for code in ("u1", "i2", ">i4", "<u8", "f4", ">f8")],
    [np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.zeros((0, 3), "f4"), np.array(7, "i8"), np.ones(3, bool)],
]


@pytest.mark.parametrize("protocol", [0, 1, 2])
@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_plain_values_come_back(value, protocol):
    assert same(read_plain_pickle(pickle.dumps(value, protocol), "x"), value)


def test_shared_values_stay_shared():
    one, other = read_plain_pickle(pickle.dumps([SHARED, SHARED], 2), "x")
    assert one is other
    array = np.arange(3)
    one, other = read_plain_pickle(pickle.dumps([array, array], 2), "x")
    assert one is other


class Runs:
    def __reduce__(self):
        return os.system, ("echo never > /tmp/never",)


@pytest.mark.parametrize(
    "value",
    [
        Runs(),
        [Runs()],
        {"a": Runs()},
        eval,
        os.system,
        datetime.date(2020, 1, 1),
        collections.OrderedDict(a=1),
        {1, 2},
        1.5,
        1j,
        (1, 2),
        [(1, 2)],
        {(1, 2): 3},
        bytearray(b"x"),
        Path("x"),
        Ellipsis,
        np.float32(1),
        np.dtype("u1"),
        np.ndarray,
        np.array([None]),
        np.array(["text"]),
        np.array(["2020"], "M8[Y]"),
        np.zeros(2, "u1,f4"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_anything_else_is_refused(value, protocol):
    with pytest.raises(FormatError, match=r"^name: byte "):
        read_plain_pickle(pickle.dumps(value, protocol), "name")


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_later_protocols_are_refused_by_number(protocol):
    with pytest.raises(FormatError, match=f"byte 0: pickle protocol {protocol}"):
        read_plain_pickle(pickle.dumps([1], protocol), "name")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"a.",
        b"(.",
        b"}K\x01s.",
        b"](K\x01t.",
        b"h\x05.",
        b"J\x00\x00",
        b"T\xff\xff\xff\xffabc.",
        b"X\xff\xff\xff\x7fabc.",
        b"Sabc\n.",
        b"S'\\x4'\n.",
        b"I1_0\n.",
        b"I" + b"9" * 5000 + b"\n.",
        b"p-1\n.",
        b"}]K\x01s.",  # a list as a key
        b"cos\nsystem\n(S'true'\ntR.",
        b"c_codecs\nencode\n(X\x02\x00\x00\x00\xc4\x80X\x06\x00\x00\x00latin1tR.",  # a letter beyond 255
        b"c_codecs\nencode\n.",
        b"cnumpy\ndtype\n(U\x02O8K\x00K\x01tR.",
    ],
    ids=lambda content: repr(content[:12]),
)
def test_damaged_content_is_refused(content):
    with pytest.raises(FormatError, match=r"^name: byte "):
        read_plain_pickle(content, "name")


def test_empty_lists_without_end_are_refused(monkeypatch):
    monkeypatch.setattr(plain_pickle, "MAX_OPCODES", 1000)
    assert read_plain_pickle(b"]" * 1000 + b".", "name") == []
    with pytest.raises(FormatError, match=r"^name: byte 1001: more than 1000 opcodes"):
        read_plain_pickle(b"]" * 1001 + b".", "name")


def test_the_same_bytes_cannot_be_asked_for_without_end():
    text = "é" * 100_000
    ask = b"c_codecs\nencode\n(h\x00X\x06\x00\x00\x00latin1tR0"
    content = b"(X" + (200_000).to_bytes(4, "little") + text.encode() + b"q\x00" + (ask[:-1] * 1000) + b"l."
    with pytest.raises(FormatError, match="again and again"):
        read_plain_pickle(content, "name")


def test_an_array_whose_shape_does_not_fit_is_refused():
    content = pickle.dumps(np.zeros((2, 3), "u1"), 2)
    assert content.count(b"K\x02K\x03\x86") == 1
    with pytest.raises(FormatError, match="6 bytes"):
        read_plain_pickle(content.replace(b"K\x02K\x03\x86", b"K\x02K\x04\x86"), "name")


def test_flipped_bits_give_a_value_or_a_refusal():
    content = (GOLDEN / "python2_cifar10_protocol2.pickle").read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        for place in rng.integers(200, size=3):  # the first bytes are opcodes, the rest pixels
            damaged[place] ^= 1 << rng.integers(8)
        try:
            read_plain_pickle(bytes(damaged), "name")
        except FormatError:
            refused += 1
    assert refused > 100
