"""An ONNX file as plain values: nodes, constants, inputs and outputs, metadata.

The package `onnx` (the extra `onnx`) parses the protobuf; it also knows every tensor type and expands local functions.
External weights are read here, because where they may be and how large they may be is ours to check:
https://onnx.ai/onnx/repo-docs/ExternalData.html.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convolve.atomic import open_ordinary
from convolve.errors import FormatError, UnsupportedError, UsageError, install_hint, legible
from convolve.graph.shapes import MAX_VALUES

if TYPE_CHECKING:
    import onnx

# The IR version, then another field of the model: its producer, a text.
_HEAD = re.compile(rb"\x08[\x01-\x20][\x12\x1a\x22\x2a\x32\x3a\x42\x72]", re.DOTALL)
HEAD_BYTES = 3
OLDEST_OPSET = 7
MOST_BYTES = 2**31  # of all tensors together: protobuf's own limit, and that of a graph's parameters
DOMAINS = ("", "ai.onnx")  # two names of ONNX's own domain
_RUNTIMES = ("com.microsoft", "com.microsoft.nchwc")  # onnxruntime's own, which its optimizers write
_QUANTIZED = re.compile(r"^QLinear|^QuantizeLinear$|^DynamicQuantizeLinear$|Integer$")
LABELS_DOMAIN = "ai.onnx.ml"  # of operators that map classes to names
SUBGRAPHS = ("If", "Loop", "Scan")
_MOST_DEPTH = 100  # of local functions that call each other; exporters write a few


@dataclass(frozen=True, eq=False)
class Constant:
    """An array that the file holds, or one that was folded from such. `name`: that of the initializer. `learned`: an
    initializer, unless it is an operand of arithmetic with shapes."""

    array: np.ndarray
    name: str = ""
    learned: bool = False


@dataclass(frozen=True)
class OnnxNode:
    op: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    proto: onnx.NodeProto

    def __str__(self) -> str:
        domain = f"{self.domain}." if self.domain not in DOMAINS else ""
        return f"{legible(domain + self.op)} {legible(self.name or next(iter(self.outputs), ''))}"


@dataclass(frozen=True)
class Port:
    """An input or output of the model; None stands for a size that the file leaves open."""

    name: str
    sizes: tuple[int | None, ...]
    type: str


@dataclass(frozen=True)
class OnnxModel:
    path: Path
    producer: str
    opsets: Mapping[str, int]
    nodes: tuple[OnnxNode, ...]
    constants: Mapping[str, Constant]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    metadata: Mapping[str, str]

    @property
    def quantized(self) -> str:
        """What only a runtime for quantized files can compute, in words; empty where there is nothing of it.

        Weights that are merely stored as small integers do not count: they are dequantized when the file is read.
        """
        kinds = Counter(
            node.op for node in self.nodes
            if (node.domain in DOMAINS or node.domain in _RUNTIMES)
            and (_QUANTIZED.search(node.op) or node.domain in _RUNTIMES)
        )  # fmt: skip
        return ", ".join(f"{count} {op}" for op, count in kinds.most_common(4))

    @property
    def opset(self) -> int:
        return max((self.opsets.get(domain, 0) for domain in DOMAINS), default=0)


def is_onnx(head: bytes) -> bool:
    """Whether a file that begins with `head` is an ONNX model."""
    return bool(_HEAD.match(head))


def parse(data: bytes, path: Path, file: Path | None) -> OnnxModel:
    """The model in `data`; `path` is for messages. External weights are beside `file` or below its folder; None: the
    model comes from an archive and must contain its weights. Raises FormatError, UnsupportedError."""
    if find_spec("onnx") is None:
        raise UsageError(f"{path}: reading ONNX files needs the package onnx: {install_hint('onnx')}")
    import onnx
    from google.protobuf.message import DecodeError
    from onnx.checker import ValidationError
    from onnx.inliner import inline_local_functions

    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
        if proto.functions:
            _require_countable(proto, path)
            proto = inline_local_functions(proto)
    except (DecodeError, RuntimeError, ValueError, ValidationError) as error:
        raise FormatError(path, "", f"this is not a complete ONNX model ({_line(error)}); copy it again") from None
    return _Reader(path, file).model(proto)


def _require_countable(proto: onnx.ModelProto, path: Path) -> None:
    """Raise UnsupportedError if local functions, expanded into each other, give more nodes than any network has."""
    functions = {(item.domain, item.name, item.overload): item for item in proto.functions}
    counts: dict[tuple[str, str, str], int] = {}

    def count(nodes: Iterable[onnx.NodeProto], depth: int) -> int:
        if depth > _MOST_DEPTH:
            raise UnsupportedError(f"{path}: local functions call each other more than {_MOST_DEPTH} deep")
        total = 0
        for node in nodes:
            name = (node.domain, node.op_type, node.overload)
            if name in functions and name not in counts:
                counts[name] = count(functions[name].node, depth + 1)
            inner = [item.g for item in node.attribute if item.HasField("g")]
            inner += [graph for item in node.attribute for graph in item.graphs]
            total += counts.get(name, 1) + sum(count(graph.node, depth + 1) for graph in inner)
        return total

    if count(proto.graph.node, 0) > MAX_VALUES:
        raise UnsupportedError(f"{path}: the model has more than {MAX_VALUES} operators")


class _Reader:
    def __init__(self, path: Path, file: Path | None) -> None:
        self.path, self.file = path, file
        self.bytes_left = MOST_BYTES

    def model(self, proto: onnx.ModelProto) -> OnnxModel:
        graph = proto.graph
        self.require_texts(proto.producer_name, proto.producer_version, *(item.domain for item in proto.opset_import))
        self.require_texts(*(item.name for item in (*graph.initializer, *graph.input, *graph.output)))
        self.require_texts(*(text for item in proto.metadata_props for text in (item.key, item.value)))
        opsets = {item.domain: item.version for item in proto.opset_import}
        if len(graph.node) > MAX_VALUES:
            raise UnsupportedError(f"{self.path}: the model has more than {MAX_VALUES} operators")
        if graph.sparse_initializer:
            raise UnsupportedError(f"{self.path}: the model has sparse weights; store them as dense tensors")
        constants = {item.name: Constant(self.array(item), item.name, learned=True) for item in graph.initializer}
        model = OnnxModel(
            path=self.path, producer=f"{proto.producer_name} {proto.producer_version}".strip(), opsets=opsets,
            nodes=tuple(self.node(node) for node in graph.node), constants=constants,
            inputs=tuple(self.port(port) for port in graph.input if port.name not in constants),
            outputs=tuple(self.port(port) for port in graph.output),
            metadata={item.key: item.value for item in proto.metadata_props},
        )  # fmt: skip
        if model.opset and model.opset < OLDEST_OPSET:
            raise UnsupportedError(
                f"{self.path}: opset {model.opset} is not supported; convert the model to opset {OLDEST_OPSET} or "
                f"later with onnx.version_converter"
            )
        return model

    def node(self, node: onnx.NodeProto) -> OnnxNode:
        self.require_texts(node.op_type, node.domain, node.name, *node.input, *node.output)
        self.require_texts(*(item.name for item in node.attribute))
        if node.op_type in SUBGRAPHS:
            attributes: dict[str, Any] = {}  # refused by name, or never needed
        else:
            attributes = {item.name: self.attribute(item) for item in node.attribute}
        inputs = tuple(node.input)
        while inputs and not inputs[-1]:  # trailing operands that are left out
            inputs = inputs[:-1]
        return OnnxNode(
            node.op_type, node.domain, node.name, inputs=inputs, outputs=tuple(node.output), attributes=attributes,
            proto=node,
        )  # fmt: skip

    def require_texts(self, *names: str | bytes) -> None:
        """Raise FormatError for names that are not UTF-8, for which the package `onnx` hands out bytes."""
        if any(isinstance(name, bytes) for name in names):
            raise self.error("a name is not UTF-8 text")

    def attribute(self, item: onnx.AttributeProto) -> Any:
        from onnx import AttributeProto, helper

        if item.type == AttributeProto.TENSOR:
            return self.array(item.t)
        try:
            value = helper.get_attribute_value(item)
        except (ValueError, UnicodeDecodeError) as error:
            raise self.error(f"attribute {legible(item.name)}: {_line(error)}") from None
        return _text(value)

    def array(self, tensor: onnx.TensorProto) -> np.ndarray:
        from onnx import TensorProto, helper, numpy_helper

        dims = tuple(tensor.dims)
        try:
            if min(dims, default=1) < 0:
                raise ValueError(f"a tensor cannot have the shape {dims}")
            dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
            self.count(prod(dims) * dtype.itemsize)
            if tensor.data_location == TensorProto.EXTERNAL:
                return self.external(tensor, dtype, dims)
            array: np.ndarray = numpy_helper.to_array(tensor)
        except (ValueError, KeyError, TypeError, OverflowError, RuntimeError, AssertionError) as error:
            raise self.error(f"tensor {legible(tensor.name)}: {_line(error)}") from None
        return array

    def external(self, tensor: onnx.TensorProto, dtype: np.dtype[Any], dims: tuple[int, ...]) -> np.ndarray:
        """A tensor whose bytes are in another file, beside the model or below its folder. Where the model is a symbolic
        link, as in Hugging Face's cache, that file may be one too, into the same folder."""
        said = {entry.key: entry.value for entry in tensor.external_data}
        self.require_texts(*said.keys(), *said.values())
        place, offset = said.get("location", ""), int(said.get("offset", 0))
        if self.file is None:
            raise self.error(f"its weights are in another file, {legible(place)}; unpack the archive")
        folder, file = self.file.parent, (self.file.parent / place).resolve()
        inside = Path(os.path.normpath(folder / place)).is_relative_to(os.path.normpath(folder))
        beside = inside and file.parent == self.file.resolve().parent
        if Path(place).is_absolute() or not (beside or file.is_relative_to(folder.resolve())):
            raise self.error(f"its weights are said to be in {legible(place)}, which is outside of the model's folder")
        wanted = prod(dims) * dtype.itemsize
        if int(said.get("length", wanted)) != wanted or offset < 0:
            raise ValueError(f"{said.get('length')} bytes from {offset} for shape {dims} of {dtype}")
        try:
            with open_ordinary(file) as stream:
                stream.seek(offset)
                content = stream.read(wanted)
        except OSError as error:
            what = f"cannot read {file}: {error.strerror}; put it beside the model, whose weights it holds"
            raise self.error(what) from None
        if len(content) < wanted:
            what = f"{file} holds {len(content)} of the {wanted} bytes of {legible(tensor.name)}; copy it again"
            raise self.error(what)
        return np.frombuffer(content, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(dims)

    def count(self, size: int) -> None:
        self.bytes_left -= size
        if self.bytes_left < 0:
            raise UnsupportedError(f"{self.path}: the weights take more than {MOST_BYTES / 2**30:g} GiB")

    def port(self, port: onnx.ValueInfoProto) -> Port:
        from onnx import TensorProto

        tensor = port.type.tensor_type
        sizes = tuple(dim.dim_value if dim.dim_value > 0 else None for dim in tensor.shape.dim)
        known = tensor.elem_type in TensorProto.DataType.values()
        return Port(port.name, sizes, TensorProto.DataType.Name(tensor.elem_type).lower() if known else "unknown")

    def error(self, what: str) -> FormatError:
        return FormatError(self.path, "", what)


def _text(value: Any) -> Any:
    """Texts come as bytes."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Iterable) and not isinstance(value, str | np.ndarray):
        return [_text(item) for item in value]
    return value


def _line(error: BaseException) -> str:
    return legible((str(error).strip().splitlines() or [type(error).__name__])[0])
