"""CNTK's own golden networks, exported, answer as CNTK did, under onnxruntime and as programs of torch.export.

An export costs a second, a network next to nothing: many of them travel side by side in one file.
"""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from convolve.errors import UnsupportedError
from convolve.export import onnx
from convolve.graph.build import build
from convolve.importers import cntk
from zip_golden import FOLDER

ARCHIVES = {name: ZipFile(FOLDER / f"{name}.zip") for name in ("oracle", "more")}
DEFECTS = {
    case for case, about in json.loads(ARCHIVES["oracle"].read("models_index.json")).items() if "known_defect" in about
}
LAYERS = ("bn_", "conv", "dense", "lrn", "mvn", "net_lenet", "net_resnet", "pool_")  # what classifiers consist of
ROI_POOLING = "roipool"  # loops over numbers
MISNAMED = {"net_combine", "comparisons", "triple_outputs_of_block"}  # their outputs, in v1, by CNTK itself


class Case(NamedTuple):
    name: str
    network: nn.Module
    inputs: list[torch.Tensor]
    outputs: list[np.ndarray]


class SideBySide(nn.Module):
    """Several networks as one: their inputs one after the other, then their outputs."""

    def __init__(self, cases: list[Case]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(case.network for case in cases)
        self._input_counts = [len(case.inputs) for case in cases]

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs: list[torch.Tensor] = []
        for network, count in zip(self.networks, self._input_counts, strict=True):
            result = network(*inputs[:count])
            outputs += result if isinstance(result, tuple) else (result,)
            inputs = inputs[count:]
        return tuple(outputs)


def imported(archive: str, folder: str) -> Iterator[Case]:
    """Every case that convolve imports and that CNTK has answered."""
    for member in ARCHIVES[archive].namelist():
        name = Path(member).stem
        if not member.startswith(f"{folder}/") or (folder == "v1" and name in MISNAMED):
            continue
        values = dict(np.load(io.BytesIO(ARCHIVES[archive].read(f"io/{name}.npz"))))
        try:
            graph = cntk.parse(ARCHIVES[archive].read(member), member)
        except UnsupportedError:  # which ones, and why, is for test_cntk_models.py
            continue
        inputs = [torch.from_numpy(values[f"in__{leaf.source}"]).reshape(-1, *leaf.shape) for leaf in graph.inputs]
        yield Case(name, build(graph), inputs, [values[f"out{number}"] for number in range(len(graph.outputs))])


def compare(cases: list[Case]) -> None:
    """`cases` have batches of the same size; what is exported comes from batches of twice as many."""
    inputs = [x for case in cases for x in case.inputs]
    names, batch = [f"in{number}" for number in range(len(inputs))], torch.export.Dim("N")
    program = torch.export.export(
        SideBySide(cases).requires_grad_(False),
        tuple(torch.cat([x, x]) for x in inputs),
        dynamic_shapes=(tuple({0: batch} for _ in inputs),),
    )
    outputs = [f"out{number}" for number in range(sum(len(case.outputs) for case in cases))]
    content = onnx.translate(program, names, outputs).model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    under_onnxruntime = session.run(outputs, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})
    as_program = [value.numpy() for value in program.module()(*inputs)]
    for results in (under_onnxruntime, as_program):
        answers = iter(results)
        for case in cases:
            for wanted in case.outputs:
                assert_close(next(answers).copy(), wanted, case.name)


def assert_close(got: np.ndarray, wanted: np.ndarray, name: str) -> None:
    """Equal up to 1e-4 of the largest number; for shapes there is test_cntk_models.py."""
    wanted = wanted.reshape(got.shape)
    if name in DEFECTS:  # CNTK's CPU code reads out of bounds for one cell
        got[:, :, -1, 0] = wanted[:, :, -1, 0]
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-4 * max(np.abs(wanted).max(), 1e-6), err_msg=name)


def test_networks_and_their_layers() -> None:
    cases = [case for case in imported("oracle", "v2") if case.name.startswith(LAYERS) and len(case.inputs[0]) == 2]
    assert len(cases) == 60
    compare(cases)


@pytest.mark.slow
@pytest.mark.parametrize("archive", ["oracle", "more"])
@pytest.mark.parametrize("folder", ["v2", "v1"])
def test_every_network(archive: str, folder: str) -> None:
    groups = defaultdict(list)
    for case in imported(archive, folder):
        if case.name != ROI_POOLING:
            groups[len(case.inputs[0])].append(case)
    for cases in groups.values():
        for start in range(0, len(cases), 40):
            compare(cases[start : start + 40])
