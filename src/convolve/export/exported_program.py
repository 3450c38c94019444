"""Modules traced by torch.export: programs of ATen operators, without Python, for PyTorch and its compilers."""

import io
import json
import logging
import re
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.export import Dim, ExportedProgram

from convolve.atomic import always_utf8
from convolve.errors import UnsupportedError
from convolve.export.metadata import KEY
from convolve.export.parity import Runner, Values, arrays


def trace(network: nn.Module, *examples: torch.Tensor) -> ExportedProgram:
    """The network as a program for batches of any size. `examples` are its inputs, for a batch of two or more.

    Raises UnsupportedError if the computation depends on the batch size or on the values themselves.
    """
    batch = Dim("N")
    try:
        with quiet():
            return torch.export.export(network, examples, dynamic_shapes=tuple({0: batch} for _ in examples))
    except Exception as error:  # torch has no common exception class for what it cannot trace
        raise UnsupportedError(
            f"torch.export cannot trace {_place(error)}: {_reason(error)}; --to convolve keeps the model"
        ) from error


def _place(error: Exception) -> str:
    """The function of ours that could not be traced."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame.name for frame in frames if "convolve" in Path(frame.filename).parts and frame.name != trace.__name__]
    return ours[-1] if ours else "the network"


def _reason(error: Exception) -> str:
    sentence = first_sentence(error)
    return "it works for one batch size only" if sentence == "Constraints violated" else sentence


def first_sentence(error: BaseException) -> str:
    """The beginning of torch's explanations, which fill pages."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.split(r"[.!] |\s\(", line)[0].rstrip(".!")[:200]


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress torch's messages for exporter developers: warnings, deprecations in its own code, partial graphs."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def write(program: ExportedProgram, metadata: dict[str, Any], path: Path) -> None:
    text = always_utf8(json.dumps(metadata, ensure_ascii=False))
    content = io.BytesIO()  # torch ends the process where a file cannot grow
    with quiet():
        torch.export.save(program, content, extra_files={f"{KEY}.json": text})
    path.write_bytes(content.getbuffer())


def _read(path: Path) -> ExportedProgram:
    """For files that this process wrote: torch unpickles parts of them."""
    with path.open("rb") as file:
        return torch.export.load(file)


def opened(path: Path) -> nn.Module:
    """The network in a file that this process wrote."""
    return _read(path).module()


def runner(path: Path) -> Runner:
    network = opened(path)

    def run(inputs: torch.Tensor) -> list[np.ndarray]:
        with torch.no_grad():
            return arrays(network(inputs))

    return run


def values(path: Path, inputs: torch.Tensor) -> Values:
    return values_of(_read(path), inputs)


def values_of(program: ExportedProgram, inputs: torch.Tensor) -> Values:
    """The result of every operator of the program, in order, by name and, if it belongs to a layer, that layer."""
    recorder = _Recorder(program.module())
    with torch.no_grad():
        recorder.run(inputs)
    return recorder.values


class _Recorder(fx.Interpreter):
    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.values: Values = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op == "call_function" and isinstance(result, torch.Tensor):
            stack = list(n.meta.get("nn_module_stack", {}).values())
            self.values[n.name] = (stack[-1][0] if stack else "", result.numpy())
        return result
