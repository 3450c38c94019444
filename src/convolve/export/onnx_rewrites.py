"""Patterns that torch's exporter writes and other tools mishandle, rewritten with the same result.

Each row of `REWRITES` names the fault that it works around.
"""

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper, numpy_helper

BESIDE = "distance/"  # prefix of the names of nodes that do not lead to the scores


def rewrite(model: onnx.ModelProto) -> None:
    """Change `model` in place."""
    for change in REWRITES:
        change(model.graph)


def _without_stated_initializers(graph: onnx.GraphProto) -> None:
    """onnxruntime's quantize_dynamic (1.31) transposes weights and then fails on their old declared shapes."""
    weights = {tensor.name for tensor in graph.initializer}
    kept = [value for value in graph.value_info if value.name not in weights]
    del graph.value_info[:]
    graph.value_info.extend(kept)


def _gelu_from_the_left(graph: onnx.GraphProto) -> None:
    """x * (0.5 * (1 + erf(...))) -> (x * (1 + erf(...))) * 0.5: OpenCV 5.0's cv2.dnn crashes on the first."""
    made = {name: node for node in graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    uses = _uses(graph)
    for outer in graph.node:
        inner = made.get(outer.input[1]) if outer.op_type == "Mul" else None
        if inner is None or inner.op_type != "Mul" or uses[inner.output[0]] != 1:
            continue
        half, sum_name = inner.input
        sum_node = made.get(sum_name)
        if half not in constants or sum_node is None or sum_node.op_type != "Add":
            continue
        if not any((node := made.get(name)) and node.op_type == "Erf" for name in sum_node.input):
            continue
        inner.input[:] = [outer.input[0], sum_name]
        outer.input[:] = [inner.output[0], half]


def _pads_that_stay(graph: onnx.GraphProto) -> None:
    """onnxruntime (1.31) merges zero padding into the max pooling after it, which pads with minus infinity. With an
    additional axis around the padding it does not: Unsqueeze, Pad, Squeeze."""
    pooled = {node.input[0] for node in graph.node if node.op_type == "MaxPool"}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for index, pad in reversed([*enumerate(graph.node)]):
        if pad.op_type != "Pad" or pad.output[0] not in pooled or pad.input[1] not in constants:
            continue
        pads = numpy_helper.to_array(constants[pad.input[1]])
        name, rank = pad.output[0], len(pads) // 2
        wider = np.concatenate([[0], pads[:rank], [0], pads[rank:]]).astype(np.int64)
        graph.initializer.append(numpy_helper.from_array(wider, f"{name}_pads"))
        graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.int64), f"{name}_axis"))
        before = helper.make_node("Unsqueeze", [pad.input[0], f"{name}_axis"], [f"{name}_unpadded"])
        after = helper.make_node("Squeeze", [f"{name}_padded", f"{name}_axis"], [name])
        pad.input[:] = [f"{name}_unpadded", f"{name}_pads", *pad.input[2:3]]
        pad.output[:] = [f"{name}_padded"]
        graph.node.insert(index + 1, after)
        graph.node.insert(index, before)


def _pooled_extremes(graph: onnx.GraphProto) -> None:
    """The maximum of each plane, and the minimum of each row, by GlobalMaxPool: pnnx and ncnn (20261020) have neither
    ReduceMax nor ReduceMin."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    values = (*graph.input, *graph.value_info)
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in values}
    graph.initializer.extend(numpy_helper.from_array(np.array(axes), name) for name, axes in _AXES.items())
    for index, node in reversed([*enumerate(graph.node)]):
        rank, axes = ranks.get(node.input[0] if node.input else ""), constants.get(node.input[-1] if node.input else "")
        if node.op_type not in ("ReduceMax", "ReduceMin") or rank is None or axes is None:
            continue
        reduced, name = sorted((axes % rank).tolist()), node.output[0]
        keeps_axes = all(item.i for item in node.attribute if item.name == "keepdims")
        steps: list[tuple[str, ...]]
        if (node.op_type, rank, reduced) == ("ReduceMax", 4, [2, 3]):
            steps = [("GlobalMaxPool",), *([] if keeps_axes else [("Flatten",)])]
        elif (node.op_type, rank, reduced, keeps_axes) == ("ReduceMin", 2, [1], False):
            steps = [("Neg",), ("Unsqueeze", "axes_12"), ("GlobalMaxPool",), ("Squeeze", "axes_123"), ("Neg",)]
        else:
            continue
        graph.node.remove(node)
        names = [node.input[0], *(f"{name}_pooled_{number}" for number in range(1, len(steps))), name]
        for (op, *more), before, after in reversed([*zip(steps, names, names[1:], strict=False)]):
            graph.node.insert(index, helper.make_node(op, [before, *more], [after]))


_AXES = {"axes_12": [1, 2], "axes_123": [1, 2, 3]}


def _exact_sigmoids(graph: onnx.GraphProto) -> None:
    """Sigmoid(x) -> Exp(-Softplus(-x)) in a network that takes logarithms, and Log(Sigmoid(x)) -> -Softplus(-x):
    onnxruntime's Sigmoid (1.31) is off by up to 1e-7, which matters for values near 1e-8."""
    made, uses = {name: node for node in graph.node for name in node.output}, _uses(graph)
    logs = [node for node in graph.node if node.op_type == "Log"]
    sigmoids = [node for node in graph.node if node.op_type == "Sigmoid" and logs]
    for node in sigmoids:
        name = node.output[0]
        node.op_type, node.input[:], x = "Exp", [f"{name}_log"], node.input[0]
        names = [x, f"{name}_negative", f"{name}_softplus", f"{name}_log"]
        place = [*graph.node].index(node)
        for op, before, after in reversed([*zip(("Neg", "Softplus", "Neg"), names, names[1:], strict=False)]):
            graph.node.insert(place, helper.make_node(op, [before], [after]))
    for log in logs:
        exponential = made.get(log.input[0])
        if exponential is not None and exponential in sigmoids:
            log.op_type, log.input[:] = "Identity", exponential.input
            if uses[exponential.output[0]] == 1:
                graph.node.remove(exponential)


def _without_unread_initializers(graph: onnx.GraphProto) -> None:
    """onnxruntime warns about each of them."""
    uses = _uses(graph)
    kept = [tensor for tensor in graph.initializer if tensor.name in uses]
    if len(kept) < len(graph.initializer):
        del graph.initializer[:]
        graph.initializer.extend(kept)


def _names_for_all(graph: onnx.GraphProto) -> None:
    """Quantizers identify nodes by their names, which the rewritten ones lack."""
    for node in graph.node:
        node.name = node.name or node.output[0]


def _names_beside_the_scores(graph: onnx.GraphProto) -> None:
    """onnxruntime's quantize_static would spoil a distance unless these nodes are excluded."""
    for node in beside_the_scores(graph):
        node.name = f"{BESIDE}{node.name}"


def beside_the_scores(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes that the first output does not depend on: a distance from the training images needs full precision."""
    made = {name: node for node in graph.node for name in node.output}
    names, needed = [graph.output[0].name], set()
    while names:
        node = made.get(names.pop())
        if node is not None and node.name not in needed:
            needed.add(node.name)
            names += node.input
    return [node for node in graph.node if node.name not in needed]


def _uses(graph: onnx.GraphProto) -> dict[str, int]:
    counts: dict[str, int] = {value.name: 1 for value in graph.output}
    for node in graph.node:
        for name in node.input:
            counts[name] = counts.get(name, 0) + 1
    return counts


REWRITES: tuple[Callable[[onnx.GraphProto], None], ...] = (
    _without_stated_initializers, _gelu_from_the_left, _pads_that_stay, _pooled_extremes, _exact_sigmoids,
    _without_unread_initializers, _names_for_all, _names_beside_the_scores,
)  # fmt: skip
