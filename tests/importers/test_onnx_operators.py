"""Every operator of ONNX that is read, in the opsets in which it changed, against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_cases import CASES, Case
from onnx_files import case_bytes, off

rng = np.random.default_rng(6)


@pytest.mark.parametrize(
    ("case", "opset"),
    [
        pytest.param(case, opset, id=f"{case[0]}-{number}-opset{opset}")
        for number, case in enumerate(CASES)
        for opset in case[4]
    ],
)
def test_one_operator(case: Case, opset: int) -> None:
    assert off(case_bytes(case, opset), (rng.normal(size=(2, *case[1])) * 2).astype(np.float32)) < 1e-5
