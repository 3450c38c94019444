"""The common case of CTF, many lines at once: whole numbers, every line with the same streams in the same order.

Whatever is not plainly that, damaged or not, is left to `ctf_grammar`; what is parsed here, it parses the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from convolve.formats.ctf_grammar import StreamSpec

_NAMES = re.compile(rb"\|([!-{}~\x7f]+)")
_MOST_DIGITS = 15  # whole numbers of so many digits are exact in double precision

# Legend: L lines, S streams of a line, V numbers (and the digits in names) in the order of the text.


def parse_regular_lines(lines: Sequence[bytes], streams: Sequence[StreamSpec]) -> list[np.ndarray] | None:
    """Float32 samples (L, dim) of each of the dense `streams`, or None where the general parser is needed."""
    names = _NAMES.findall(lines[0])
    if any(stream.sparse or names.count(stream.token) != 1 for stream in streams):
        return None
    line = b"".join(rb"[ \t]*+\|" + re.escape(name) + rb"[ \t][0-9 \t]*+" for name in names)
    text = b"".join(lines)
    if not re.fullmatch(rb"(?:" + line + rb"\r?\n)++", text):
        return None
    characters = np.frombuffer(text, np.uint8)
    digits = characters - np.uint8(ord("0"))
    is_digit = digits < 10
    # Text neither starts nor ends with a digit: edges begin and end runs in turn, each one place before the character.
    edges = np.flatnonzero(is_digit[1:] != is_digit[:-1])
    starts_V, lengths_V = edges[::2], edges[1::2] - edges[::2]
    if lengths_V.max(initial=0) > _MOST_DIGITS:
        return None
    firsts = np.searchsorted(starts_V, np.flatnonzero(characters == ord("|")))
    counts_LS = np.diff(firsts, append=len(starts_V)).reshape(-1, len(names))
    dims_S = counts_LS[0] - [len(re.findall(rb"[0-9]+", name)) for name in names]
    if (counts_LS != counts_LS[0]).any() or any(dims_S[names.index(stream.token)] != stream.dim for stream in streams):
        return None
    values_LV = _numbers(digits[1:], starts_V, lengths_V).reshape(len(counts_LS), -1)
    ends = [int(counts_LS[0, : names.index(stream.token) + 1].sum()) for stream in streams]
    return [values_LV[:, end - stream.dim : end] for stream, end in zip(streams, ends, strict=True)]


def _numbers(digits: np.ndarray, starts_V: np.ndarray, lengths_V: np.ndarray) -> np.ndarray:
    """What the runs of digits stand for, float32 after the double precision in which CNTK gathers digits."""
    values_V = digits[starts_V].astype(np.float64)
    longer, length = np.flatnonzero(lengths_V > 1), 1
    while len(longer):
        values_V[longer] = values_V[longer] * 10 + digits[starts_V[longer] + length]
        length += 1
        longer = longer[lengths_V[longer] > length]
    result: np.ndarray = values_V.astype(np.float32)
    return result
