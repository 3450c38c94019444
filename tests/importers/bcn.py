"""Writes CNTK v1 ("BCN") files of any version, for tests: those that the oracle lacks, and damaged ones."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

Node = tuple[str, str, bytes, Sequence[str]]  # kind, name, content, names of the operands


def text(value: str) -> bytes:
    return value.encode("utf-16-le") + b"\0\0"


def pack(code: str, *values: float) -> bytes:
    """Little-endian numbers without gaps, by struct's letters."""
    return struct.pack(f"<{code}", *values)


def shape(*dims: int) -> bytes:
    """Fastest dimension first."""
    return pack(f"I{len(dims)}I", len(dims), *dims)


def flags(*values: bool) -> bytes:
    return pack(f"Q{len(values)}?", len(values), *values)


def matrix(array: np.ndarray) -> bytes:
    """`array` has numpy's order, the slowest axis first; rows are the fastest axis."""
    rows = array.shape[-1] if array.ndim else 1
    head = b"d" + text("BMAT") + pack("Q", array.dtype.itemsize) + text("unnamed")
    return head + pack("iQQ", 0, rows, array.size // rows) + array.tobytes() + text("EMAT")


def input_node(version: int, name: str, *dims: int) -> Node:
    content = pack("QQ", 0, 0) + shape(*dims)
    if version >= 8:
        content += pack("I", 1) + text("")
    if version >= 10:
        content += pack("f", 0)
    return ("InputValue", name, content, ())


def parameter(version: int, name: str, array: np.ndarray, multiplier: float = 1.0) -> Node:
    dims = array.shape[::-1]
    if version >= 3:
        content = pack("f", multiplier) + shape(*dims)
    else:
        content = pack("?QQ", bool(multiplier), dims[0], array.size // dims[0])
    return ("LearnableParameter", name, content + matrix(array), ())


def model(version: int, nodes: Sequence[Node], outputs: Sequence[str], criteria: Sequence[str] = ()) -> bytes:
    """The bytes of a file with the given nodes."""
    head = text("BCN")
    if version > 1:
        head += text("BVersion") + pack("Q", version) + text("EVersion")
    body = pack("Q", len(nodes)) + text("BNodeList")
    for kind, name, content, _inputs in nodes:
        precision = text("float") if version >= 7 else b""
        body += precision + text(kind) + text(name) + content
    body += text("ENodeList") + text("BRelation")
    for _kind, name, _content, inputs in nodes:
        body += text(name) + pack("Q", len(inputs)) + b"".join(map(text, inputs))
    body += text("ERelation") + text("BRootNodes")
    inputs = [name for kind, name, *_ in nodes if kind == "InputValue"]
    for group, names in (
        ("FeatureNodes", [name for name in inputs if name != "labels"]),
        ("LabelNodes", [name for name in inputs if name == "labels"]),
        ("CriterionNodes", criteria),
        ("EvalNodes", ()),
        ("OutputNodes", outputs),
    ):
        body += text(f"B{group}") + pack("Q", len(names)) + b"".join(map(text, names)) + text(f"E{group}")
    return head + body + text("ERootNodes") + text("ECN")
