"""Smaller versions of an exported ONNX file: 8-bit integers by onnxruntime's quantizer, or fp16 by its converter.

Legend: N images.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from convolve.errors import UnsupportedError
from convolve.export.exported_program import first_sentence
from convolve.export.metadata import INPUT
from convolve.export.onnx_rewrites import beside_the_scores

CALIBRATION_IMAGES = 128  # the ranges of 128 images of flowers are as good as those of more: docs/how-to/export.md
_AT_ONCE = 8  # of them, so that all that a network computes fits in memory
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_MANY = 2**14  # weights beside the scores, from which on they are stored as integers too


@dataclass(frozen=True)
class Candidate:
    """A file, and a description of how it was made."""

    how: str
    path: Path


@contextmanager
def _heard_nothing() -> Iterator[None]:
    """Suppress onnxruntime's log: advice for developers, and failures that it works around."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def prepared(source: Path, folder: Path) -> Path:
    """The file as onnxruntime's quantizer needs it: optimized, with all shapes inferred."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    result = folder / "prepared.onnx"
    _made(partial(quant_pre_process, str(source), str(result), skip_symbolic_shape=True))
    return result


def int8(source: Path, folder: Path, feed_N: np.ndarray) -> list[Candidate]:
    """The `prepared` file in each form of int8 that may be the best. The ranges come from the input images `feed_N`."""
    static = [static_int8(source, folder, feed_N, form) for form in ("QOperator", "QDQ")]
    dynamic = _dynamic_int8(source, folder)
    smallest = min(each.path.stat().st_size for each in static)
    is_small = dynamic.path.stat().st_size <= 1.1 * smallest  # otherwise many weights are in convolutions
    return [*static, *([dynamic] if is_small else [])]


def static_int8(source: Path, folder: Path, feed_N: np.ndarray, form: str, in_fp32: Sequence[str] = ()) -> Candidate:
    """The file with its activations and weights quantized, except for the nodes `in_fp32` and those that do not lead to
    the scores. Processors multiply unsigned activations with signed weights fastest."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    path, kept = folder / f"{form}.onnx", [*in_fp32, *_beside_the_scores(source)]
    _made(
        partial(
            quantize_static, str(source), str(path), _reader(feed_N), quant_format=QuantFormat[form], per_channel=True,
            nodes_to_exclude=kept, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )
    )  # fmt: skip
    _store_the_rest(path)
    return Candidate(f"int8, static, per channel, {form}", path)


def _dynamic_int8(source: Path, folder: Path) -> Candidate:
    """The file with the weights of its dense layers quantized; activations are quantized at run time."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path = folder / "dynamic.onnx"
    _made(
        partial(
            quantize_dynamic, str(source), str(path), op_types_to_quantize=["MatMul", "Gemm"], per_channel=True,
            nodes_to_exclude=_beside_the_scores(source), weight_type=QuantType.QInt8,
        )
    )  # fmt: skip
    _store_the_rest(path)
    return Candidate("int8, dynamic, dense layers, per channel", path)


def fp16(source: Path, folder: Path) -> list[Candidate]:
    """The file with 16-bit numbers; inputs and outputs stay in 32 bits."""
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    def make() -> None:
        made = OnnxModel(convert_float_to_float16(onnx.load(source), keep_io_types=True))
        made.topological_sort()  # the casts of the inputs are listed last
        onnx.save(made.model, path)

    path = folder / "fp16.onnx"
    _made(make)
    return [Candidate("fp16", path)]


def _beside_the_scores(source: Path) -> list[str]:
    return [node.name for node in beside_the_scores(onnx.load(source).graph)]


def layers(source: Path) -> dict[str, str]:
    """The nodes with weights that lead to the scores -> the names of their weights."""
    model = onnx.load(source)
    weights, beside = {tensor.name for tensor in model.graph.initializer}, {*_beside_the_scores(source)}
    return {
        node.name: next((name for name in node.input[1:] if name in weights), node.name)
        for node in model.graph.node
        if node.op_type in _LAYERS and node.name not in beside
    }


def _made(make: Callable[[], None]) -> None:
    try:
        with _heard_nothing():
            make()
    except OSError:
        raise
    except Exception as error:  # onnxruntime has no exception class for what it cannot quantize
        raise UnsupportedError(f"onnxruntime cannot quantize this network: {first_sentence(error)}") from error


def _reader(feed_N: np.ndarray) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # without types
        def __init__(self) -> None:
            self._parts = iter(feed_N[start : start + _AT_ONCE] for start in range(0, len(feed_N), _AT_ONCE))

        def get_next(self) -> dict[str, np.ndarray] | None:
            part = next(self._parts, None)
            return None if part is None else {INPUT: part}

    return Reader()


def _store_the_rest(path: Path) -> None:
    """Store matrices that stayed in fp32 as integers with a scale for each column, and multiply in fp32."""
    model = onnx.load(path)
    graph = model.graph
    matrices = {node.input[1] for node in graph.node if node.op_type == "MatMul"}
    for tensor in [*graph.initializer]:
        weight = numpy_helper.to_array(tensor)
        if tensor.name not in matrices or weight.dtype != np.float32 or weight.ndim != 2 or weight.size < _MANY:
            continue
        scale = np.maximum(np.abs(weight).max(0), np.finfo(np.float32).tiny) / 127
        name = tensor.name
        stored = {f"{name}_int8": np.rint(weight / scale).astype(np.int8), f"{name}_scale": scale.astype(np.float32)}
        graph.initializer.remove(tensor)
        graph.initializer.extend(numpy_helper.from_array(array, key) for key, array in stored.items())
        graph.node.insert(0, onnx.helper.make_node("DequantizeLinear", [*stored], [name], axis=1))
    onnx.save(model, path)
