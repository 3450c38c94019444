"""One to three damaged values or bytes: a mutator for each kind of file, chosen by the ending of its name.

What has a structure is damaged in it as well, with checksums and lengths that are right: a value of JSON, a cell of a
table, a word of a configuration, a file within an archive, a field of an ONNX model.
"""

from __future__ import annotations

import copy
import gzip
import io
import math
import random
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from damage_bytes import Mutation, any_bytes, cell, json_line, json_value, one_bit, words
from onnx import ModelProto
from safetensors.numpy import load, save


def damaged(rng: random.Random, content: bytes, name: str) -> bytes:
    """One to three damages of the kinds that a file of that name has."""
    kinds = KINDS.get(Path(name).suffix, [any_bytes])
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        damage = rng.choice([rng.choice(kinds), rng.choice(kinds), one_bit, any_bytes])
        content = damage(rng, content) if content else rng.choice([b"\0", b"{}", b"x\n"])
    return content


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
        changed: bytes = model.SerializeToString()
        return changed
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
