"""One to three damaged values or bytes: a mutator for each kind of file, chosen by the ending of its name.

What has a structure is damaged in it as well, with checksums and lengths that are right: a value of JSON, a cell of a
table, a word of a configuration, a file within an archive, a field of an ONNX model.
"""

from __future__ import annotations

import copy
import gzip
import io
import json
import math
import random
import re
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto
from safetensors.numpy import load, save
from wire_bytes import varint

Mutation = Callable[[random.Random, bytes], bytes]
EDGE = 1 << 14  # bytes at either end, where headers, pickles and directories are


def damaged(rng: random.Random, content: bytes, name: str) -> bytes:
    """One to three damages of the kinds that a file of that name has."""
    kinds = KINDS.get(Path(name).suffix, [any_bytes])
    for _ in range(rng.randint(1, 3)):
        damage = rng.choice(kinds) if rng.random() < 0.8 else any_bytes
        content = damage(rng, content) if content else rng.choice([b"\0", b"{}", b"x\n"])
    return content


# -- bytes -------------------------------------------------------------------------------------------------------------

# Varints that say: a huge length, a huge number, a negative one, nothing; the same in a fixed number of bytes.
ABSURD = [b"\xff\xff\xff\xff\x0f", b"\xff" * 9 + b"\x01", b"\xfe" * 9 + b"\x01", b"\x80" * 12, b"\0"]
ABSURD += [b"\xff" * 8, b"\0" * 8, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\0\0\0\0\x01\0\0\0", b"\x10\0\0\0", b"9" * 12]
BEGINNINGS = [
    b"", b"\0", b"hello\n", b"<html>", b"%PDF-1.4", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF89a", b"P6 9",
    b"PK\x03\x04", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0", b"\x80\x04.", b"[" * 100_000, b"\xff\xfe", b"null",
    b"II*\0",
]  # fmt: skip


def _at(rng: random.Random, content: bytes | bytearray) -> int:
    """A place, often near the beginning or the end."""
    size = len(content)
    reach = rng.choice([size, size, 64, EDGE])
    place = rng.randrange(max(1, min(reach, size)))
    return place if rng.random() < 0.7 else max(0, size - 1 - place)


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
    inner = rng.choice([b"[", b"{", b"("]) * depth
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


# -- files within files ------------------------------------------------------------------------------------------------


def zip_member(rng: random.Random, content: bytes) -> bytes:
    """A member damaged, renamed or there twice, with checksums that are right."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
            kind = archive.infolist()[0].compress_type
    except (zipfile.BadZipFile, zlib.error, IndexError, OSError, RuntimeError, ValueError):  # damaged before
        return any_bytes(rng, content)
    at = rng.randrange(len(members))
    name, member = members[at]
    members[at : at + rng.choice([0, 1, 1, 1])] = [_other_member(rng, name, member)]
    buffer = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(buffer, "w", kind) as archive:
        for name, member in members:
            archive.writestr(name, member)
    return buffer.getvalue()


def _other_member(rng: random.Random, name: str, member: bytes) -> tuple[str, bytes]:
    if rng.random() < 0.2:
        names = ["../x.png", "/x.png", "a\\b", " ", "x" * 5000, "con.png", name.upper(), "\x1b[2J.png"]
        return rng.choice(names), member
    return name, damaged(rng, member, name) if member else b"x"


def tar_member(rng: random.Random, content: bytes) -> bytes:
    """A member damaged, renamed, of another type or there twice, with checksums that are right."""
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            members = [(info, tar.extractfile(info).read() if info.isreg() else b"") for info in tar]  # type: ignore[union-attr]
    except (tarfile.TarError, OSError, zlib.error, KeyError, EOFError, ValueError):  # damaged before
        return any_bytes(rng, content)
    if not members:
        return any_bytes(rng, content)
    at = rng.randrange(len(members))
    info, member = copy.copy(members[at][0]), members[at][1]
    info.name, member = _other_member(rng, info.name, member)
    info.type = rng.choice([info.type] * 8 + [b"1", b"2", b"5", b"6", b"L", b"x", b"S", b"Z"])
    info.linkname = rng.choice(["", "/etc/passwd", info.name])
    members[at : at + rng.choice([0, 1, 1, 1])] = [(info, member)]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for info, member in members:
            info.size = len(member)
            tar.addfile(info, io.BytesIO(member))
    return buffer.getvalue()


def unpacked(rng: random.Random, content: bytes) -> bytes:
    """Of a gzip file, what is in it; a tar, if it is one."""
    try:
        inside = gzip.decompress(content)
    except (OSError, EOFError, zlib.error):  # damaged before
        return any_bytes(rng, content)
    if not inside:
        return any_bytes(rng, content)
    return gzip.compress((tar_member if inside[257:262] == b"ustar" else any_bytes)(rng, inside), 1)


def tensor_header(rng: random.Random, content: bytes) -> bytes:
    """A value of the header of a .safetensors file, whose length is right."""
    (size,) = struct.unpack_from("<Q", content) if len(content) > 8 else (0,)
    head = json_value(rng, content[8 : 8 + size] or b"{}")
    return struct.pack("<Q", len(head)) + head + content[8 + size :]


def tensor(rng: random.Random, content: bytes) -> bytes:
    """A tensor in another size, of another type, with values that are none, or not there."""
    try:
        tensors = load(content)
    except Exception:  # damaged before
        return any_bytes(rng, content)
    if not tensors:
        return any_bytes(rng, content)
    name = rng.choice(sorted(tensors))
    array = np.atleast_1d(tensors.pop(name))
    if rng.random() < 0.8:
        made = [
            array[:-1], array[:0], array[..., None], array.astype(np.float64), -array.astype(np.int64),
            np.full_like(array, rng.choice([0, 1, 9, 10, 255])), array * np.float32("nan"),
        ]  # fmt: skip
        tensors[name] = rng.choice(made)
    return save({name: np.ascontiguousarray(each) for name, each in tensors.items()})


def page(rng: random.Random, content: bytes) -> bytes:
    """Bits near the beginning of a page of an LMDB file, where what is in it is listed. liblmdb itself trusts these."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 8])):
        at = rng.randrange(max(1, len(data) // 4096)) * 4096 + rng.randrange(200)
        if at < len(data):
            data[at] ^= 1 << rng.randrange(8)
    return bytes(data)


def image_size(rng: random.Random, content: bytes) -> bytes:
    """A width and height in the header, with the checksum that PNG wants."""
    width, height = (rng.choice([0, 1, 8191, 8193, 30000, 65500, 65535]) for _ in range(2))
    for form in (">HH", "<HH", ">II", "<II"):
        for sides in ((48, 64), (64, 48)):
            content = content.replace(struct.pack(form, *sides), struct.pack(form, height, width), 1)
    content = content.replace(b"64 48", f"{width} {height}".encode(), 1)
    if content.startswith(b"\x89PNG"):
        content = content[:29] + struct.pack(">I", zlib.crc32(content[12:29])) + content[33:]
    return content


def tiff_tag(rng: random.Random, content: bytes) -> bytes:
    """An entry of the directory of a TIFF twice, of another type, count or value."""
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    if order is None or len(content) < 8:
        return any_bytes(rng, content)
    (start,) = struct.unpack_from(f"{order}I", content, 4)
    if start + 2 > len(content):
        return any_bytes(rng, content)
    (count,) = struct.unpack_from(f"{order}H", content, start)
    entries = [bytearray(content[at : at + 12]) for at in range(start + 2, start + 2 + 12 * count, 12)]
    entries = [entry for entry in entries if len(entry) == 12]
    if not entries:
        return any_bytes(rng, content)
    at = rng.randrange(len(entries))
    entry = bytearray(rng.choice(entries) if rng.random() < 0.3 else entries[at])
    match rng.randrange(4):
        case 0:
            struct.pack_into(f"{order}H", entry, 2, rng.randrange(20))
        case 1:
            struct.pack_into(f"{order}I", entry, 4, rng.choice([0, 2, 1 << 20, 2**32 - 1]))
        case _:
            struct.pack_into(f"{order}I", entry, 8, rng.choice([0, 1, 24000, 65535, 2**31, 2**32 - 1]))
    entries[at : at + rng.choice([0, 1])] = [entry]
    directory = struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)
    return content[:4] + struct.pack(f"{order}I", len(content)) + content[8:] + directory


# -- ONNX --------------------------------------------------------------------------------------------------------------

INTEGERS = [-(2**63), -1000003, -100, -2, -1, 0, 1, 2, 3, 5, 64, 1000003, 2000006, 2**31, 2**62]
OPERATORS = [
    "Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "Conv", "ConvTranspose", "Flatten", "Gather", "Gemm",
    "GlobalAveragePool", "Identity", "LSTM", "Loop", "MatMul", "MaxPool", "Pad", "ReduceMean", "Relu", "Reshape",
    "Resize", "Slice", "Softmax", "Split", "Squeeze", "Sum", "Transpose", "Unsqueeze", "Where", "Nothing",
]  # fmt: skip


def onnx_words(rng: random.Random, content: bytes) -> bytes:
    """An operator, an operand, an attribute, whole numbers of constants, a size, the opset, a value of our metadata."""
    try:
        model = ModelProto.FromString(content)
        rng.choice(ONNX)(rng, model)
        return model.SerializeToString()
    except Exception:  # damaged before, or nothing of the kind is in it
        return any_bytes(rng, content)


def _operator(rng: random.Random, model: ModelProto) -> None:
    rng.choice(model.graph.node).op_type = rng.choice(OPERATORS)


def _operand(rng: random.Random, model: ModelProto) -> None:
    node = rng.choice(model.graph.node)
    names = [name for node in model.graph.node for name in (*node.input, *node.output)]
    at = rng.randrange(len(node.input) + 1)
    node.input[at : at + rng.choice([0, 1])] = [rng.choice([*names, ""])] * rng.choice([0, 1, 1])


def _attribute(rng: random.Random, model: ModelProto) -> None:
    chosen = rng.choice([attribute for node in model.graph.node for attribute in node.attribute])
    chosen.i, chosen.f = rng.choice(INTEGERS), rng.choice([0.0, -1.0, 1e30, math.nan, math.inf])
    chosen.ints[:] = [rng.choice(INTEGERS) if rng.random() < 0.5 else number for number in chosen.ints]
    chosen.type = rng.choice([chosen.type, chosen.type, chosen.type, 1, 2, 3, 6, 7])


def _numbers(rng: random.Random, model: ModelProto) -> None:
    chosen = rng.choice([tensor for tensor in model.graph.initializer if tensor.data_type == 7])
    numbers = [rng.choice(INTEGERS) for _ in range(rng.choice([1, 2, 4, 8]))]
    chosen.raw_data = b"".join(number.to_bytes(8, "little", signed=True) for number in numbers)
    chosen.dims[:] = [len(numbers)]


def _sizes(rng: random.Random, model: ModelProto) -> None:
    dims = rng.choice(model.graph.input).type.tensor_type.shape.dim
    rng.choice(dims).dim_value = rng.choice(INTEGERS)


def _tensor_sizes(rng: random.Random, model: ModelProto) -> None:
    chosen = rng.choice(model.graph.initializer)
    chosen.dims[rng.randrange(len(chosen.dims))] = rng.choice(INTEGERS)


def _opset(rng: random.Random, model: ModelProto) -> None:
    model.opset_import[0].version = rng.choice([1, 7, 9, 11, 13, 18, 23, 99])


def _metadata(rng: random.Random, model: ModelProto) -> None:
    entry = rng.choice(model.metadata_props)
    entry.value = json_value(rng, entry.value.encode()).decode()


def _outside(rng: random.Random, model: ModelProto) -> None:
    chosen = rng.choice(model.graph.initializer)
    chosen.data_location = 1
    where = rng.choice(["../x", "/etc/passwd", "/dev/zero", "net.onnx", "x" * 5000, ""])
    for key, value in (("location", where), ("offset", "0"), ("length", str(rng.choice(INTEGERS)))):
        chosen.external_data.add(key=key, value=value)


ONNX: list[Callable[[random.Random, ModelProto], None]] = [
    _operator, _operand, _attribute, _numbers, _sizes, _tensor_sizes, _opset, _outside, _metadata, _metadata, _metadata
]  # fmt: skip

# The ending of a name -> what is done to such a file, beside bytes.
KINDS: dict[str, list[Mutation]] = {
    ".json": [json_value], ".jsonl": [json_line], ".sig": [json_value], ".csv": [cell], ".tsv": [cell],
    ".partial": [cell, json_line], ".yaml": [words], ".txt": [cell, words], ".xml": [words], ".prototxt": [words],
    ".cntk": [words], ".ndl": [words], ".mel": [words], ".bs": [words], ".inc": [words], ".ctf": [cell, words],
    ".npz": [zip_member, any_bytes],
    ".zip": [zip_member], ".pth": [zip_member, any_bytes], ".tar": [tar_member], ".gz": [unpacked],
    ".safetensors": [tensor, tensor_header], ".onnx": [onnx_words], ".mdb": [page],
    ".img": [image_size, any_bytes, tiff_tag],
}  # fmt: skip
