"""One to three damaged values or bytes: a mutator for each kind of file, chosen by the ending of its name.

What has a structure is damaged in it as well, with checksums and lengths that are right: a value of JSON, a cell of a
table, a word of a configuration, a file within an archive, a field of an ONNX model.
"""

from __future__ import annotations

import json
import math
import random
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from damage_archives import members_of, stream_bomb, tar_header, tar_records, zip_bomb, zip_field
from damage_bytes import Mutation, any_bytes, cell, json_line, json_value, one_bit, words
from damage_images import image_part, image_size, tiff_strip, tiff_tag
from damage_tables import parquet_bomb, parquet_table
from onnx import ModelProto
from safetensors.numpy import load, save


def damaged(rng: random.Random, content: bytes, name: str) -> bytes:
    """One to three damages of the kinds that a file of that name has."""
    kinds = KINDS.get(Path(name).suffix, [any_bytes])
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        damage = rng.choice([rng.choice(kinds), rng.choice(kinds), one_bit, any_bytes])
        content = damage(rng, content) if content else rng.choice([b"\0", b"{}", b"x\n"])
        if damage in BOMBS:  # which nobody unpacks here
            break
    return content


# -- files within files ------------------------------------------------------------------------------------------------

zip_member, tar_member, unpacked = members_of(damaged)


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


SPANS = [
    [0, 0],
    [0, 2**63],
    [2**64 - 1, 2**64 - 1],
    [-1, 4],
    [4, 0],
    [0, 1],
    [0, 4, 8],
    [],
    [0.0, 4.0],
    [True, 4],
    None,
]
TYPES = ["F64", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I64", "U64", "U8", "BOOL", "C64", "F4", "X", "", "f32", "\x1b[2J"]


def tensor_span(rng: random.Random, content: bytes) -> bytes:
    """What the header says of a tensor: its type, shape and place; a length that is none; a name twice."""
    (size,) = struct.unpack_from("<Q", content) if len(content) > 8 else (0,)
    try:
        header = json.loads(content[8 : 8 + size])
        entry = header[rng.choice([name for name in header if name != "__metadata__"])]
        entry["dtype"], shape = rng.choice([entry["dtype"], entry["dtype"], *TYPES]), entry["shape"]
        shapes = [shape, shape, shape[::-1], [*shape, 1], [], [-1], [2**62, 4], [0], [True], [1.5], [1] * 5000]
        entry["shape"] = rng.choice(shapes)
        entry["data_offsets"] = rng.choice([entry["data_offsets"]] * 9 + SPANS)
    except (ValueError, LookupError, TypeError, RecursionError, AttributeError):  # damaged before
        return any_bytes(rng, content)
    head = json.dumps(header).encode()
    if rng.random() < 0.2:
        head = head[:-1] + b", " + head[1:]
    lengths = [len(head)] * 12 + [0, 1, 2**31, 2**40, 2**63, 2**64 - 1, len(content) - 8]
    return struct.pack("<Q", rng.choice(lengths)) + head + content[8 + size :]


def page(rng: random.Random, content: bytes) -> bytes:
    """Bits near the beginning of a page of an LMDB file, where what is in it is listed. liblmdb itself trusts these."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 8])):
        at = rng.randrange(max(1, len(data) // 4096)) * 4096 + rng.randrange(200)
        if at < len(data):
            data[at] ^= 1 << rng.randrange(8)
    return bytes(data)


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

BOMBS: list[Mutation] = [zip_bomb, stream_bomb, parquet_bomb]
# The ending of a name -> what is done to such a file, beside bytes.
KINDS: dict[str, Sequence[Mutation]] = {
    ".json": [json_value], ".jsonl": [json_line], ".sig": [json_value], ".csv": [cell], ".tsv": [cell],
    ".partial": [cell, json_line], ".yaml": [words], ".txt": [cell, words], ".xml": [words], ".prototxt": [words],
    ".cntk": [words], ".ndl": [words], ".mel": [words], ".bs": [words], ".inc": [words], ".ctf": [cell, words],
    ".npz": [zip_member, zip_field, any_bytes], ".zip": [zip_member, zip_member, zip_field, zip_bomb],
    ".pth": [zip_member, zip_field, any_bytes], ".tar": [tar_member, tar_header, tar_records],
    ".gz": [unpacked, unpacked, unpacked, stream_bomb], ".bz2": [unpacked, unpacked, stream_bomb],
    ".xz": [unpacked, unpacked, stream_bomb],
    ".safetensors": [tensor, tensor_header, tensor_span], ".onnx": [onnx_words],
    ".mdb": [page], ".parquet": [parquet_table] * 5 + [any_bytes] * 5 + [parquet_bomb],
    ".img": [image_size, image_part, any_bytes, tiff_tag, tiff_strip], ".png": [image_size, image_part],
}  # fmt: skip
