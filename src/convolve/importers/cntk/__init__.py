"""CNTK's own files: v1 and v2 models, trainer checkpoints. Recognised by content, whatever they are called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from convolve.errors import FormatError, UnsupportedError
from convolve.graph.graph import Graph
from convolve.importers.cntk import v1, v2
from convolve.importers.cntk.checkpoint import LearnerState, TrainerState, read_checkpoint
from convolve.importers.cntk.lower import lower
from convolve.importers.source import read_bytes

__all__ = ["LearnerState", "TrainerState", "is_cntk", "parse", "read", "read_checkpoint"]

# A protobuf Dictionary: its version, then the first map entry, which begins with its key. ONNX has a text there.
_V2_HEAD = re.compile(rb"(\x08[\x80-\xff]{0,9}[\x00-\x7f])?\x12[\x80-\xff]{0,9}[\x00-\x7f]\x0a", re.DOTALL)
_ONNX_HEAD = re.compile(rb"\x08[\x01-\x20]([\x12\x3a\x42\x1a\x22])", re.DOTALL)


def is_cntk(head: bytes) -> bool:
    """Whether a file that begins with `head` (16 bytes are enough) is CNTK's."""
    return head.startswith((v1.MAGIC, v2.SPLIT_MAGIC)) or bool(_V2_HEAD.match(head))


def read(path: str | Path, outputs: Sequence[str] | None = None) -> Graph:
    """The network in a CNTK model file, v1 or v2.

    `outputs` picks values, inner ones too, by the names that the file uses; without it, the model's own outputs are
    taken. Raises FormatError with the byte for a damaged file, UnsupportedError for an operator out of scope,
    UsageError for an output that is not there.
    """
    return parse(read_bytes(path), path, outputs)


def parse(data: bytes, path: object, outputs: Sequence[str] | None = None) -> Graph:
    """`read` for the bytes of a file; `path` is for messages."""
    if data.startswith(v1.MAGIC):
        return lower(v1.read(data, path), outputs)
    if is_cntk(data[:32]):
        return lower(v2.read(data, path), outputs)
    if _ONNX_HEAD.match(data):
        raise UnsupportedError(f"{path}: this looks like an ONNX model; give the CNTK model that it was made from")
    raise FormatError(path, "byte 0", "this is no CNTK model: neither a v1 file, which begins with BCN, nor a v2 one")
