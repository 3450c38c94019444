"""Functions with CNTK's gradients where a function itself has none."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from convolve.graph import functions

_SMALLEST = math.exp(-85.1)  # CNTK takes the gradient of a logarithm from its result


def log(x: Tensor) -> Tensor:
    raised = x + (x.clamp(min=_SMALLEST) - x).detach()
    return torch.where(x < 1e-37, -85.1 + (raised - raised.detach()) / _SMALLEST, raised.log())


def sqrt(x: Tensor) -> Tensor:
    """Of negative numbers 0, with an infinite gradient."""
    return (x + (x.clamp(min=0) - x).detach()).sqrt()


WITH_GRADIENTS: dict[Any, Callable[..., Tensor]] = {functions.log: log, functions.sqrt: sqrt}
