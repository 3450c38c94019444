"""ONNX files: written by torch's exporter, run by onnxruntime (the extra `onnx`)."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram

from convolve.atomic import always_utf8
from convolve.errors import ModelError, UnsupportedError, UsageError, install_hint
from convolve.export.exported_program import first_sentence, quiet
from convolve.export.metadata import INPUT, KEY, OUTPUT, read_metadata
from convolve.export.parity import Runner, Values
from convolve.records import Metadata
from convolve.transforms.preprocess import Preprocess

# Opset 18 and the IR version of its time: onnxruntime reads them since 1.14, of February 2023.
OPSET, IR_VERSION = 18, 8
MOST_BYTES = 2**31 - 2**24  # protobuf's limit of 2 GiB, less some for the graph

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
# The IR version, then another field of the model: its producer, a text.
_HEAD = re.compile(rb"\x08[\x01-\x20][\x12\x1a\x22\x2a\x32\x3a\x42\x72]", re.DOTALL)


def check_packages(names: tuple[str, ...] = _PACKAGES) -> None:
    """Raise UsageError with the way out where one of the packages `names` is not installed."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise UsageError(f"ONNX files need the package {' and '.join(missing)}: {install_hint('onnx')}")


def write(program: ExportedProgram, metadata: dict[str, Any], path: Path) -> None:
    """Write the program as one file. Raises UnsupportedError where ONNX cannot say what it computes or hold it."""
    size = sum(tensor.nbytes for tensor in [*program.state_dict.values(), *program.constants.values()])
    if size > MOST_BYTES:
        raise UnsupportedError(
            f"the weights take {size / 2**30:.1f} GiB, and an ONNX file ends at 2; export an ExportedProgram (.pt2)"
        )
    made = translate(program, [INPUT], [OUTPUT])
    made.model.metadata_props[KEY] = always_utf8(json.dumps(metadata, ensure_ascii=False))
    made.save(path, external_data=False)


def translate(program: ExportedProgram, inputs: list[str], outputs: list[str]) -> torch.onnx.ONNXProgram:
    """The program in ONNX, with these names."""
    from importlib.metadata import version

    try:
        with quiet():
            made = torch.onnx.export(
                program, input_names=inputs, output_names=outputs, opset_version=OPSET, dynamo=True, verbose=False,
                dynamic_shapes=tuple({0: "N"} for _ in inputs),  # of a program, only the name is taken
            )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        reason = first_sentence(_root(error))
        raise UnsupportedError(
            f"ONNX cannot say what the network computes: {reason}; export an ExportedProgram (.pt2)"
        ) from error
    assert made is not None  # only with the old exporter
    model = made.model
    model.ir_version, model.producer_name, model.producer_version = IR_VERSION, "convolve", version("convolve")
    model.metadata_props.clear()
    for node in model.graph:
        node.metadata_props.clear()  # torch notes stack traces with paths of this machine
    inner = [value for node in model.graph for value in node.outputs]
    for value in (*inner, *model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    return made


def _root(error: BaseException) -> BaseException:
    return _root(error.__cause__) if error.__cause__ else error


def _session(content: str | bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def runner(path: Path) -> Runner:
    session = _session(str(path))

    def run(inputs: torch.Tensor) -> np.ndarray:
        result: np.ndarray = session.run([OUTPUT], {INPUT: np.ascontiguousarray(inputs.numpy())})[0]
        return result

    return run


def values(path: Path, inputs: torch.Tensor) -> Values:
    """What the nodes of the file compute, by the names of their values; those of the program keep theirs."""
    import onnx

    model = onnx.load(path)
    names = [name for node in model.graph.node for name in node.output if name and name != OUTPUT]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    results = _session(model.SerializeToString()).run(names, {INPUT: inputs.numpy()})
    return {name: ("", numbers) for name, numbers in zip(names, results, strict=True)}


# -- files that come back ---------------------------------------------------------------------------------------------


def is_onnx(path: Path) -> bool:
    """Whether `path` is an ONNX file, judged by its content."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return bool(_HEAD.match(file.read(3)))


class OnnxNetwork(nn.Module):
    """An exported file as a module: images_NCHW, prepared as `preprocess` says, -> logits_NK.

    Raises UnsupportedError for a file without our metadata, which does not say what its images are.
    """

    preprocess: Preprocess
    metadata: Metadata

    def __init__(self, path: Path) -> None:
        super().__init__()
        check_packages(("onnxruntime",))
        try:
            self._session = _session(str(path))
        except Exception as error:  # onnxruntime's classes are its own
            raise ModelError(f"{path} is no ONNX model that onnxruntime can run: {first_sentence(error)}") from error
        metadata = self._session.get_modelmeta().custom_metadata_map
        if KEY not in metadata:
            raise UnsupportedError(
                f"{path} was not exported by convolve: it does not say what its images and classes are"
            )
        self.preprocess, self.metadata, self.takes_pixels = read_metadata(metadata[KEY], path)

    def ports(self) -> dict[str, list[dict[str, Any]]]:
        """Name, type and shape of each input and output, as the file has them."""
        found = {"inputs": self._session.get_inputs(), "outputs": self._session.get_outputs()}
        return {
            side: [{"name": port.name, "type": port.type, "shape": port.shape} for port in ports]
            for side, ports in found.items()
        }

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        images = images_NCHW.permute(0, 2, 3, 1).to(torch.uint8) if self.takes_pixels else images_NCHW
        return torch.from_numpy(self._session.run([OUTPUT], {INPUT: np.ascontiguousarray(images.numpy())})[0])
