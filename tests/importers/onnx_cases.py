"""Small ONNX files by operator: what the tests of the importer compare, and what tests/faults damages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper

rng = np.random.default_rng(5)


def weights(*shape: int) -> np.ndarray:
    return (rng.normal(size=shape) / 2).astype(np.float32)


def whole(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


# (operator, input shape of one sample, constants, attributes, opsets)
Case = tuple[str, tuple[int, ...], dict[str, Any], dict[str, Any], tuple[int, ...]]
IMAGE, MAP, ROW = (3, 7, 8), (4, 6, 6), (5,)
ANY, AXES = (9, 18), (9, 13, 18)

UNARY = [
    "Abs", "Neg", "Exp", "Floor", "Ceil", "Relu", "Sigmoid", "Tanh", "Sin", "Cos", "Tan", "Sinh", "Erf", "Sign", "Atan",
    "Asinh", "Identity", "Softplus", "Softsign", "Selu", "Elu", "LeakyRelu", "HardSigmoid", "ThresholdedRelu",
    "Reciprocal",
]  # fmt: skip
REDUCTIONS = [
    "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare",
    "ReduceLogSumExp",
]  # fmt: skip

ELEMENTWISE: list[Case] = [
    *((op, IMAGE, {}, {}, ANY) for op in
      UNARY),
    ("Round", IMAGE, {}, {}, (11, 18)),
    ("Cosh", IMAGE, {}, {}, (9,)),
    ("Celu", IMAGE, {}, {"alpha": 1.5}, (15,)),
    ("HardSwish", IMAGE, {}, {}, (15,)),
    ("Mish", IMAGE, {}, {}, (18,)),
    ("Gelu", IMAGE, {}, {}, (20,)),
    ("Gelu", IMAGE, {}, {"approximate": "tanh"}, (20,)),
    ("HardSigmoid", IMAGE, {}, {"alpha": 0.3, "beta": 0.4}, (9,)),
    ("Elu", IMAGE, {}, {"alpha": 0.7}, (9,)),
    ("Selu", IMAGE, {}, {"alpha": 1.2, "gamma": 0.9}, (9,)),
    ("LeakyRelu", IMAGE, {}, {"alpha": 0.2}, (9,)),
    ("Clip", IMAGE, {}, {"min": -0.5, "max": 1.0}, (7, 9)),
    ("Clip", IMAGE, {"low": np.float32(0), "high": np.float32(6)}, {}, (11, 18)),
    ("PRelu", IMAGE, {"s": weights(3, 1, 1)}, {}, ANY),
    ("PRelu", IMAGE, {"s": weights(1)}, {}, ANY),
    ("PRelu", IMAGE, {"s": weights(3, 7, 8)}, {}, ANY),
    ("PRelu", ROW, {"s": weights(5)}, {}, ANY),
    *((op, IMAGE, {"b": weights(*shape)}, {}, ANY) for op in ("Add", "Sub", "Mul", "Div", "Max", "Min")
      for shape in ((3, 1, 1), (8,), (1, 3, 1, 1), ())),
    ("Pow", IMAGE, {"b": np.float32(2)}, {}, ANY),
    ("Dropout", IMAGE, {}, {}, ANY),
    ("Cast", IMAGE, {}, {"to": TensorProto.FLOAT}, ANY),
    ("ImageScaler", IMAGE, {}, {"scale": 0.5, "bias": [1.0, 2.0, 3.0]}, (9,)),
]  # fmt: skip

ALONG: list[Case] = [
    *((op, IMAGE, {}, attributes, AXES) for op in ("Softmax", "LogSoftmax", "Hardmax")
      for attributes in ({}, {"axis": 1}, {"axis": 2}, {"axis": -1})),
    *((op, IMAGE, {}, {"axes": [1, -1], "keepdims": keep}, (9, 11)) for keep in (0, 1) for op in
      REDUCTIONS),
    *((op, IMAGE, {"axes": whole(2, 3)}, {"keepdims": keep}, (18,)) for keep in (0, 1) for op in
      REDUCTIONS),
    *((op, IMAGE, {}, {"axis": 1, "keepdims": keep}, ANY) for op in ("ArgMax", "ArgMin") for keep in (0, 1)),
    ("MeanVarianceNormalization", IMAGE, {}, {"axes": [2, 3]}, ANY),
    ("LpNormalization", IMAGE, {}, {"axis": 1, "p": 2}, (9,)),
    ("LpNormalization", IMAGE, {}, {"axis": 1, "p": 1}, (9,)),
]  # fmt: skip

WINDOWS: list[Case] = [
    *(("Conv", IMAGE, {"w": weights(4, 3, 3, 3), "b": weights(4)}, attributes, ANY) for attributes in (
        {}, {"pads": [1, 1, 1, 1]}, {"strides": [2, 2], "pads": [0, 1, 2, 1]}, {"dilations": [2, 2]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
        {"auto_pad": "VALID"})),
    ("Conv", MAP, {"w": weights(6, 2, 3, 1)}, {"group": 2}, ANY),
    ("Conv", (3, 9), {"w": weights(4, 3, 3)}, {}, ANY),
    ("Conv", (2, 5, 6, 4), {"w": weights(3, 2, 2, 3, 2)}, {}, ANY),
    *(("ConvTranspose", MAP, {"w": weights(4, 3, 3, 3), "b": weights(3)}, attributes, ANY) for attributes in (
        {}, {"strides": [2, 2]}, {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
        {"strides": [3, 2], "pads": [1, 0, 0, 1]}, {"dilations": [2, 1]}, {"strides": [2, 2], "output_shape": [14, 12]},
        {"strides": [2, 2], "auto_pad": "SAME_UPPER"}, {"strides": [2, 2], "auto_pad": "SAME_LOWER"})),
    ("ConvTranspose", MAP, {"w": weights(4, 2, 3, 3)}, {"group": 2}, ANY),
    *((op, IMAGE, {}, {"kernel_shape": [3, 3], **attributes}, (11, 22))
      for op in ("MaxPool", "AveragePool") for attributes in (
        {}, {"strides": [2, 2]}, {"strides": [2, 2], "pads": [1, 1, 1, 1]}, {"strides": [2, 2], "ceil_mode": 1},
        {"strides": [2, 2], "ceil_mode": 1, "pads": [1, 1, 1, 1]},
        {"strides": [3, 3], "ceil_mode": 1, "pads": [0, 0, 2, 2]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, {"auto_pad": "SAME_LOWER", "strides": [2, 2]})),
    *(("AveragePool", IMAGE, {}, {"kernel_shape": [3, 3], "count_include_pad": 1, **more}, (11, 22)) for more in (
        {"pads": [1, 1, 1, 1]}, {"pads": [1, 1, 1, 1], "strides": [2, 2]},
        {"pads": [1, 1, 1, 1], "strides": [2, 2], "ceil_mode": 1})),
    ("MaxPool", IMAGE, {}, {"kernel_shape": [2, 3], "dilations": [2, 2], "pads": [1, 1, 0, 1]}, (11,)),
    ("AveragePool", IMAGE, {}, {"kernel_shape": [2, 3], "dilations": [2, 2], "pads": [1, 1, 0, 1]}, (22,)),
    ("AveragePool", IMAGE, {},
     {"kernel_shape": [2, 3], "dilations": [2, 2], "pads": [1, 1, 0, 1], "count_include_pad": 1}, (22,)),
    *(("AveragePool", IMAGE, {}, {"kernel_shape": [2, 3], "dilations": [2, 2], "strides": [2, 2], "pads": [1, 1, 0, 1],
                                  "ceil_mode": ceil, "count_include_pad": counts}, (22,))
      for ceil in (0, 1) for counts in (0, 1)),
    *(("MaxPool", IMAGE, {}, {"kernel_shape": [2, 3], "dilations": [2, 2], "strides": [3, 3], "ceil_mode": ceil}, (11,))
      for ceil in (0, 1)),
    ("ReduceSum", IMAGE, {}, {"noop_with_empty_axes": 1}, (13,)),
    ("MaxPool", (3, 9), {}, {"kernel_shape": [3], "strides": [2]}, (11,)),
    ("LpPool", IMAGE, {}, {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}, ANY),
    ("GlobalAveragePool", IMAGE, {}, {}, ANY),
    ("GlobalMaxPool", IMAGE, {}, {}, ANY),
    ("GlobalLpPool", IMAGE, {}, {"p": 3}, ANY),
]  # fmt: skip

PRODUCTS: list[Case] = [
    ("Gemm", ROW, {"w": weights(5, 4), "b": weights(4)}, {}, ANY),
    ("Gemm", ROW, {"w": weights(4, 5), "b": weights(1, 4)}, {"transB": 1, "alpha": 0.5, "beta": 2.0}, ANY),
    ("Gemm", ROW, {"w": weights(4, 5)}, {"transB": 1}, (13,)),
    ("MatMul", ROW, {"w": weights(5, 4)}, {}, ANY),
    ("MatMul", (6, 5), {"w": weights(5, 4)}, {}, ANY),
    ("MatMul", (3, 6, 5), {"w": weights(3, 5, 4)}, {}, ANY),
    ("MatMul", (6, 5), {"w": weights(5)}, {}, ANY),
]

NORMALIZATIONS: list[Case] = [
    ("BatchNormalization", IMAGE, {"s": weights(3), "b": weights(3), "m": weights(3), "v": weights(3) ** 2 + 0.1},
     {"epsilon": 1e-3}, (9, 15)),
    ("BatchNormalization", ROW, {"s": weights(5), "b": weights(5), "m": weights(5), "v": weights(5) ** 2 + 0.1}, {},
     ANY),
    ("InstanceNormalization", IMAGE, {"s": weights(3), "b": weights(3)}, {"epsilon": 1e-3}, ANY),
    ("LayerNormalization", (6, 5), {"s": weights(5), "b": weights(5)}, {}, (18,)),
    ("LayerNormalization", (6, 5), {"s": weights(6, 5)}, {"axis": 1, "epsilon": 1e-3}, (18,)),
    ("GroupNormalization", MAP, {"s": weights(4), "b": weights(4)}, {"num_groups": 2}, (21,)),
    ("LRN", (7, 4, 4), {}, {"size": 3, "alpha": 0.1, "beta": 0.6, "bias": 1.5}, ANY),
]  # fmt: skip

SHAPES: list[Case] = [
    ("Reshape", IMAGE, {"to": whole(0, -1)}, {}, ANY),
    ("Reshape", IMAGE, {"to": whole(-1, 21, 8)}, {}, ANY),
    ("Reshape", IMAGE, {"to": whole(0, 3, 2, -1)}, {}, ANY),
    ("Flatten", IMAGE, {}, {}, ANY),
    ("Squeeze", (3, 1, 1), {}, {"axes": [2, 3]}, (9,)),
    ("Squeeze", (3, 1, 1), {"axes": whole(2, -1)}, {}, (13, 18)),
    ("Unsqueeze", ROW, {}, {"axes": [2, 3]}, (9,)),
    ("Unsqueeze", ROW, {"axes": whole(1, -1)}, {}, (13, 18)),
    ("Transpose", IMAGE, {}, {"perm": [0, 2, 3, 1]}, ANY),
    ("Expand", (3, 1, 1), {"to": whole(1, 3, 4, 5)}, {}, ANY),
    ("Tile", (3, 2, 1), {"by": whole(1, 1, 2, 3)}, {}, ANY),
    ("Concat", (3, 4), {"c": weights(2, 5, 4)}, {"axis": 1}, ()),
    ("Slice", IMAGE, {}, {"starts": [1, -3], "ends": [3, 100], "axes": [1, 3]}, (9,)),
    ("Slice", IMAGE, {"s": whole(1, -1), "e": whole(3, -100), "a": whole(1, 3), "t": whole(1, -2)}, {}, (11, 18)),
    ("Gather", IMAGE, {"i": whole(2, 0, 2)}, {"axis": 1}, ANY),
    ("Gather", IMAGE, {"i": np.int64(-1)}, {"axis": 2}, ANY),
    ("Gather", IMAGE, {"i": np.array([[0, 1], [2, 3]])}, {"axis": 3}, ANY),
    ("Pad", IMAGE, {}, {"pads": [0, 0, 1, 2, 0, 0, 3, 0], "value": 0.5}, (9,)),
    ("Pad", IMAGE, {"p": whole(0, 0, 1, 2, 0, 0, 3, -1), "v": np.float32(0.5)}, {}, (11, 18)),
    *(("Pad", IMAGE, {"p": whole(0, 0, 1, 2, 0, 0, 3, 0)}, {"mode": mode}, (11, 18)) for mode in ("reflect", "edge")),
    ("DepthToSpace", (8, 3, 2), {}, {"blocksize": 2}, ANY),
    ("DepthToSpace", (8, 3, 2), {}, {"blocksize": 2, "mode": "CRD"}, (11, 18)),
    ("SpaceToDepth", (2, 6, 4), {}, {"blocksize": 2}, ANY),
]  # fmt: skip

CASES = [*ELEMENTWISE, *ALONG, *WINDOWS, *PRODUCTS, *NORMALIZATIONS, *SHAPES]


# -- operators of several operands or results -------------------------------------------------------------------------

node = helper.make_node

# (nodes, inputs, constants, outputs, opset)
Graphs = dict[str, tuple[list[Any], Mapping[str, tuple[int, ...]], Mapping[str, Any], Sequence[str], int]]
X = {"x": (4, 5, 6)}
TWO = {"a": (3, 4, 5), "b": (3, 4, 5)}

GRAPHS: Graphs = {
    "split by attribute": ([node("Split", ["x"], ["a", "b"], axis=1, split=[1, 3])], X, {}, ("a", "b"), 11),
    "split in halves": ([node("Split", ["x"], ["a", "b"], axis=1)], X, {}, ("a", "b"), 13),
    "split by operand": ([node("Split", ["x", "s"], ["a", "b"], axis=-1)], X, {"s": whole(2, 4)}, ("a", "b"), 18),
    "split unevenly": ([node("Split", ["x"], ["a", "b"], axis=2, num_outputs=2)], X, {}, ("a", "b"), 18),
    "concat": ([node("Concat", ["a", "b", "a"], ["y"], axis=1)], TWO, {}, ("y",), 18),
    "add and multiply": ([node("Add", ["a", "b"], ["c"]), node("Mul", ["c", "a"], ["y"])], TWO, {}, ("y",), 18),
    "sum, mean, max, min": (
        [node(op, ["a", "b", "a"], [op]) for op in ("Sum", "Mean", "Max", "Min")], TWO, {},
        ("Sum", "Mean", "Max", "Min"), 13,
    ),
    "where": ([node("Greater", ["a", "b"], ["c"]), node("Where", ["c", "a", "b"], ["y"])], TWO, {}, ("y",), 18),
    "comparisons": (
        [node("Less", ["a", "b"], ["l"]), node("GreaterOrEqual", ["a", "z"], ["g"]), node("And", ["l", "g"], ["n"]),
         node("Or", ["n", "l"], ["o"]), node("Not", ["o"], ["q"]), node("Cast", ["q"], ["y"], to=1)],
        TWO, {"z": np.float32(0)}, ("y",), 18,
    ),
    "matmul of two": ([node("Transpose", ["b"], ["t"], perm=[0, 1, 3, 2]), node("MatMul", ["a", "t"], ["y"])],
                      TWO, {}, ("y",), 13),
    "constant by image": ([node("MatMul", ["w", "x"], ["y"])], X, {"w": weights(3, 5)}, ("y",), 13),
    "gemm of two": ([node("Flatten", ["a"], ["f"]), node("Flatten", ["b"], ["g"]), node("Add", ["f", "g"], ["s"]),
                     node("Gemm", ["s", "w", "c"], ["y"])], TWO, {"w": weights(60, 4), "c": weights(4)}, ("y",), 11),
    "top 3": ([node("TopK", ["x", "k"], ["v", "i"], axis=-1), node("Cast", ["i"], ["j"], to=1)],
              X, {"k": whole(3)}, ("v", "j"), 11),
    "einsum": ([node("Einsum", ["a", "b"], ["y"], equation="nchw,nchv->nwv")], TWO, {}, ("y",), 13),
    "einsum by a constant": ([node("Einsum", ["x", "w"], ["y"], equation="nchw,hkw->nchk")],
                             X, {"w": weights(5, 7, 6)}, ("y",), 13),
    "layer norm, spelled out": (
        [node("ReduceMean", ["x"], ["m"], axes=[-1]), node("Sub", ["x", "m"], ["d"]), node("Pow", ["d", "two"], ["q"]),
         node("ReduceMean", ["q"], ["v"], axes=[-1]), node("Add", ["v", "e"], ["s"]), node("Sqrt", ["s"], ["r"]),
         node("Div", ["d", "r"], ["n"]), node("Mul", ["n", "w"], ["p"]), node("Add", ["p", "b"], ["y"])],
        X, {"two": np.float32(2), "e": np.float32(1e-5), "w": weights(6), "b": weights(6)}, ("y",), 13,
    ),
    "shape arithmetic": (
        [node("Shape", ["x"], ["s"]), node("Gather", ["s", "zero"], ["n"]), node("Unsqueeze", ["n", "axis"], ["u"]),
         node("Concat", ["u", "rest"], ["to"], axis=0), node("Reshape", ["x", "to"], ["y"])],
        X, {"zero": np.int64(0), "axis": whole(0), "rest": whole(20, -1)}, ("y",), 13,
    ),
    "a token for each sample": (
        [node("Reshape", ["x", "to"], ["r"]), node("Shape", ["r"], ["s"]), node("Slice", ["s", "b", "e"], ["n"]),
         node("Concat", ["n", "one", "d"], ["shape"], axis=0), node("Expand", ["token", "shape"], ["t"]),
         node("Concat", ["t", "r"], ["c"], axis=1), node("Gather", ["c", "first"], ["y"], axis=1)],
        X, {"to": whole(0, 20, 6), "b": whole(0), "e": whole(1), "one": whole(1), "d": whole(6),
            "token": weights(1, 1, 6), "first": np.int64(0)}, ("y",), 13,
    ),
    "weights as small integers": (
        [node("DequantizeLinear", ["q", "s", "z"], ["w"]), node("Flatten", ["x"], ["f"]),
         node("MatMul", ["f", "w"], ["y"])],
        X, {"q": rng.integers(-9, 9, (120, 4)).astype(np.int8), "s": np.float32(0.1), "z": np.int8(1)}, ("y",), 13,
    ),
    "weights as small integers, a scale for each filter": (
        [node("DequantizeLinear", ["q", "s", "z"], ["w"], axis=0), node("Conv", ["x", "w"], ["y"])],
        X, {"q": rng.integers(-9, 9, (2, 4, 3, 3)).astype(np.int8), "s": np.array([0.1, 0.3], np.float32),
            "z": np.array([1, -2], np.int8)}, ("y",), 13,
    ),
    "a division of whole numbers": (
        [node("Mul", ["x", "ten"], ["t"]), node("Cast", ["t"], ["i"], to=7), node("Div", ["i", "three"], ["d"]),
         node("Cast", ["d"], ["y"], to=1)],
        X, {"ten": np.float32(10), "three": np.int64(3)}, ("y",), 13,
    ),
    "a division of computed whole numbers": (
        [node("ArgMax", ["x"], ["p"], axis=2), node("ArgMin", ["x"], ["q"], axis=2), node("Add", ["q", "one"], ["r"]),
         node("Div", ["p", "r"], ["w"]), node("Cast", ["w"], ["y"], to=1), node("Cast", ["p"], ["f"], to=1),
         node("Cast", ["r"], ["g"], to=1), node("Div", ["f", "g"], ["z"])],
        X, {"one": np.int64(1)}, ("y", "z"), 13,
    ),
}  # fmt: skip
