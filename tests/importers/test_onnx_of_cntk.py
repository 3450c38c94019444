"""The ONNX files that the real CNTK 2.7 wrote answer as CNTK does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx_files import run_graph

import golden
from convolve.importers import onnx

CASES = sorted(Path(member).stem for member in golden.archive("onnx").namelist())


@pytest.mark.parametrize("case", CASES)
def test_what_cntk_exported(case: str) -> None:
    """Their batch is fixed to one sample, the recorded inputs are several."""
    graph = onnx.parse(golden.read("onnx", f"{case}.onnx"), Path(f"{case}.onnx"))
    recorded = golden.arrays("oracle", f"io/{case}.npz")
    inputs = [recorded[f"in__{value.source}"].reshape(-1, *value.shape) for value in graph.inputs]
    for number, found in enumerate(run_graph(graph, *inputs)):
        expected = recorded[f"out{number}"]
        np.testing.assert_allclose(
            found.reshape(expected.shape), expected, atol=1e-4 * max(1.0, float(np.abs(expected).max())), rtol=0
        )
