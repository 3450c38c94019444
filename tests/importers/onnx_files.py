"""Small ONNX files, and what onnxruntime answers to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper
from onnx_cases import GRAPHS, Case

from convolve.graph.build import build
from convolve.graph.graph import Graph
from convolve.importers.onnx import parse

IR_OF_OPSET = {7: 3, 9: 4, 11: 6, 13: 7, 15: 8, 18: 8, 20: 9, 21: 10, 22: 10, 23: 11}


def onnx_bytes(
    nodes: Sequence[Any],
    inputs: Mapping[str, Sequence[Any]],
    constants: Mapping[str, Any] | None = None,
    outputs: Sequence[str] = ("y",),
    opset: int = 18,
    metadata: dict[str, str] | None = None,
    **port: Any,
) -> bytes:
    """A file of `nodes` from `inputs` (name -> shape, the batch first), the type of which is `port["type"]`."""
    kind = port.get("type", onnx.TensorProto.FLOAT)
    graph = helper.make_graph(
        list(nodes), "test",
        [helper.make_tensor_value_info(name, kind, list(shape)) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, port.get("out", kind), None) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_OF_OPSET[opset])
    helper.set_model_props(model, metadata or {})
    content: bytes = model.SerializeToString()
    return content


def case_bytes(case: Case, opset: int) -> bytes:
    op, shape, constants, attributes, _ = case
    made = helper.make_node(op, ["x", *constants], ["y"], **attributes)
    out = onnx.TensorProto.INT64 if op.startswith("Arg") else onnx.TensorProto.FLOAT
    return onnx_bytes([made], {"x": ("N", *shape)}, constants, opset=opset, out=out)


def graph_bytes(name: str) -> bytes:
    nodes, inputs, constants, outputs, opset = GRAPHS[name]
    shapes = {key: ("N", *shape) for key, shape in inputs.items()}
    return onnx_bytes(nodes, shapes, constants, outputs=outputs, opset=opset)


def run_onnx(content: bytes, *arrays: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # what the file says
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]
    return [np.asarray(result) for result in session.run(None, dict(zip(names, arrays, strict=True)))]


def run_graph(graph: Graph, *arrays: np.ndarray) -> list[np.ndarray]:
    with torch.no_grad():
        results = build(graph)(*(torch.from_numpy(np.asarray(array, np.float32)) for array in arrays))
    return [result.numpy() for result in (results if isinstance(results, tuple) else (results,))]


def imported(content: bytes, name: str = "net.onnx") -> Graph:
    return parse(content, Path(name))


def off(content: bytes, *arrays: np.ndarray) -> float:
    """By how much the imported graph answers otherwise than onnxruntime, as a part of the largest number (of 1, where
    all are smaller)."""
    expected, got = run_onnx(content, *arrays), run_graph(imported(content), *arrays)
    worst = 0.0
    for wanted, found in zip(expected, got, strict=True):
        assert found.shape == wanted.shape
        distance, largest = np.abs(found - wanted.astype(np.float64)).max(), np.abs(wanted).max()
        worst = max(worst, float(distance / max(1.0, largest)))
    return worst
