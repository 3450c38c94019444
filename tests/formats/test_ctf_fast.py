"""The vectorized path against the grammar: the same samples, or it declines."""

from __future__ import annotations

import random

import numpy as np
import pytest

from convolve.errors import FormatError
from convolve.formats.ctf_fast import parse_regular_lines
from convolve.formats.ctf_grammar import SequenceParser, StreamSpec

STREAMS = [StreamSpec("features", 4), StreamSpec("l2", 2)]
DAMAGE = [b"", b"\r\n", *(bytes([byte]) for byte in b" |\n\r\t07-.e:l#\x00\xe9")]


def by_grammar(lines: list[bytes], streams: list[StreamSpec]) -> list[np.ndarray] | None:
    """What the general parser makes of `lines`, one sequence each; None where it refuses them."""
    parser = SequenceParser("text", streams, max_errors=0)
    try:
        parsed = [parser.parse([line], number, 1) for number, line in enumerate(lines, 1)]
    except FormatError:
        return None
    return [np.concatenate([samples[i].rows for samples in parsed]) for i in range(len(streams))]


def regular_lines(rng: random.Random, count: int) -> list[bytes]:
    def values(count: int) -> bytes:
        return b" ".join(b"%d" % rng.choice([0, 0, 7, 12, 255, 9999]) for _ in range(count))

    return [b"|l2 %s |features %s\n" % (values(2), values(4)) for _ in range(count)]


def test_regular_text_is_taken_and_exact() -> None:
    lines = regular_lines(random.Random(0), 200)
    for variant in (lines, [b"\t" + line.replace(b" ", b" \t ").replace(b"\n", b" \r\n") for line in lines]):
        fast, exact = parse_regular_lines(variant, STREAMS), by_grammar(variant, STREAMS)
        assert fast is not None
        assert exact is not None
        for a, b in zip(fast, exact, strict=True):
            assert a.dtype == np.uint16
            np.testing.assert_array_equal(a, b)


def test_streams_nobody_asked_for_are_passed_over() -> None:
    lines = [b"|a1 5 6 7 |l2 1 %d |zz 3\n" % i for i in range(3)]
    fast = parse_regular_lines(lines, [StreamSpec("labels", 2, alias="l2")])
    assert fast is not None
    assert fast[0].tolist() == [[1, 0], [1, 1], [1, 2]]


@pytest.mark.parametrize(
    "line",
    [
        b"|l2 1 2 |features 1 2 3\n",
        b"|l2 1 2 |features 1 2 3 4 5\n",
        b"|l2 1 |features 1 2 3 4 5\n",
        b"|l2 1 2 |features 1 2 3 4",
        b"|features 1 2 3 4 |l2 1 2\n",
        b"|l2 1 2 |features 1 2 3 4.5\n",
        b"|l2 1 2 |features 1 2 3 -4\n",
        b"|l2 1 2 |features 1 2 3 12345\n",
        b"|l2 1 2 |features 1 2 3 4 |# comment\n",
        b"|l2 1 2 |l2 1 2 |features 1 2 3 4\n",
        b"1 |l2 1 2 |features 1 2 3 4\n",
        b"|l2 1\r2 |features 1 2 3 4\n",
        b"|l2 1 2 |features 1 2 3 4 7|\n",
        b"|l2 1 2\n",
        b"\n",
    ],
)
def test_what_is_not_plain_is_declined(line: bytes) -> None:
    lines = regular_lines(random.Random(0), 2)
    for place in range(3):
        assert parse_regular_lines([*lines[:place], line, *lines[place:]], STREAMS) is None


def test_never_takes_what_the_grammar_refuses() -> None:
    """Random damage to regular text."""
    rng = random.Random(1)
    taken = refused = 0
    for _ in range(3000):
        text = bytearray(b"".join(regular_lines(rng, 3)))
        for _ in range(rng.randint(1, 2)):
            at = rng.randrange(len(text))
            text[at : at + rng.choice([0, 0, 1, 1, 2])] = rng.choice(DAMAGE)
        lines = bytes(text).split(b"\n")
        lines = [line + b"\n" for line in lines[:-1]] + [line for line in lines[-1:] if line]
        fast, exact = parse_regular_lines(lines, STREAMS), by_grammar(lines, STREAMS)
        taken += fast is not None
        refused += exact is None
        if fast is not None:
            assert exact is not None, bytes(text)
            for a, b in zip(fast, exact, strict=True):
                np.testing.assert_array_equal(a, b)
    assert taken > 200
    assert refused > 500
