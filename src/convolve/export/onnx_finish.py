"""What can be changed in a finished ONNX file: its opset, its batch size, its metadata."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from convolve.atomic import always_utf8
from convolve.errors import ConvolveError, UnsupportedError, UsageError
from convolve.export.exported_program import first_sentence
from convolve.export.metadata import INPUT, KEY
from convolve.export.onnx import IR_VERSION, open_session
from convolve.export.parity import TOLERANCE, distance

OPSETS = range(
    15, 23
)  # the range of onnx's converter from 18: below 15 it has no Shape, and onnxruntime 1.20 supports up to 22


def with_opset(path: Path, opset: int, feed_N: np.ndarray) -> None:
    """Convert the file to another opset, with onnx's converter. It is refused if its answers to `feed_N` change."""
    from onnx import version_converter

    if opset not in OPSETS:
        raise UsageError(f"--opset must be {OPSETS[0]} to {OPSETS[-1]}, not {opset}")

    def change(model: onnx.ModelProto) -> onnx.ModelProto:
        for node in model.graph.node:  # before 18 this attribute did not exist, and its value is the default
            kept = [item for item in node.attribute if item.name != "noop_with_empty_axes" or item.i]
            del node.attribute[:]
            node.attribute.extend(kept)
        changed = version_converter.convert_version(model, opset)
        changed.ir_version = max(IR_VERSION, onnx.helper.find_min_ir_version_for(changed.opset_import))
        return changed

    try:
        _changed(path, change, feed_N)
    except ConvolveError:
        raise
    except Exception as error:  # onnx and onnxruntime raise several kinds
        raise UnsupportedError(f"--opset {opset} cannot represent this network: {first_sentence(error)}") from error


def with_batch_size(path: Path, size: int, feed_N: np.ndarray) -> None:
    """Fix the batch size, for runtimes that need to know it."""
    from onnxruntime.tools.onnx_model_utils import make_dim_param_fixed

    def change(model: onnx.ModelProto) -> onnx.ModelProto:
        make_dim_param_fixed(model.graph, "N", size)
        return model

    filled_N = np.concatenate([feed_N] * -(-size // len(feed_N)))[:size]
    _changed(path, change, filled_N)
    about = metadata_of(path)
    for port in (about["input"], about["output"], *about["more_outputs"]):
        port["shape"][0] = size
    set_metadata(path, about)


def _changed(path: Path, change: Callable[[onnx.ModelProto], onnx.ModelProto], feed_N: np.ndarray) -> None:
    wanted = open_session(str(path)).run(None, {INPUT: feed_N})
    onnx.save(change(onnx.load(path)), path)
    got = open_session(str(path)).run(None, {INPUT: feed_N})
    if max(float(distance(*pair).max()) for pair in zip(wanted, got, strict=True)) > TOLERANCE:
        raise ConvolveError(f"{path.name} would give other outputs in this form, and was not written; please report it")


def metadata_of(path: Path) -> dict[str, Any]:
    texts = {item.key: item.value for item in onnx.load(path).metadata_props}
    about: dict[str, Any] = json.loads(texts[KEY])
    return about


def set_metadata(path: Path, about: dict[str, Any]) -> None:
    """Write `about` as the file's metadata, and declare only the operator domains that it uses."""
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {KEY: always_utf8(json.dumps(about, ensure_ascii=False))})
    used = {node.domain for node in model.graph.node}
    kept = [item for item in model.opset_import if item.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    model.producer_name = "convolve"
    onnx.save(model, path)
