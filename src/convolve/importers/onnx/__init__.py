"""ONNX files of any origin: image networks become the neutral graph. Recognized by content.

model.py     the file as plain values        lower.py   the graph, node by node
metadata.py  names of classes, preprocessing  call.py    where the batch is; fold.py what constants make
plain.py, shaping.py, layers.py, windows.py  a row for each operator
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from convolve.errors import UnsupportedError
from convolve.export.metadata import INNER, INPUT, PHOTOGRAPH, scores_of
from convolve.graph.graph import Graph
from convolve.graph.shapes import MAX_ELEMENTS, Shape
from convolve.importers.loader import Imported, PreprocessOverrides
from convolve.importers.onnx import model
from convolve.importers.onnx.files import Files, recognizes
from convolve.importers.onnx.lower import image_sizes, is_nhwc, lower
from convolve.importers.onnx.metadata import Stated, stated
from convolve.importers.onnx.model import OnnxModel, Port
from convolve.records import Metadata
from convolve.transforms.preprocess import Preprocess

__all__ = ["AsItIsError", "Opened", "as_it_is", "parse", "read", "recognizes"]


class AsItIsError(UnsupportedError):
    """A model that onnxruntime can run but that cannot become a graph: it is quantized or optimized for onnxruntime, or
    has operators that convolve does not have (`reason`)."""

    def __init__(self, opened: Opened, reason: str = "") -> None:
        self.opened, self.reason = opened, reason
        super().__init__(
            reason
            or f"{opened.files.path} is a quantized model ({opened.model.quantized}), which onnxruntime can run, but "
            f"which cannot be trained or converted; give the model that it was made from"
        )


@dataclass(frozen=True, eq=False)
class Opened:
    """An ONNX file before it becomes a graph. One that only onnxruntime can run never does."""

    files: Files
    model: OnnxModel
    stated: Stated


@dataclass(frozen=True, eq=False)
class AsItIs:
    """What is needed to run a model in onnxruntime. `content`: a path or bytes; `preprocess`: all of `Preprocess`."""

    content: str | bytes
    preprocess: dict[str, Any]
    metadata: Metadata | None
    gives_probabilities: bool


def _open(path: Path) -> Opened:
    """Raises FormatError, UnsupportedError, and ModelError for damaged metadata of our own."""
    files = Files(path)
    found = model.parse(files.model(), path, files.file)
    said = stated(found, files)
    return Opened(files, found, said)


def _without_scaling(opened: Opened) -> OnnxModel:
    """The model without what scales images of any size in our files: its input then has the network's size."""
    found, said = opened.model, opened.stated
    if not _is_any_size(opened):
        return found
    sizes = tuple(said.preprocess[name] for name in ("height", "width", "channels"))
    return replace(found, inputs=(Port(INPUT, (None, *sizes), "uint8"),), outputs=())


def _is_any_size(opened: Opened) -> bool:
    return opened.stated.own and [port.name for port in opened.model.inputs] == [PHOTOGRAPH]


def read(path: Path, overrides: PreprocessOverrides | None = None) -> Imported:
    """The network of an ONNX file; see `Loader`. Raises AsItIsError for one that only onnxruntime can evaluate."""
    opened, overrides = _open(path), overrides or PreprocessOverrides()
    if opened.model.quantized:
        raise AsItIsError(opened)
    own = opened.stated.metadata if opened.stated.own else None
    scores = [scores_of(own) + INNER * _is_any_size(opened)] if own else None  # more may stand beside them
    outputs = scores if overrides.output is None else [overrides.output]
    try:
        graph = lower(_without_scaling(opened), outputs, overrides.image_shape_CHW)
    except UnsupportedError as error:
        raise AsItIsError(opened, str(error)) from None
    said = opened.stated
    return Imported(
        graph, _preprocessing(opened), metadata=said.metadata, names_from=said.names_from,
        confidence={} if overrides.output else said.confidence,
    )  # fmt: skip


def _preprocessing(opened: Opened) -> dict[str, Any]:
    """The fields of `Preprocess` that the file states or suggests: colors in RGB order, values in 0..255."""
    first, said = opened.model.inputs[0] if opened.model.inputs else None, dict(opened.stated.preprocess)
    if not opened.stated.own and first and first.type == "uint8":
        said = {"known_from": "the file, which takes pixels as they are"} | said
    return said if opened.stated.own else {"channel_order": None, "resize": "cover", "orientation": "exif"} | said


def as_it_is(opened: Opened, overrides: PreprocessOverrides) -> AsItIs:
    """What is needed to run a model in onnxruntime. Raises UnsupportedError for one with loops, which might
    never end."""
    path, found = opened.files.path, opened.model
    if loops := sorted({node.op for node in found.nodes if node.op in model.SUBGRAPHS}):
        raise UnsupportedError(
            f"{path}: the model has {', '.join(loops)}, which might never end; export it without loops and branches"
        )
    if len(found.inputs) != 1 or len(found.inputs[0].sizes) != 4 - _is_any_size(opened):
        raise UnsupportedError(
            f"{path}: the model does not have one image as its input; convolve runs networks for images only"
        )
    fields = {"known_from": ""} | _preprocessing(opened)
    if _is_any_size(opened):
        numbers = prod(Preprocess(**fields).size_before_crop) * 3
    else:
        sizes = image_sizes(path, found.inputs[0], overrides.image_shape_CHW)
        numbers = (found.inputs[0].sizes[0] or 1) * prod(sizes)
        shape_CHW = (sizes[2], sizes[0], sizes[1]) if is_nhwc(sizes) else sizes
        if not opened.stated.own:
            fields |= dict(zip(("channels", "height", "width"), shape_CHW, strict=True))
    if numbers > MAX_ELEMENTS:
        raise UnsupportedError(f"{path}: the model takes {numbers:,} numbers at once; the limit is {MAX_ELEMENTS:,}")
    content = str(opened.files.file) if opened.files.file else opened.files.model()
    output = overrides.output or (found.outputs[0].name if found.outputs else "")
    return AsItIs(content, fields, opened.stated.metadata, _is_any_size(opened) or _ends_in_softmax(found, output))


def _ends_in_softmax(found: OnnxModel, name: str) -> bool:
    """Whether the output `name` comes from a softmax, with nothing after it that changes more than shape or type."""
    made = {name: node for node in found.nodes for name in node.outputs}
    for _ in found.nodes:
        node = made.get(name)
        if node is None or not node.inputs or node.op not in (*_SHAPES_AND_TYPES, "Softmax"):
            return False
        if node.op == "Softmax":
            return True
        name = node.inputs[0]
    return False


_SHAPES_AND_TYPES = ("Reshape", "Flatten", "Squeeze", "Identity", "Cast", "QuantizeLinear", "DequantizeLinear")


def parse(data: bytes, path: Path, outputs: list[str] | None = None, image_shape_CHW: Shape | None = None) -> Graph:
    """The network in the bytes of a file, weights beside it included; `path` says where it lies."""
    return lower(model.parse(data, path, path), outputs, image_shape_CHW)
