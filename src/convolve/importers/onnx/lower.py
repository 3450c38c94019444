"""OnnxModel -> Graph: the one place where ONNX's meaning of a model is turned into the neutral one.

Only what the wanted outputs need is lowered. A batch that the file fixes to one sample becomes free.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from convolve.errors import FormatError, UnsupportedError, UsageError, legible, look_up
from convolve.graph.draft import Draft
from convolve.graph.graph import Graph
from convolve.graph.shapes import GraphError, Shape, require
from convolve.importers.onnx.call import BATCH, Call, Parameters, Tensor, Value
from convolve.importers.onnx.fold import FOLDS, fold
from convolve.importers.onnx.layers import LAYER_RULES
from convolve.importers.onnx.model import DOMAINS, LABELS_DOMAIN, MOST_BYTES, Constant, OnnxModel, OnnxNode, Port
from convolve.importers.onnx.plain import PLAIN_RULES, WHOLE_TYPES, Rule
from convolve.importers.onnx.shaping import SHAPE_RULES
from convolve.importers.onnx.windows import WINDOW_RULES

RULES: dict[str, Rule] = {**PLAIN_RULES, **SHAPE_RULES, **WINDOW_RULES, **LAYER_RULES}


def lower(model: OnnxModel, outputs: Sequence[str] | None = None, image_shape_CHW: Shape | None = None) -> Graph:
    """The graph that computes `outputs`, names of values or nodes; without them, the model's own outputs.

    `image_shape_CHW`: the images' shape where the file leaves their size open. Raises UsageError for an unknown output,
    UnsupportedError for all operators out of scope at once, FormatError for nodes that do not fit together.
    """
    made = {name: node for node in model.nodes for name in node.outputs if name}
    wanted = _score_outputs(model, made) if outputs is None else [_find(model, name) for name in outputs]
    nodes = _needed(model, made, wanted)
    _require_known(model, nodes)
    lowering = _Lowering(model, image_shape_CHW)
    for node in nodes:
        lowering.node(node)
    keys = [key for name in wanted if (key := lowering.output(name))]
    if not keys:
        raise UnsupportedError(f"{model.path}: its outputs do not depend on its input")
    return lowering.draft.finish(keys, f"ONNX{f' of {legible(model.producer)}' if model.producer else ''}")


def _score_outputs(model: OnnxModel, made: Mapping[str, OnnxNode]) -> list[str]:
    """The model's own outputs, without what classifiers of Windows ML put beside the scores (the name of the likeliest
    class) or behind them (ZipMap, which pairs scores with names)."""
    names = []
    for port in model.outputs:
        node = made.get(port.name)
        if node is not None and node.op == "ZipMap" and node.inputs:
            names.append(node.inputs[0])
        elif port.type != "string" and (node is None or node.domain != LABELS_DOMAIN):
            names.append(port.name)
    floats = [port.name for port in model.outputs if port.type in ("float", "float16", "double") and port.name in names]
    labels = {port.name for port in model.outputs if port.type in ("int64", "int32")} if floats else set()
    return [name for name in names if name not in labels]


def _find(model: OnnxModel, name: str) -> str:
    known = {name: name for node in model.nodes for name in node.outputs}
    known |= {node.name: node.outputs[0] for node in model.nodes if node.name and node.outputs}
    return look_up(known, name, "node", str(model.path))


def _needed(model: OnnxModel, made: dict[str, OnnxNode], wanted: Sequence[str]) -> list[OnnxNode]:
    """The nodes that the wanted values come from, operands first."""
    found: dict[int, OnnxNode] = {}
    names = {port.name for port in model.inputs} | {*model.constants, ""}
    opened: set[int] = set()
    stack = [*reversed(wanted)]
    while stack:
        name = stack[-1]
        if name in names:
            stack.pop()
            continue
        if name not in made:
            raise FormatError(model.path, "", f"no node computes the value {legible(name)}")
        node = made[name]
        missing = [operand for operand in node.inputs if operand not in names]
        if missing and id(node) in opened:
            raise FormatError(model.path, "", f"node {node}: it depends on its own result")
        opened.add(id(node))
        stack += reversed(missing)
        if not missing:
            found[id(node)] = node
            names |= {*node.outputs}
    return [*found.values()]


def _require_known(model: OnnxModel, nodes: Sequence[OnnxNode]) -> None:
    """Raise UnsupportedError that names every operator without a rule, and the first nodes that use it."""
    unknown: dict[str, list[OnnxNode]] = {}
    for node in nodes:
        if node.domain not in DOMAINS or node.op not in RULES.keys() | FOLDS.keys():
            unknown.setdefault(str(node).split()[0], []).append(node)
    if unknown:
        names = "; ".join(f"{op} ({_places(found)})" for op, found in unknown.items())
        raise UnsupportedError(
            f"{model.path}: convolve does not have these operators: {names}; choose an --output that does not need them"
        )


def _places(nodes: Sequence[OnnxNode]) -> str:
    names = [str(node).partition(" ")[2] for node in nodes[:3]]
    return ", ".join(names) + (f" and {len(nodes) - 3} more" if len(nodes) > 3 else "")


def image_sizes(path: Path, port: Port, image_shape_CHW: Shape | None) -> Shape:
    """The shape of one sample; `image_shape_CHW` has the sizes that the file leaves open."""
    if not port.sizes:
        raise UnsupportedError(f"{path}: input {legible(port.name)} has no shape; export the model with one")
    given = port.sizes[1:]
    if None in given and image_shape_CHW and len(given) == 3:
        channels, height, width = image_shape_CHW
        asked = (channels, height, width) if given[0] in (channels, None) else (height, width, channels)
        given = tuple(size or wanted for size, wanted in zip(given, asked, strict=True))
    if None in given:
        raise UsageError(
            f"{path}: the file leaves the size of its images open; give it with --image-shape, for example 3x224x224"
        )
    return tuple(size for size in given if size)


def is_nhwc(sizes: Shape) -> bool:
    """Whether images of this shape are stored as (H, W, C): 1 or 3 channels last, after sides of more than 3 pixels."""
    return len(sizes) == 3 and sizes[-1] in (1, 3) and min(sizes[:2]) > 3


# What a rule raises where a file has attributes or shapes that are impossible for the operator.
_MISFITS = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, StopIteration)


class _Lowering:
    def __init__(self, model: OnnxModel, image_shape_CHW: Shape | None) -> None:
        self.model = model
        self.draft = Draft()
        self.bytes_left = MOST_BYTES // 2  # for folded constants
        self.parameters = Parameters(self.draft)
        self.values: dict[str, Value] = dict(model.constants)
        self.samples: int | None = None
        self.whole = {port.name for port in model.inputs if port.type.lstrip("u").startswith("int")}
        for port in model.inputs:
            self.values[port.name] = self.input(port, image_shape_CHW)

    def input(self, port: Port, image_shape_CHW: Shape | None) -> Value:
        """The draft's input is (N, C, H, W); where the file's is (N, H, W, C), a transpose follows it."""
        self.samples = port.sizes[0] if port.sizes else None
        sizes = image_sizes(self.model.path, port, image_shape_CHW)
        shape = (sizes[2], sizes[0], sizes[1]) if is_nhwc(sizes) else sizes
        try:
            key = self.draft.input(shape, port.name)
            self.draft.call(key, port.name)
            return Tensor(self.draft.add("transpose", (key,), order=(1, 2, 0)) if is_nhwc(sizes) else key)
        except GraphError as error:
            raise FormatError(self.model.path, "", f"input {legible(port.name)}: {error}") from None

    def node(self, node: OnnxNode) -> None:
        if missing := [name for name in node.inputs if name and name not in self.values]:
            what = f"it reads {legible(missing[0])}, an output that convolve does not compute"
            raise UnsupportedError(f"{self.model.path}: node {node} is not supported: {what}")
        operands = tuple(self.values[name] if name else None for name in node.inputs)
        try:
            results = self.results(node, operands)
        except GraphError as error:
            raise FormatError(self.model.path, "", f"node {node} is invalid: {error}") from None
        except UnsupportedError as error:
            raise UnsupportedError(f"{self.model.path}: node {node} is not supported: {error}") from None
        except _MISFITS as error:
            what = f"its attributes or operands do not fit ({type(error).__name__})"
            raise FormatError(self.model.path, "", f"node {node} is invalid: {what}") from None
        for name, value in zip(node.outputs, results, strict=False):
            self.values[name] = value
            if self.is_whole(node, name):
                self.whole.add(name)
            if isinstance(value, Tensor):
                self.draft.call(value.key, self.name(node), name)

    def results(self, node: OnnxNode, operands: Sequence[Value | None]) -> Sequence[Value]:
        constants = [operand for operand in operands if not isinstance(operand, Tensor)]
        is_constant = len(constants) == len(operands)
        if node.op in FOLDS and is_constant and not _counts_samples(node, constants):
            made = fold(node, constants, self.model.opsets)
            self.bytes_left -= sum(constant.array.nbytes for constant in made)
            require(self.bytes_left >= 0, "its constants are larger than any network's")
            return made
        if node.op not in RULES:
            raise UnsupportedError("convolve has this operator for constants only")
        call = self.call(node.op, operands, node.attributes, len(node.outputs))
        result = RULES[node.op](replace(call, whole=bool(node.inputs) and self.has_whole(node.inputs[0])))
        return result if isinstance(result, tuple) else (result,)

    def has_whole(self, name: str) -> bool:
        value = self.values.get(name)
        return value.array.dtype.kind in "iu" if isinstance(value, Constant) else name in self.whole

    def is_whole(self, node: OnnxNode, name: str) -> bool:
        """Whether this result of a node has an integer type in the file; by default, if the first operand has one."""
        if node.op == "Cast":
            return node.attributes.get("to") in WHOLE_TYPES
        if node.op in ("ArgMax", "ArgMin") or (node.op == "TopK" and name == node.outputs[-1]):
            return True
        place = {"Where": 1, "OneHot": 2}.get(node.op, 0)
        return len(node.inputs) > place and self.has_whole(node.inputs[place])

    def call(self, op: str, operands: Sequence[Value | None], attributes: Mapping[str, Any], outputs: int) -> Call:
        return Call(
            self.draft, self.parameters, op, tuple(operands), attributes, opset=self.model.opset, outputs=outputs,
            samples=self.samples,
        )  # fmt: skip

    def name(self, node: OnnxNode) -> str:
        """The layer's name: of its output, where the model has several; else of its weight; else of the node."""
        heads = {port.name for port in self.model.outputs} if len(self.model.outputs) > 1 else set()
        if head := next((name for name in node.outputs if name in heads), ""):
            return head
        weight = next((name for name in node.inputs if name.endswith(".weight") and name in self.model.constants), "")
        return weight.removesuffix(".weight") or node.name.strip("/")

    def output(self, name: str) -> str:
        """The key of an output; empty for a constant."""
        value = self.values.get(name)
        if isinstance(value, Constant):
            return ""
        call = self.call("", (value,), {}, 1)
        tensor = call.tensor()
        if tensor.axis is None and call.batched(tensor) and call.dims(tensor)[:1] != (1,):
            return tensor.key  # a file for one sample, without a batch axis here
        try:
            return call.image().key
        except UnsupportedError as error:
            raise UnsupportedError(f"{self.model.path}: output {legible(name)} is not supported: {error}") from None


def _counts_samples(node: OnnxNode, operands: Sequence[Constant | None]) -> bool:
    """Whether the size of the node's constant result counts samples."""
    shape = operands[-1] if node.op in ("ConstantOfShape", "Expand", "Tile") and operands else None
    if shape is None or shape.array.dtype.kind not in "iu":
        return False
    sizes: Iterator[int] = map(int, np.asarray(shape.array).reshape(-1))
    return any(size and size % BATCH == 0 for size in sizes)
