"""Networks with any inputs and outputs, exported and compared before the file gets its name."""

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram

from convolve.atomic import replacing
from convolve.errors import ConvolveError, UsageError
from convolve.export import exported_program, onnx
from convolve.export.parity import TOLERANCE, Parity, distance

SAMPLES = (1, 3, 8)  # of the batches that are compared: any size works
SPREADS = (0.0, 1.0, 100.0)  # of the numbers in them: all zero, normalized values, pixels

Shapes = Mapping[str, tuple[int, ...]]
Run = Callable[[Sequence[torch.Tensor]], Sequence[np.ndarray]]


def export_network(module: nn.Module, inputs: Shapes, outputs: Shapes, path: Path) -> Parity:
    """Write the module in the format of `path`'s ending. Returns what was compared; raises ConvolveError
    if the outputs differ, and nothing is written then."""
    if path.suffix not in (".onnx", ".pt2"):
        raise UsageError(f"{path}: the ending selects the format, and must be one of .onnx, .pt2")
    if path.suffix == ".onnx":
        onnx.check_packages()
    source = copy.deepcopy(module).to(device="cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    source.requires_grad_(False).eval()
    names = [*_names(inputs)], [*_names(outputs)]
    with replacing(path) as temporary:
        temporary.touch()  # if nothing can be written here, fail before the work
        program = exported_program.trace(source, *_values(inputs, 2, 1.0))
        run = _written(program, path.suffix, names, temporary)
        worst = max(
            _difference(path, source, run, _values(inputs, samples, spread))
            for samples in SAMPLES
            for spread in SPREADS
        )
    return Parity(sum(SAMPLES) * len(SPREADS), worst, of_one_class=False, outputs=len(outputs))


def _names(shapes: Shapes) -> Sequence[str]:
    """The file's own names, made valid for our files, if they stay different."""
    names = [re.sub(r"[^0-9A-Za-z_.:/-]", "_", name) for name in shapes]
    return names if len({*names}) == len(names) else [f"{name}_{k}" for k, name in enumerate(names)]


def _written(program: ExportedProgram, ending: str, names: tuple[list[str], list[str]], path: Path) -> Run:
    if ending == ".pt2":
        exported_program.write(program, {}, path)
        return lambda values: _arrays(exported_program.opened(path)(*values))
    path.write_bytes(onnx.translated(program, *names))
    session = onnx.open_session(str(path))
    return lambda values: session.run(
        names[1], {name: value.numpy() for name, value in zip(names[0], values, strict=True)}
    )


def _values(shapes: Shapes, samples: int, spread: float) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(samples)
    return tuple(spread * torch.randn(samples, *shape, generator=generator) for shape in shapes.values())


def _difference(path: Path, source: nn.Module, run: Run, values: tuple[torch.Tensor, ...]) -> float:
    with torch.no_grad():
        wanted = _arrays(source(*values))
    worst = max(
        float(distance(one, other).max(initial=0)) if one.shape == other.shape else np.inf
        for one, other in zip(wanted, run(values), strict=True)
    )
    if not worst <= TOLERANCE:
        raise ConvolveError(
            f"{path} was not written, because its outputs differ from its source's: a number is off by {worst:.2g} "
            "of the largest. Please report it"
        )
    return worst


def _arrays(result: torch.Tensor | Sequence[torch.Tensor]) -> list[np.ndarray]:
    return [value.numpy() for value in ([result] if isinstance(result, torch.Tensor) else result)]
