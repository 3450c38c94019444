"""CNTK's own files: v1 and v2 models, trainer checkpoints. Recognized by content, whatever they are called."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from convolve.atomic import open_ordinary
from convolve.errors import FormatError, MissingDataError, UnsupportedError
from convolve.graph.graph import Graph
from convolve.graph.shapes import Shape
from convolve.importers.cntk import v1, v2
from convolve.importers.cntk.checkpoint import LearnerState, TrainerState, read_checkpoint
from convolve.importers.cntk.lower import lower, lower_whole
from convolve.importers.loader import Imported, PreprocessOverrides, read_bytes

__all__ = ["LearnerState", "TrainerState", "is_cntk", "parse", "read", "read_checkpoint", "read_whole", "recognizes"]

# A protobuf Dictionary: its version, then its first map entry, which begins with its key. ONNX has a string there.
_V2_HEAD = re.compile(rb"(\x08[\x80-\xff]{0,9}[\x00-\x7f])?\x12[\x80-\xff]{0,9}[\x00-\x7f]\x0a", re.DOTALL)
_HEAD_BYTES = 32
_ONNX_HEAD = re.compile(rb"\x08[\x01-\x20]([\x12\x3a\x42\x1a\x22])", re.DOTALL)


def is_cntk(head: bytes) -> bool:
    """Whether a file that begins with `head` (16 bytes are enough) is a file of CNTK."""
    return head.startswith((v1.MAGIC, v2.SPLIT_MAGIC)) or bool(_V2_HEAD.match(head))


def recognizes(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        with open_ordinary(path) as file:
            return is_cntk(file.read(_HEAD_BYTES))
    except OSError as error:
        raise MissingDataError(f"cannot read {path}: {error.strerror}; give a model file") from None


def read(path: Path, overrides: PreprocessOverrides | None = None) -> Imported:
    """The network in a CNTK model file, v1 or v2; see `Loader`."""
    overrides = overrides or PreprocessOverrides()
    outputs = None if overrides.output is None else [overrides.output]
    graph = parse(read_bytes(path), path, outputs, overrides.image_shape_CHW)
    return Imported(graph, {"orientation": "cntk"})


def read_whole(path: Path) -> tuple[Graph, Mapping[str, Sequence[str]]]:
    """Everything in a model file, node by node and under the file's names, and what its roots are for (v1)."""
    data = read_bytes(path)
    model = v1.read(data, path) if data.startswith(v1.MAGIC) else v2.read(data, path)
    return lower_whole(model), model.roles


def parse(
    data: bytes, path: object, outputs: Sequence[str] | None = None, image_shape_CHW: Shape | None = None
) -> Graph:
    """The network in a file's bytes; `path` is for messages. `outputs`: values, inner ones too, by the names in the
    file; without it, the model's own outputs. `image_shape_CHW`: the sizes that the file leaves open."""
    if data.startswith(v1.MAGIC):
        return lower(v1.read(data, path), outputs)
    if is_cntk(data[:_HEAD_BYTES]):
        return lower(v2.read(data, path), outputs, image_shape_CHW)
    if _ONNX_HEAD.match(data):
        raise UnsupportedError(f"{path}: this looks like an ONNX model; give the CNTK model that it was made from")
    raise FormatError(path, "byte 0", "this is no CNTK model: neither a v1 file, which begins with BCN, nor a v2 one")
