"""ONNX files of any origin: image networks become the neutral graph. Recognized by content.

model.py     the file as plain values        lower.py   the graph, node by node
metadata.py  names of classes, preprocessing  call.py    where the batch is; fold.py what constants make
plain.py, shaping.py, layers.py, windows.py  a row for each operator
"""

from __future__ import annotations

from pathlib import Path

from convolve.errors import MissingDataError
from convolve.graph.graph import Graph
from convolve.graph.shapes import Shape
from convolve.importers.loader import Imported, PreprocessOverrides, read_bytes
from convolve.importers.onnx import model
from convolve.importers.onnx.lower import lower

__all__ = ["parse", "read", "recognizes"]


def recognizes(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return model.is_onnx(file.read(model.HEAD_BYTES))
    except OSError as error:
        raise MissingDataError(f"cannot read {path}: {error.strerror}; give a model file") from None


def read(path: Path, overrides: PreprocessOverrides | None = None) -> Imported:
    overrides = overrides or PreprocessOverrides()
    outputs = None if overrides.output is None else [overrides.output]
    graph = parse(read_bytes(path), path, outputs, overrides.image_shape_CHW)
    return Imported(graph)


def parse(data: bytes, path: Path, outputs: list[str] | None = None, image_shape_CHW: Shape | None = None) -> Graph:
    return lower(model.parse(data, path, path.parent), outputs, image_shape_CHW)
