"""The common case of CTF, many lines at once: whole numbers, with the same streams in the same order on every line.

Anything else, damaged or not, is left to `ctf_grammar`; both give the same result.
"""

import re
from collections.abc import Sequence

import numpy as np

from convolve.formats.ctf_grammar import StreamSpec

_NAMES = re.compile(rb"\|([!-{}~\x7f]+)")
_MOST_DIGITS = 4  # so that every number fits in 16 bits

# Legend: L lines, S streams of a line, I characters of the text, V numbers in it (including those in names).


def parse_regular_lines(lines: Sequence[bytes], streams: Sequence[StreamSpec]) -> list[np.ndarray] | None:
    """Samples (L, dim), uint16, of each of the dense `streams`, or None if the general parser is needed."""
    names = _NAMES.findall(lines[0])
    if any(stream.sparse or names.count(stream.token) != 1 for stream in streams):
        return None
    line = b"".join(rb"[ \t]*+\|" + re.escape(name) + rb"[ \t][0-9 \t]*+" for name in names)
    text = b"".join(lines)
    if not re.fullmatch(rb"(?:" + line + rb"\r?\n)++", text):
        return None
    characters_I = np.frombuffer(text, np.uint8)
    digits_I = characters_I - np.uint8(ord("0"))
    is_digit_I = digits_I < 10
    is_last_I = is_digit_I[:-1] > is_digit_I[1:]
    bars = np.flatnonzero(characters_I == ord("|"))
    counts_LS = np.add.reduceat(is_last_I, bars, dtype=np.intp).reshape(-1, len(names))
    dims_S = counts_LS[0] - [len(re.findall(rb"[0-9]+", name)) for name in names]
    if (counts_LS != counts_LS[0]).any() or any(dims_S[names.index(stream.token)] != stream.dim for stream in streams):
        return None
    values_I = _values_at_last_digits(digits_I, is_digit_I)
    if values_I is None:
        return None
    values_LV = values_I[:-1][is_last_I].reshape(len(counts_LS), -1)
    ends = [int(counts_LS[0, : names.index(stream.token) + 1].sum()) for stream in streams]
    return [values_LV[:, end - stream.dim : end] for stream, end in zip(streams, ends, strict=True)]


def _values_at_last_digits(digits_I: np.ndarray, is_digit_I: np.ndarray) -> np.ndarray | None:
    """An array (I,), uint16, with the value of each number at its last digit; None if a number has too many digits."""
    values_I = digits_I.astype(np.uint16)
    is_number = is_digit_I  # whether a position and the next `power` are all digits
    for power in range(1, _MOST_DIGITS + 1):
        is_number = is_number[:-1] & is_digit_I[power:]
        if not is_number.any():
            return values_I
        values_I[power:] += np.uint16(10**power) * (digits_I[:-power] * is_number)
    return None
