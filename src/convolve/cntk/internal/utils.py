"""A forward and a backward pass in one call."""

from typing import Any

import numpy as np


def eval(
    op: Any, arguments: Any = None, precision: Any = None, device: Any = None, backward_pass: bool = False,
    expected_backward: Any = None,
) -> Any:  # fmt: skip
    """(values of the outputs, gradients with respect to `expected_backward`)."""
    if not backward_pass:
        _, values = op.forward(arguments, op.outputs, None)
        return values, None
    state, values = op.forward(arguments, op.outputs, set(op.outputs))
    roots = {variable: _ones_like(value, precision) for variable, value in values.items()}
    return values, op.backward(state, roots, set(expected_backward if expected_backward is not None else arguments))


def _ones_like(batch: Any, precision: Any) -> Any:
    if isinstance(batch, list):
        return [np.ones_like(item) for item in batch]
    return np.ones_like(batch)
