"""CTF against CNTK 2.7: the same samples where it reads a file, a refusal where it refuses it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convolve.errors import DataError, FormatError, UsageError
from convolve.formats import ctf
from convolve.formats.ctf import CtfBlock, StreamSpec, iter_ctf, read_ctf, write_ctf

GOLDEN = Path(__file__).parents[1] / "golden" / "ctf"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
RECORDED = json.loads(gzip.decompress((GOLDEN / "recorded.json.gz").read_bytes()))
F2, L3 = StreamSpec("f", 2), StreamSpec("l", 3)


def sequences(blocks: list[CtfBlock], name: str) -> list[list[list[float]]]:
    """Values [sequence][sample][place] of a stream."""
    parts = [np.split(block.samples[name], np.cumsum(block.lengths[name])[:-1]) for block in blocks]
    return [part.tolist() for block in parts for part in block]


def check(path: Path, case: dict[str, Any], expected: dict[str, list[Any]] | None) -> None:
    """`expected`: the sequences of each stream, None for a refusal."""
    options = case["options"]
    streams = [
        StreamSpec(name, s["dim"], s["sparse"], s["field"], s.get("defines_mb_size", False))
        for name, s in case["streams"].items()
    ]
    reading = iter_ctf(
        path,
        streams,
        skip_sequence_ids=options.get("skipSequenceIds", False),
        max_errors=options.get("maxErrors", 0),
    )
    if expected is None:
        with pytest.raises(FormatError) as caught:
            list(reading)
        about_all = ("the file is empty", "no line has the stream")
        assert caught.value.place.startswith("line ") or caught.value.what.startswith(about_all)
        assert "\n" not in str(caught.value)
        return
    blocks = list(reading)
    for name, values in expected.items():
        assert sequences(blocks, name) == values


@pytest.mark.parametrize("piece_bytes", [1, 1 << 18])
@pytest.mark.parametrize("name", EXPECTED)
def test_as_cntk_reads_it(name: str, piece_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctf, "_PIECE_BYTES", piece_bytes)
    case = EXPECTED[name]
    if name.startswith(("random_", "shard", "max_samples", "two_sweeps")):  # there CNTK chose and reordered
        block = read_ctf(GOLDEN / f"{name}.ctf", [F2, L3])
        assert block.samples["f"].tolist() == [[float(i), float(i)] for i in range(len(block))]
        return
    batches = case.get("minibatches")
    expected = batches and {n: [s for batch in batches for s in batch[n]["data"]] for n in case["streams"]}
    check(GOLDEN / f"{name}.ctf", case, expected)


@pytest.mark.parametrize("case", RECORDED)
def test_as_recorded(case: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.ctf").write_bytes(case["text"].encode("latin-1"))
    check(tmp_path / "a.ctf", case, case["samples"])


@pytest.mark.parametrize(
    ("text", "lengths"),
    [
        ("7 |f 1 2 |l 0 1 0\n007 |f 3 4\n", [2]),
        ("|f 1 2 |l 0 1 0 |zz", [1]),
        ("|f 1 2 |l 0 1 0 |z", None),
        ("|f 1 2 |l 0 1 0 |#", [1]),
        ("|f 1 2 |l 0 1 0 |", None),
        ("|l 0 1 0 |f \n", [1]),
        ("|l 0 1 0 |f ", None),
        ("|l 0 1 0 |f", None),
    ],
)
def test_ids_and_ends_of_file_as_cntk_has_them(tmp_path: Path, text: str, lengths: list[int] | None) -> None:
    """Each of these was given to CNTK 2.7: how many samples of f the sequences have, None where it refused."""
    (tmp_path / "a.ctf").write_text(text)
    if lengths is None:
        with pytest.raises(FormatError):
            list(iter_ctf(tmp_path / "a.ctf", [F2, L3]))
    else:
        [block] = iter_ctf(tmp_path / "a.ctf", [F2, L3])
        assert block.lengths["f"].tolist() == lengths


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("|f 1 2 |l 0 1 0\n|f 1 x |l 0 1 0\n", "line 2, column 6", "stream 'f': expected a number, got 'x'"),
        ("|f 1 2 |l 0 1 0\n|f 1 2 3 |l 0 1 0\n", "line 2, column 3", "stream 'f' has 3 values, its dimension is 2"),
        ("\n\n|f 1 2 |l 0 1 0\n|f 1 2\n", "line 4, column 1", "no (valid) sample of stream 'l'"),
        ("|f 1 2 |l 0 1 0\n\n", "line 2, column 1", "remove the line"),
        ("|f 1 2 |l 0 1 0\n|f 1 2 junk |l 0 1 0\n", "line 2, column 8", "expected a number, got 'junk'"),
        ("|f 1 2 |l 0 1 0\n|f 1 2 |l 0 1 0\x01junk\n", "line 2, column 17", "expected '|' and the name of a stream"),
        ("|f 1 2 |l 0 1 0\n|f 1 2 | l 0 1 0\n", "line 2, column 9", "expected the name of a stream"),
        ("|f 1 2 |l 0 1 0\n|f 1 2 |f 3 4 |l 0 1 0\n", "line 2, column 1", "has 2 samples of a stream, expected 1"),
        ("7 |f 1 2 |l 0 1 0\n7 |f .5 2\n", "line 2, column 6", "expected a number, got '.5'"),
        ("  PK3", "line 1, column 3", "expected '|' or a sequence id, got 'P'"),
        ("\r\n \t\n", "", "the file is empty"),
        ("\xff\xfe|\0f\0", "byte 0", "UTF-16"),
    ],
)
def test_errors_name_the_place_and_the_way_out(tmp_path: Path, text: str, place: str, words: str) -> None:
    (tmp_path / "a.ctf").write_bytes(text.encode("latin-1"))
    with pytest.raises(FormatError) as caught:
        list(iter_ctf(tmp_path / "a.ctf", [F2, L3]))
    assert caught.value.place == place
    assert words in caught.value.what
    assert str(caught.value).startswith(str(tmp_path / "a.ctf"))


def test_the_line_is_right_far_into_a_long_file(tmp_path: Path) -> None:
    lines = [b"|f %d 2 |l 0 1 0\n" % i for i in range(40_000)]
    lines[39_000] = b"|f 1 2 |l 0 1 0 0\n"
    (tmp_path / "a.ctf").write_bytes(b"".join(lines))
    with pytest.raises(FormatError, match="line 39001, column 10: stream 'l' has 4 values"):
        list(iter_ctf(tmp_path / "a.ctf", [F2, L3]))


def test_the_error_budget_is_for_the_whole_file(tmp_path: Path) -> None:
    text = b"".join(b"%d |f 1 2 |l 0 1 0\n%d |f 3 4 |f x |l 0 0 1\n" % (i, i) for i in range(4))
    (tmp_path / "a.ctf").write_bytes(text)
    assert [len(block) for block in iter_ctf(tmp_path / "a.ctf", [F2, L3], max_errors=4)] == [4]
    with pytest.raises(FormatError, match="line 8, column 13: one error more than max_errors=3: stream 'f'"):
        list(iter_ctf(tmp_path / "a.ctf", [F2, L3], max_errors=3))


def test_numbers_of_absurd_length_are_numbers(tmp_path: Path) -> None:
    zeros, nines = "0" * 6000, "9" * 6000
    (tmp_path / "a.ctf").write_text(f"|f {zeros}7 1{zeros} 0.{zeros}1 1e{nines} 1e-{nines}\n")
    block = read_ctf(tmp_path / "a.ctf", [StreamSpec("f", 5)])
    np.testing.assert_array_equal(block.samples["f"], [[7, np.inf, 0, np.inf, 0]])


def test_blocks_say_where_sequences_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"\n4 |f 1 2 |l 1 0 0\n4 |f 3 4\n9 |f 5 6 |l 0 1 0\n"
    (tmp_path / "a.ctf").write_bytes(text)
    monkeypatch.setattr(ctf, "_BLOCK_VALUES", 4)
    first, second = iter_ctf(tmp_path / "a.ctf", [F2, L3])
    assert (len(first), len(second)) == (1, 1)
    assert first.lengths["f"].tolist() == [2]
    assert first.lengths["l"].tolist() == [1]
    assert [*first.sample_counts_N, *second.sample_counts_N] == [2, 1]
    assert [*first.byte_counts_N, *second.byte_counts_N] == [27, 18]
    assert [*first.lines_N, *second.lines_N] == [2, 4]


def test_values_come_in_the_type_that_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.ctf").write_bytes(b"|f 0 255 |l 1 0 0\n|f 7 8 |l 0.5 0 0\n")
    block = read_ctf(tmp_path / "a.ctf", [StreamSpec("f", 2, dtype=np.uint8), L3])
    assert block.samples["f"].dtype == np.uint8
    assert block.samples["f"].tolist() == [[0, 255], [7, 8]]
    assert block.samples["l"].dtype == np.float32


@pytest.mark.parametrize("value", ["256", "-1", "0.5", "1e39"])
def test_values_that_do_not_fit_are_refused(tmp_path: Path, value: str) -> None:
    for ending in ("\n", " |# the general parser\n"):
        (tmp_path / "a.ctf").write_text(f"|f 0 255 |l 1 0 0{ending}|f 7 {value} |l 1 0 0{ending}")
        with pytest.raises(FormatError, match=r"line 2: value 2 of stream 'f', .*, does not fit uint8"):
            read_ctf(tmp_path / "a.ctf", [StreamSpec("f", 2, dtype=np.uint8), L3])


def test_reading_whole_refuses_sequences_of_several_samples(tmp_path: Path) -> None:
    (tmp_path / "a.ctf").write_text("1 |f 1 2 |l 1 0 0\n2 |f 1 2 |l 1 0 0\n2 |f 3 4\n")
    with pytest.raises(FormatError, match=r"line 2, column 1: expected one sample per sequence, .* has 2 of 'f'"):
        read_ctf(tmp_path / "a.ctf", [F2, L3])


def test_streams_that_make_no_sense(tmp_path: Path) -> None:
    for streams in ([], [F2, F2], [F2, StreamSpec("g", 1, alias="f")]):
        with pytest.raises(UsageError, match="different names"):
            list(iter_ctf(tmp_path / "a.ctf", streams))
    for name, dim in (("f", 0), ("", 1), ("a b", 1), ("a|b", 1), ("#a", 1), ("\xe9", 1)):
        with pytest.raises(UsageError, match="stream"):
            StreamSpec(name, dim)
    main = [StreamSpec(name, 1, defines_mb_size=True) for name in "ab"]
    with pytest.raises(UsageError, match="only one stream can define the minibatch size, got a, b"):
        list(iter_ctf(tmp_path / "a.ctf", main))


def test_written_as_cntk_writes_it(tmp_path: Path) -> None:
    features_ND = np.array([[0, 9, 10, 255], [1, 2, 3, 4]], np.uint8)
    write_ctf(tmp_path / "a.ctf", np.array([2, 0]), features_ND, 3)
    assert (tmp_path / "a.ctf").read_bytes() == b"|labels 0 0 1 |features 0 9 10 255\n|labels 1 0 0 |features 1 2 3 4\n"


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    features_ND, labels_N = rng.integers(0, 256, (1000, 30), np.uint8), rng.integers(0, 7, 1000)
    write_ctf(tmp_path / "a.ctf", labels_N, features_ND, 7)
    streams = [StreamSpec("features", 30, dtype=np.uint8), StreamSpec("labels", 7, dtype=np.uint8)]
    block = read_ctf(tmp_path / "a.ctf", streams)
    np.testing.assert_array_equal(block.samples["features"], features_ND)
    np.testing.assert_array_equal(block.samples["labels"], np.eye(7)[labels_N])
    assert block.byte_counts_N.sum() == (tmp_path / "a.ctf").stat().st_size
    assert block.lines_N.tolist() == list(range(1, 1001))


def test_nothing_is_written_where_data_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels_ND = np.zeros((2, 3), np.uint8)
    with pytest.raises(DataError, match=r"labels range from 0 to 3, but 3 classes have 0\.\.2"):
        write_ctf(tmp_path / "a.ctf", np.array([0, 3]), pixels_ND, 3)
    with pytest.raises(DataError, match="1 labels for 2 samples"):
        write_ctf(tmp_path / "a.ctf", np.array([0]), pixels_ND, 3)
    (tmp_path / "a.ctf").write_text("before")
    monkeypatch.setattr(ctf, "_lines", lambda columns: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_ctf(tmp_path / "a.ctf", np.array([0, 1]), pixels_ND, 3)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


@pytest.mark.parametrize("first", ["|f 1 2 |l 0 1 0\n", "7 |f 1 2 |l 0 1 0\n"])
def test_a_line_without_end_is_refused_where_it_begins(
    first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ctf, "_PIECE_BYTES", 20)
    monkeypatch.setattr(ctf, "_LONGEST_LINE", 100)
    (tmp_path / "a.ctf").write_text(first + 500 * "\0", encoding="utf-8")
    with pytest.raises(FormatError, match=r"byte 1[68]: a line of more than"):
        list(iter_ctf(tmp_path / "a.ctf", [F2, L3]))
