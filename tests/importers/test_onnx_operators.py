"""Every operator of ONNX that is read, in the opsets in which it changed, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_files import off, onnx_bytes

rng = np.random.default_rng(5)


def weights(*shape: int) -> np.ndarray:
    return (rng.normal(size=shape) / 2).astype(np.float32)


def whole(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


# (operator, input shape of one sample, constants, attributes, opsets)
Case = tuple[str, tuple[int, ...], dict[str, np.ndarray], dict[str, Any], tuple[int, ...]]
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


@pytest.mark.parametrize(
    ("case", "opset"),
    [
        pytest.param(case, opset, id=f"{case[0]}-{number}-opset{opset}")
        for number, case in enumerate([*ELEMENTWISE, *ALONG, *WINDOWS, *PRODUCTS, *NORMALIZATIONS, *SHAPES])
        for opset in case[4]
    ],
)
def test_one_operator(case: Case, opset: int) -> None:
    op, shape, constants, attributes, _ = case
    node = helper.make_node(op, ["x", *constants], ["y"], **attributes)
    out = TensorProto.INT64 if op.startswith("Arg") else TensorProto.FLOAT
    content = onnx_bytes([node], {"x": ("N", *shape)}, constants, opset=opset, out=out)
    assert off(content, (rng.normal(size=(2, *shape)) * 2).astype(np.float32)) < 1e-5
