"""Three hundred expressions, whose values, shapes and gradients the real CNTK 2.7 recorded."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

import convolve.cntk as C

GOLDEN = Path(__file__).parents[1] / "golden/cntk_api"
RECORDED = json.loads((GOLDEN / "expressions.json").read_text(encoding="utf-8"))
PROGRAM = runpy.run_path(str(GOLDEN / "expressions.py"))


def test_all_were_recorded() -> None:
    assert [*RECORDED] == PROGRAM["EXPRESSIONS"]


@pytest.mark.parametrize("expression", RECORDED)
def test_an_expression_is_what_cntk_recorded(expression: str) -> None:
    outputs, gradients = PROGRAM["answer"](C, expression)
    wanted, wanted_gradients = RECORDED[expression]
    assert [each[:2] for each in outputs] == [each[:2] for each in wanted]
    assert np.allclose([each[2:] for each in outputs], [each[2:] for each in wanted], rtol=1e-4, atol=1e-4)
    assert np.allclose(gradients, wanted_gradients, rtol=1e-4, atol=1e-4)
