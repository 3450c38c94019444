"""Damage to bytes, to values of JSON, to cells of tables and to words: what the mutators of all files are made of."""

from __future__ import annotations

import copy
import json
import math
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

from wire_bytes import varint

Mutation = Callable[[random.Random, bytes], bytes]
EDGE = 1 << 14  # bytes at either end, where headers, pickles and directories are


# -- bytes -------------------------------------------------------------------------------------------------------------

# Varints that say: a huge length, a huge number, a negative one, nothing; the same in a fixed number of bytes.
ABSURD = [b"\xff\xff\xff\xff\x0f", b"\xff" * 9 + b"\x01", b"\xfe" * 9 + b"\x01", b"\x80" * 12, b"\0"]
ABSURD += [b"\xff" * 8, b"\0" * 8, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\0\0\0\0\x01\0\0\0", b"\x10\0\0\0", b"9" * 12]
BEGINNINGS = [
    b"", b"\0", b"hello\n", b"<html>", b"%PDF-1.4", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF89a", b"P6 9",
    b"PK\x03\x04", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0", b"\x80\x04.", b"[" * 100_000, b"\xff\xfe", b"null",
    b"II*\0", b"\x89HDF\r\n\x1a\n", b"\x18\0\0\0TFL3", b"RIFF\xff\xff\xff\xffWEBP", b"\0\0\0\x1cftypavif",
    b"\x28\xb5\x2f\xfd", b"PAR1", b"\0\0\x08\x03", b"\xff\x4f\xff\x51", b"MM\0*\0\0\0\x08",
    b"PK\x05\x06" + bytes(18), b"%YAML 9.9\n---\n", b"\xef\xbb\xbf",
]  # fmt: skip


def _at(rng: random.Random, content: bytes | bytearray) -> int:
    """A place, often near the beginning or the end."""
    size = len(content)
    reach = rng.choice([size, size, 64, EDGE])
    place = rng.randrange(max(1, min(reach, size)))
    return place if rng.random() < 0.7 else max(0, size - 1 - place)


def one_bit(rng: random.Random, content: bytes) -> bytes:
    """The least that a disk or a network does."""
    data = bytearray(content)
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def flip_bits(rng: random.Random, content: bytes) -> bytes:
    data = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        data[_at(rng, data)] ^= 1 << rng.randrange(8)
    return bytes(data)


def set_bytes(rng: random.Random, content: bytes) -> bytes:
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        data[_at(rng, data)] = rng.choice([0, 1, 2, 0x7F, 0x80, 0xFF, 0x30, 0x39, 0x7D, rng.randrange(256)])
    return bytes(data)


def cut(rng: random.Random, content: bytes) -> bytes:
    return content[: _at(rng, content)]


def zero_tail(rng: random.Random, content: bytes) -> bytes:
    """As a file system leaves what it had not written."""
    left = _at(rng, content)
    return content[:left] + bytes(len(content) - left)


def absurd_number(rng: random.Random, content: bytes) -> bytes:
    at, value = _at(rng, content), rng.choice(ABSURD)
    return content[:at] + value + content[at + rng.choice([0, 1, len(value)]) :]


def remove(rng: random.Random, content: bytes) -> bytes:
    at = _at(rng, content)
    return content[:at] + content[at + rng.randint(1, 40) :]


def repeat(rng: random.Random, content: bytes) -> bytes:
    start, at = _at(rng, content), _at(rng, content)
    return content[:at] + content[start : start + rng.randint(1, 300)] * rng.choice([1, 2, 50]) + content[at:]


def exchange(rng: random.Random, content: bytes) -> bytes:
    """Two blocks of one size, as a table of a file system that is damaged gives them; or one in two places."""
    size = rng.choice([1, 4, 64, 512, 4096])
    if len(content) < 2 * size:
        return content[::-1]
    one, other = (size * rng.randrange(len(content) // size) for _ in range(2))
    data = bytearray(content)
    data[one : one + size] = content[other : other + size]
    if rng.random() < 0.7:
        data[other : other + size] = content[one : one + size]
    return bytes(data)


def append(rng: random.Random, content: bytes) -> bytes:
    """Something behind the end: zeros, noise, the same once more, the beginning of another kind of file."""
    return content + rng.choice([bytes(rng.choice([1, 512, 5000])), rng.randbytes(40), content, rng.choice(BEGINNINGS)])


def rename(rng: random.Random, content: bytes) -> bytes:
    """One number of four digits in place of another: loops and duplicates of ids. CNTK's v1 has zeros between them."""
    found = list(re.finditer(rb"\d{4}|(?:\d\0){4}", content))
    if len(found) < 2:
        return flip_bits(rng, content)
    source, target = rng.sample(found, 2)
    return content[: target.start()] + source.group() + content[target.end() :]


def nest(rng: random.Random, content: bytes) -> bytes:
    """A message of Protobuf inside one inside one, and brackets in brackets."""
    at, depth = _at(rng, content), rng.choice([3, 60, 2000])
    inner = rng.choice([b"[", b"{", b"(", b"\x0b", b'[{"a":']) * depth  # 0x0b: a group of Protobuf begins
    if rng.random() < 0.7:
        inner = b""
        for _ in range(depth):
            size = varint(len(inner))
            inner = b"\x10\x09\x5a" + varint(len(inner) + 1 + len(size)) + b"\x0a" + size + inner
        inner = b"\x12" + varint(len(inner)) + inner
    return content[:at] + inner + content[at:]


def another_kind(rng: random.Random, content: bytes) -> bytes:
    return rng.choice(BEGINNINGS) + (content[rng.randrange(64) :] if rng.random() < 0.5 else rng.randbytes(200))


BYTES: list[Mutation] = [
    flip_bits,
    set_bytes,
    cut,
    zero_tail,
    absurd_number,
    remove,
    repeat,
    exchange,
    append,
    rename,
    nest,
    another_kind,
]


def any_bytes(rng: random.Random, content: bytes) -> bytes:
    return rng.choice(BYTES)(rng, content)


# -- values ------------------------------------------------------------------------------------------------------------

VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**63, 10**400, -(10**400), 1.5, math.nan, math.inf, -math.inf, 1e308, 1e-320, -0.0,
    "", "x", "nan", "\x1b[2J", "\x00", "9" * 5000, "2026-05-20T10:11:12+00:00", [], [1], [[]], {}, {"a": 1}, [1, 2, 3],
    [None] * 3, ["x"] * 50, {"kind": "shift"}, "1*9999999999", "[" * 100, "../../x", "\u202e\ud800",
    "\u2028", "a\r\nb", "\x85", "\ud83d", False, 0.1, -(2**63), 2**64, 10**30, "/dev/zero", "1e400", "NaN", "é" * 300,
    "𝟙", "٣", "0x10", "1_000", " 1", {"": None}, {"a": {"a": {"a": {}}}}, [math.nan], [[[[]]]],
    "%s%n{0}{x.__class__}", "${HOME}", "~",
)  # fmt: skip
Place = tuple[str | int, ...]


def places(value: Any, place: Place = ()) -> Iterator[Place]:
    if place:
        yield place
    items = value.items() if isinstance(value, dict) else enumerate(value[:20]) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*place, key))


def another_value(rng: random.Random, value: Any) -> Any:
    """A value at any depth replaced, left out, or one more."""
    value = copy.deepcopy(value)
    found = [*places(value)]
    if not found:
        return rng.choice(VALUES)
    *above, last = rng.choice(found)
    holder = value
    for key in above:
        holder = holder[key]
    if isinstance(holder, dict) and rng.random() < 0.2:
        del holder[last]
    elif isinstance(holder, dict) and rng.random() < 0.2:
        holder[rng.choice(["x", f"{last}y", "format"])] = rng.choice(VALUES)
    else:
        holder[last] = rng.choice(VALUES)
    return value


def json_value(rng: random.Random, content: bytes) -> bytes:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):  # damaged before
        return any_bytes(rng, content)
    if isinstance(value, dict) and value and rng.random() < 0.05:  # a key that stands twice
        return content.rstrip()[:-1] + b", " + json.dumps({rng.choice([*value]): 1}).encode()[1:]
    return json.dumps(another_value(rng, value)).encode()


def json_line(rng: random.Random, content: bytes) -> bytes:
    lines = content.split(b"\n")
    number = rng.randrange(len(lines))
    lines[number] = json_value(rng, lines[number] or b"{}")
    return b"\n".join(lines)


def cell(rng: random.Random, content: bytes) -> bytes:
    """A cell of a table replaced, left out, or one more; a row or a column twice."""
    lines = content.split(b"\n")
    number = rng.randrange(len(lines))
    mark = b"\t" if b"\t" in content else b"," if b"," in content else b" "
    cells = lines[number].split(mark)
    at = rng.randrange(len(cells))
    value = rng.choice(VALUES)
    text = value if isinstance(value, str) else json.dumps(value)
    cells[at : at + rng.choice([0, 1, 1])] = [text.encode("utf-8", "surrogatepass")] * rng.choice([0, 1, 1, 1, 40])
    lines[number] = mark.join(cells)
    if rng.random() < 0.1:
        lines.insert(0, rng.choice(lines))
    return b"\n".join(lines)


# -- words -------------------------------------------------------------------------------------------------------------

PIECES = [
    "(", ")", "{", "}", "[", "]", "[|", "|]", "<", ">", ":", ";", ",", "=", "=>", "..", ".", ".*", "*", "**", "/", "%",
    "+", "-", "!", ">>", "<<", "==", "&&", "||", '"', "'", "#", "//", "/*", "*/", "$", "$imageW$", "if", "then", "else",
    "new", "array", "with", "include", "true", "None", "0", "-1", "1e9", "1e-9", "1e400", "0x7f", "x", "i", "z", "dim",
    "features", "run", "Plus", "Parameter", "tag", "ReLU", "Sequential", "base", "BS", "Network", "Load", "layers",
    "CloneFunction", "Edit", "node", "PastValue", "BatchNorm", "Scale", "Pooling", "Deconvolution", "InnerProduct",
    "Crop", "Reshape", "Slice", "LRN", "PReLU", "Eltwise", "Split", "&a", "*a", "!!python/object/apply:os.getcwd []",
    "-2", "3", "64", "0.5", "268435456", "4294967296", "9" * 20, "\n", "\t", "\x00", "\x1b[2J", "\ufeff", "é", "|",
    "&x;",
]  # fmt: skip


def words(rng: random.Random, content: bytes) -> bytes:
    """A few words left out, put in, doubled, exchanged; blocks and numbers likewise."""
    text = content.decode("utf-8", "surrogateescape")
    blocks = re.findall(r"\w+ \{[^{}]*\}|\"[^\"]*\"", text)
    if blocks and rng.random() < 0.2:
        return text.replace(rng.choice(blocks), rng.choice(blocks), 1).encode("utf-8", "surrogateescape")
    parts = re.findall(r"-?\w+(?:\.\d+)?|\s+|.", text, re.DOTALL)
    if len(parts) < 2:
        return any_bytes(rng, content)
    at, length, other = rng.randrange(len(parts)), rng.randint(1, 4), rng.randrange(len(parts))
    match rng.randrange(6):
        case 0:
            del parts[at : at + length]
        case 1:
            parts.insert(at, rng.choice(PIECES) * rng.choice([1, 1, 1, 40, 5000]))
        case 2 | 3:
            parts[at] = rng.choice(PIECES)
        case 4:
            parts[at : at + length] *= 2
        case _:
            parts[at], parts[other] = parts[other], parts[at]
    return "".join(parts).encode("utf-8", "surrogateescape")
