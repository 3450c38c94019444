"""ONNX files: written by torch's exporter, run by onnxruntime (the extra `onnx`)."""

import json
from collections.abc import Callable, Mapping
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
from convolve.export.metadata import DISTANCE, INPUT, KEY
from convolve.export.parity import Runner, Values
from convolve.transforms.preprocess import Preprocess

# Opset 18 and the IR version of the same time: onnxruntime reads them since 1.14, of February 2023.
OPSET, IR_VERSION = 18, 8
MOST_BYTES = 2**31 - 2**24  # protobuf's limit of 2 GiB, less some for the graph

PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def check_packages(names: tuple[str, ...] = PACKAGES) -> None:
    """Raise UsageError with the way out if one of the packages `names` is not installed."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise UsageError(f"ONNX files need the package {' and '.join(missing)}: {install_hint('onnx')}")


def write(program: ExportedProgram, metadata: dict[str, Any], path: Path) -> None:
    """Write the program as one file. Raises UnsupportedError if ONNX lacks an operation, or if it is too large."""
    text = always_utf8(json.dumps(metadata, ensure_ascii=False))
    names = [metadata["output"]["name"], *(port["name"] for port in metadata["more_outputs"])]
    path.write_bytes(translated(program, [INPUT], names, {KEY: text}))


def translated(
    program: ExportedProgram, inputs: list[str], outputs: list[str], metadata: Mapping[str, str] | None = None
) -> bytes:
    """The program as the bytes of a file, with these names and this metadata."""
    size = sum(tensor.nbytes for tensor in [*program.state_dict.values(), *program.constants.values()])
    if size > MOST_BYTES:
        raise UnsupportedError(
            f"the weights take {size / 2**30:.1f} GiB, and an ONNX file is limited to 2; export an ExportedProgram "
            f"(.pt2)"
        )
    from convolve.export.onnx_rewrites import rewrite

    made = translate(program, inputs, outputs)
    made.model.metadata_props.update(metadata or {})
    proto = made.model_proto
    rewrite(proto)
    content: bytes = proto.SerializeToString()
    return content


def translate(program: ExportedProgram, inputs: list[str], outputs: list[str]) -> torch.onnx.ONNXProgram:
    """The program as an ONNX model, with these names."""
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
            f"ONNX cannot represent this network: {reason}; export an ExportedProgram (.pt2)"
        ) from error
    assert made is not None  # only with the old exporter
    model = made.model
    model.ir_version, model.producer_name, model.producer_version = IR_VERSION, "convolve", version("convolve")
    model.metadata_props.clear()
    for node in model.graph:
        node.metadata_props.clear()  # torch records stack traces with paths of this machine
    inner = [value for node in model.graph for value in node.outputs]
    for value in (*inner, *model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    return made


def _root(error: BaseException) -> BaseException:
    return _root(error.__cause__) if error.__cause__ else error


def open_session(content: str | bytes, settings: Mapping[str, str] | None = None, threads: int | None = None) -> Any:
    """`settings`: onnxruntime's own settings, by name. `threads`: torch's number, unless given."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    for name, value in (settings or {}).items():
        options.add_session_config_entry(name, value)
    options.log_severity_level = 3  # log errors only
    options.intra_op_num_threads = threads or torch.get_num_threads()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def runner(path: Path) -> Runner:
    session = open_session(str(path))

    def run(inputs: torch.Tensor) -> list[np.ndarray]:
        results: list[np.ndarray] = session.run(None, {INPUT: np.ascontiguousarray(inputs.numpy())})
        return results

    return run


def values(path: Path, inputs: torch.Tensor) -> Values:
    """The results of the file's nodes, by name; those of the program keep their names."""
    import onnx

    model = onnx.load(path)
    outputs = {port.name for port in model.graph.output}
    names = [name for node in model.graph.node for name in node.output if name and name not in outputs]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    results = open_session(model.SerializeToString()).run(names, {INPUT: inputs.numpy()})
    return {name: ("", numbers) for name, numbers in zip(names, results, strict=True)}


# -- files that only onnxruntime can run -------------------------------------------------------------------------------

_TYPES = {
    "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64, "tensor(uint8)": np.uint8,
}  # fmt: skip


def note_of(module: nn.Module) -> str:
    """A note for users on how a network is run; empty for most."""
    return module.note if isinstance(module, OnnxNetwork) else ""


class OnnxNetwork(nn.Module):
    """A file run by onnxruntime: images_NCHW -> scores_NK, whatever its input type, axis order and batch size; with
    `distance`, if the file gives it, (scores_NK, distance_N).

    `to_logits` converts the file's output to that of a model with its target; `independent`: see `evaluate`. Raises
    ModelError for a file that does not run.
    """

    def __init__(
        self,
        content: str | bytes,
        path: Path,
        preprocess: Preprocess,
        to_logits: Callable[[torch.Tensor], torch.Tensor] | None = None,
        *,
        with_distance: bool = False,
        independent: bool = False,
        output: str | None = None,
    ) -> None:
        super().__init__()
        self.path, self.independent = path, independent
        self.note = ""  # for users: why onnxruntime runs it unchanged
        check_packages(("onnxruntime",))
        self._preprocess, self._to_logits = preprocess, to_logits
        try:
            self._session = open_session(content)
        except Exception as error:  # onnxruntime has its own exceptions
            raise self._fault(error) from error
        port = self._session.get_inputs()[0]
        if port.type not in _TYPES or len(self._session.get_inputs()) != 1:
            raise UnsupportedError(f"{path}: its input is {port.type}, but must be one of {', '.join(_TYPES)}")
        self._input, self._type = port.name, _TYPES[port.type]
        self._takes_photographs = len(port.shape) == 3
        self._is_nhwc = self._takes_photographs or list(port.shape[1:]) != list(preprocess.shape_CHW)
        samples = 1 if self._takes_photographs else port.shape[0]
        self._samples = samples if isinstance(samples, int) and samples > 0 else None
        outputs = [port.name for port in self._session.get_outputs() if port.type in _TYPES]
        outputs = outputs if output is None else [name for name in outputs if name == output]
        if not outputs:
            raise UnsupportedError(f"{path}: {output or 'none of its outputs'} gives scores")
        self.gives_distance = with_distance and DISTANCE in outputs[1:]
        self._outputs = [outputs[0], DISTANCE] if self.gives_distance else outputs[:1]
        size = self._samples or 1
        self.classes = self._run(self.feed(torch.zeros(size, *preprocess.shape_CHW)), size)[0].shape[1]

    def ports(self) -> dict[str, list[dict[str, Any]]]:
        """Name, type and shape of each input and output, as in the file."""
        found = {"inputs": self._session.get_inputs(), "outputs": self._session.get_outputs()}
        return {
            side: [{"name": port.name, "type": port.type, "shape": port.shape} for port in ports]
            for side, ports in found.items()
        }

    def require_independent(self) -> None:
        """Raise UnsupportedError if an image's output depends on the rest of its batch. 1e-3 of the largest score is
        more than a different order of summation explains."""
        shape = (3, *self._preprocess.shape_CHW)
        array = self.feed(torch.randint(256, shape, generator=torch.Generator().manual_seed(0)).float())
        alone_NK = np.concatenate([self._run(array[n : n + 1], self._samples or 1)[0] for n in range(3)])
        size = self._samples or 3
        together_NK = np.concatenate([self._run(array[n : n + size], size)[0] for n in range(0, 3, size)])
        if not abs(alone_NK - together_NK).max() <= 1e-3 * abs(alone_NK).max():
            raise UnsupportedError(f"{self.path}: its output for an image depends on the other images of the batch")

    def feed(self, images_NCHW: torch.Tensor) -> np.ndarray:
        """The images in the form that the file takes."""
        images = images_NCHW.permute(0, 2, 3, 1) if self._is_nhwc else images_NCHW
        array = np.ascontiguousarray(images.cpu().numpy().astype(self._type))
        return as_photographs(array, self._preprocess) if self._takes_photographs else array

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        array, size = self.feed(images_NCHW), self._samples or len(images_NCHW)
        parts = [self._run(array[start : start + size], size) for start in range(0, len(array), max(1, size))]
        parts = parts or [[np.zeros((0, self.classes)), np.zeros((0, 1))]]
        scores_NK, *distance_N1 = (
            torch.from_numpy(np.concatenate(each).astype(np.float32)) for each in zip(*parts, strict=True)
        )
        scores_NK = self._to_logits(scores_NK) if self._to_logits else scores_NK
        return (scores_NK, distance_N1[0][:, 0]) if self.gives_distance else scores_NK

    def _run(self, images: np.ndarray, size: int) -> list[np.ndarray]:
        """The outputs for some images, in batches of the size that the file requires: the last one is filled up."""
        filled = np.concatenate([images, np.repeat(images[:1], size - len(images), 0)])
        fed = np.ascontiguousarray(filled[0] if self._takes_photographs else filled)
        try:
            found: list[np.ndarray] = self._session.run(self._outputs, {self._input: fed})
        except Exception as error:  # onnxruntime has its own exceptions
            raise self._fault(error) from error
        for array in found:
            if not self._takes_photographs and (array.shape[:1] != (size,) or array.size < size):
                raise ModelError(f"{self.path}: for {size} images its output has the shape {array.shape}")
        return [array.reshape(size, -1)[: len(images)] for array in found]

    def _fault(self, error: Exception) -> ModelError:
        return ModelError(f"{self.path} is not an ONNX model that onnxruntime can run: {first_sentence(error)}")


def as_photographs(images_NHWC: np.ndarray, preprocess: Preprocess) -> np.ndarray:
    """Images of the network's size, padded to photographs from which a file for any size crops exactly these, without
    resizing."""
    if preprocess.resize == "square" and preprocess.height != preprocess.width:
        raise UnsupportedError(
            f"a quantized file for images of any size, whose central square becomes {preprocess.width}x"
            f"{preprocess.height} pixels; one that takes images of that size can be opened"
        )
    missing = np.subtract(preprocess.size_before_crop, images_NHWC.shape[1:3])
    borders = [(side // 2, side - side // 2) for side in missing]
    photographs = np.pad(images_NHWC, [(0, 0), *borders, (0, 0)])
    return np.repeat(photographs, 3 // photographs.shape[3], axis=3)  # gray comes as three planes
