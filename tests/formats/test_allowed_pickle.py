"""The unpickler that runs nothing against Python's own, on pickles that we wrote; and what it must refuse."""

from __future__ import annotations

import collections
import datetime
import os
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from convolve.errors import FormatError
from convolve.formats import allowed_pickle
from convolve.formats.allowed_pickle import read_pickle

GOLDEN = Path(__file__).parents[1] / "golden" / "cifar"
PICKLES = sorted(GOLDEN.glob("*.pickle"))


def same(one, other):
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def test_the_golden_files_are_there():
    assert len(PICKLES) == 5


@pytest.mark.parametrize("path", PICKLES, ids=lambda path: path.stem)
def test_python_2_pickles_read_as_python_reads_them(path):
    content = path.read_bytes()
    trusted = pickle.loads(content, encoding="bytes")  # noqa: S301  our own file
    assert same(read_pickle(content, path), trusted)


SHARED = [1, 2]
VALUES = [
    None,
    [True, False, 0, 1, 255, 256, 65535, 65536, -1, 2**31 - 1, -(2**31), 2**31, 10**30, -(10**30)],
    ["", "text", "naïve ☃ \U0001f600", "line\nbreak\\u0041", "quote'\""],
    [b"", b"bytes", bytes(range(256)), b"x" * 300],
    {"a": [], "b": {}, 3: {"deep": [[[[]]]]}, b"key": None},
    [1.5, -0.0, 1e300, (), (1,), (1, 2), [(1, (2, 3), "x", None)]],
    [SHARED, SHARED],
    [np.arange(12, dtype=code).reshape(3, 4) for code in ("u1", "i2", ">i4", "<u8", "f4", ">f8")],
    [np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.zeros((0, 3), "f4"), np.array(7, "i8"), np.ones(3, bool)],
]


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_plain_values_come_back(value, protocol):
    content = pickle.dumps(value, protocol)
    trusted = pickle.loads(content)  # noqa: S301  just written; numpy brings numbers into this machine's order
    assert same(read_pickle(content, "x"), trusted)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_an_ordered_dict_is_a_dict_and_a_numpy_number_a_number(protocol):
    value = collections.OrderedDict(a=np.float32(1.5), b=np.int64(-3))
    value._metadata = {"version": 1}  # as a state_dict has it
    read = read_pickle(pickle.dumps(value, protocol), "x")
    assert type(read) is dict
    assert list(read.items()) == [("a", 1.5), ("b", -3)]


def test_shared_values_stay_shared():
    one, other = read_pickle(pickle.dumps([SHARED, SHARED], 2), "x")
    assert one is other
    array = np.arange(3)
    one, other = read_pickle(pickle.dumps([array, array], 2), "x")
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
        {1, 2},
        1j,
        {(1, 2): 3},
        bytearray(b"x"),
        Path("x"),
        Ellipsis,
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
        read_pickle(pickle.dumps(value, protocol), "name")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"a.",
        b"(.",
        b"}K\x01s.",
        b"h\x05.",
        b"J\x00\x00",
        b"T\xff\xff\xff\xffabc.",
        b"X\xff\xff\xff\x7fabc.",
        b"Sabc\n.",
        b"S'\\x4'\n.",
        b"I" + b"9" * 5000 + b"\n.",
        b"p-1\n.",
        b"c\n\n.",
        b"\x80\x06N.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        b"cnumpy\nndarray\n.",
        b"cnumpy\ndtype\n.",
        b"ctorch._utils\n_rebuild_tensor_v2\n(NNNNNNtR.",
        b"}}b}\x93.",
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
        read_pickle(content, "name")


def test_empty_lists_without_end_are_refused(monkeypatch):
    monkeypatch.setattr(allowed_pickle, "MAX_OPCODES", 1000)
    assert read_pickle(b"]" * 999 + b".", "name") == []
    with pytest.raises(FormatError, match=r"^name: byte 1000: more than 1000 opcodes"):
        read_pickle(b"]" * 1000 + b".", "name")


def test_the_same_bytes_cannot_be_asked_for_without_end():
    text = "é" * 100_000
    ask = b"c_codecs\nencode\n(h\x00X\x06\x00\x00\x00latin1tR0"
    content = b"(X" + (200_000).to_bytes(4, "little") + text.encode() + b"q\x00" + (ask[:-1] * 1000) + b"l."
    with pytest.raises(FormatError, match="again and again"):
        read_pickle(content, "name")


def test_an_array_whose_shape_does_not_fit_is_refused():
    content = pickle.dumps(np.zeros((2, 3), "u1"), 2)
    assert content.count(b"K\x02K\x03\x86") == 1
    with pytest.raises(FormatError, match="6 bytes"):
        read_pickle(content.replace(b"K\x02K\x03\x86", b"K\x02K\x04\x86"), "name")


def test_flipped_bits_give_a_value_or_a_refusal():
    content = (GOLDEN / "python2_cifar10_protocol2.pickle").read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        for place in rng.integers(200, size=3):  # the first bytes are opcodes, the rest pixels
            damaged[place] ^= 1 << rng.integers(8)
        try:
            read_pickle(bytes(damaged), "name")
        except FormatError:
            refused += 1
    assert refused > 100


def peak_bytes(content):
    """What a refusal of `content` takes at most, beside the content."""
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match=r"^name: byte "):
            read_pickle(content, "name")
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


NESTED = 60_000


@pytest.mark.parametrize(
    "content",
    [
        b"r\xff\xff\xff\x7f.",  # into the memo, far out; of nothing
        b"Nr\xff\xff\xff\x7f",
        b"B\xff\xff\xff\xffabc.",
        b"X\xff\xff\xff\xffabc.",
        b"\x8e" + b"\xff" * 7 + b"\x7fabc.",  # BINBYTES8
        b"\x96" + b"\xff" * 6 + b"\x0f\x00abc.",  # BYTEARRAY8
        b"\x8b\xff\xff\xff\x7fabc.",  # LONG4
        b"\x95" + b"\xff" * 7 + b"\x7fN",  # FRAME
        b")" * NESTED + b"\x85" * NESTED + b"0",
        b"}(N" + b"\x85" * NESTED + b"Nu.",  # a key whose hash would go deeper than the stack
        b"(N" + b"\x85" * NESTED + b"Nd.",
        b"}N" + b"\x85" * NESTED + b"Ns.",
        b"ccollections\nOrderedDict\n(((N" + b"\x85" * NESTED + b"NtttR.",
        b"]" + b"]q\x00h\x00h\x00h\x00\x87" * 1000 + b"2.",
        b"ccollections\nOrderedDict\nq\x00(" + b"(K\x01K\x02t" * 10_000 + b"tq\x01" + b"h\x00h\x01\x85R" * 5000 + b".",
    ],
    ids=lambda content: repr(content[:12]),
)
def test_hostile_claims_take_no_memory(content):
    assert peak_bytes(content) < 50 * len(content) + 1_000_000


def test_a_deep_value_is_no_deep_recursion():
    value = read_pickle(b"N" + b"\x85" * NESTED + b".", "name")
    for _ in range(NESTED):
        (value,) = value
    assert value is None


def test_a_shape_of_many_large_numbers_is_not_multiplied_out():
    content = pickle.dumps(np.zeros((2, 3), "u1"), 2)
    number = b"\x8a\xff" + b"\x7f" * 255
    with pytest.raises(FormatError, match="an array of shape"):
        read_pickle(content.replace(b"K\x02K\x03\x86", b"(" + number * 20_000 + b"t"), "name")
