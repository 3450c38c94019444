"""Constant folding: what follows from the file's constants alone, above all arithmetic with shapes, is computed when
the file is read.

The operators are those of ONNX's own reference implementation; the size of their results is bounded first.
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from convolve.graph.shapes import GraphError, require
from convolve.importers.onnx.model import Constant, OnnxNode

_MOST_NUMBERS = 2**24  # to which a few numbers may grow: a mask for 4,096 patches
Sizes = Callable[[OnnxNode, Sequence[np.ndarray]], int]


def _together(node: OnnxNode, arrays: Sequence[np.ndarray]) -> int:
    """A bound for operators whose result has no more numbers than their operands together."""
    return sum(array.size for array in arrays)


def _broadcast(node: OnnxNode, arrays: Sequence[np.ndarray]) -> int:
    return prod(np.broadcast_shapes(*(array.shape for array in arrays)))


def _expanded(node: OnnxNode, arrays: Sequence[np.ndarray]) -> int:
    return prod(np.broadcast_shapes(arrays[0].shape, tuple(map(int, arrays[1].reshape(-1)))))


def _counted(node: OnnxNode, arrays: Sequence[np.ndarray]) -> int:
    start, limit, step = (float(array.reshape(-1)[0]) for array in arrays)
    return int(abs((limit - start) / step)) + 1


def _gathered(node: OnnxNode, arrays: Sequence[np.ndarray]) -> int:
    data, indices = arrays[:2]
    along: int = data.shape[int(node.attributes.get("axis", 0))]
    return int(indices.size * data.size) // max(1, along)


def _padded(node: OnnxNode, arrays: Sequence[np.ndarray]) -> int:
    pads = [int(number) for number in (arrays[1].reshape(-1) if len(arrays) > 1 else node.attributes["pads"])]
    rank = len(pads) // 2
    ends = zip(arrays[0].shape[-rank:], pads[:rank], pads[rank:], strict=True)
    return prod((*arrays[0].shape[:-rank], *(size + abs(low) + abs(high) for size, low, high in ends)))


_ELEMENTWISE = (
    "Abs Add And Cast CastLike Ceil Clip Div Equal Erf Exp Floor Greater GreaterOrEqual Less "
    "LessOrEqual Log Max Min Mod Mul Neg Not Or Pow Reciprocal Relu Round Sigmoid Sign Sqrt Sub Tanh Where Xor Cos Sin"
)
_REARRANGING = (
    "Concat Flatten Identity Reshape Slice Split Squeeze Transpose Unsqueeze Size Trilu NonZero ReduceMax ReduceMean "
    "ReduceMin ReduceProd ReduceSum ReduceSumSquare ReduceL2 CumSum ArgMax"
)
FOLDS: Mapping[str, Sizes] = {
    **dict.fromkeys(_ELEMENTWISE.split(), _broadcast),
    **dict.fromkeys(_REARRANGING.split(), _together),
    "ConstantOfShape": lambda node, arrays: prod(map(int, arrays[0].reshape(-1))),
    "BatchNormalization": _together,
    "DequantizeLinear": lambda node, arrays: int(arrays[0].size),
    "Expand": _expanded,
    "Tile": lambda node, arrays: int(arrays[0].size) * prod(map(int, arrays[1].reshape(-1))),
    "Range": _counted,
    "Gather": _gathered,
    "Pad": _padded,
    "MatMul": lambda node, arrays: prod(arrays[0].shape[:-1]) * prod(arrays[1].shape[1:]),
}
# Operators that keep the numbers of a weight as they are, so that it stays trainable.
_KEEPING = {"Identity", "Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten"}


def fold(node: OnnxNode, operands: Sequence[Constant | None], opsets: Mapping[str, int]) -> list[Constant]:
    """The results of a node whose operands are constants. Raises GraphError if they are too large or do not fit."""
    arrays = [operand.array for operand in operands if operand is not None]
    try:
        size = FOLDS[node.op](node, arrays)
    except (ValueError, IndexError, ZeroDivisionError, KeyError, TypeError, OverflowError) as error:
        raise GraphError(f"its operands do not fit together ({error})") from None
    most = max(_MOST_NUMBERS, _together(node, arrays))
    require(size <= most, f"its result has {size} numbers; the limit is {most}")
    if node.op in ("Identity", "Cast") and arrays[0].dtype.kind == "f" and node.attributes.get("to", 1) in (1, 10, 11):
        return [operands[0]] if operands[0] else []
    if node.op == "BatchNormalization":
        return [Constant(_standardized(node, arrays), operands[0].name if operands[0] else "", learned=True)]
    if node.op == "DequantizeLinear":  # whose old forms the reference implementation does not have
        return [Constant(_multiplied_out(node, arrays), *_same_weight(operands))]
    results = _evaluate(node, [None if operand is None else operand.array for operand in operands], opsets)
    kept = _same_weight(operands) if node.op in _KEEPING else ("", False)
    return [Constant(np.asarray(array), *kept) for array in results]


def _same_weight(operands: Sequence[Constant | None]) -> tuple[str, bool]:
    """(name, whether it is learned) of the first operand."""
    first = operands[0] if operands else None
    return (first.name, True) if first is not None and first.learned else ("", False)


def _standardized(node: OnnxNode, arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Weight standardization at each run: a batch normalization in training mode, of a constant."""
    x, scale, bias = arrays[:3]
    require(bool(node.attributes.get("training_mode", 0)) and x.ndim >= 2, "it normalizes constants in an unknown way")
    axes, shape = (0, *range(2, x.ndim)), (1, -1, *(1,) * (x.ndim - 2))
    variance, mean = x.var(axes, keepdims=True), x.mean(axes, keepdims=True)
    standard = (x - mean) / np.sqrt(variance + float(node.attributes.get("epsilon", 1e-5)))
    result: np.ndarray = standard * scale.reshape(shape) + bias.reshape(shape)
    return result


def _multiplied_out(node: OnnxNode, arrays: Sequence[np.ndarray]) -> np.ndarray:
    """(x - zero point) * scale; both are one number, or one for each index of an axis."""
    x, scale, *zero = arrays
    require(not node.attributes.get("block_size", 0) and scale.ndim <= 1, "the weights are quantized in blocks")
    shape = [1] * x.ndim
    if scale.size > 1:
        axis = int(node.attributes.get("axis", 1))
        require(-x.ndim <= axis < x.ndim and scale.size == x.shape[axis], f"{scale.size} scales for axis {axis}")
        shape[axis] = scale.size
    centered = x.astype(np.float32) - (zero[0].astype(np.float32).reshape(shape) if zero else 0)
    product: np.ndarray = centered * scale.astype(np.float32).reshape(shape)
    return product


def _evaluate(node: OnnxNode, arrays: Sequence[np.ndarray | None], opsets: Mapping[str, int]) -> list[Any]:
    from onnx import GraphProto, ValueInfoProto
    from onnx.reference import ReferenceEvaluator

    feeds = {name: array for name, array in zip(node.inputs, arrays, strict=True) if array is not None}
    graph = GraphProto(
        name="fold", node=[node.proto], input=[ValueInfoProto(name=name) for name in feeds],
        output=[ValueInfoProto(name=name) for name in node.outputs if name],
    )  # fmt: skip
    try:
        with np.errstate(all="ignore"):
            results: Any = ReferenceEvaluator(graph, opsets=dict(opsets)).run(None, feeds)
    except Exception as error:  # it has many error classes
        raise GraphError(f"its operands do not fit together ({str(error).splitlines()[:1]})") from None
    return list(results)
