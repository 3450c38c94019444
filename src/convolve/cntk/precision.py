"""The precision of training steps: fp32, as in CNTK, or a faster one if `convolve run --precision` allows it."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from convolve.cntk import device as devices
from convolve.cntk import feeding, running
from convolve.cntk.nodes import leaves_of
from convolve.cntk.variables import Stored, Variable
from convolve.errors import UsageError
from convolve.training.precision import Precision, fastest_right

FP32 = Precision("fp32", "as CNTK")
NAMES = ("auto", "fp32", "bf16")
_asked = {"precision": "fp32"}


def ask(name: str) -> None:
    """Allow this precision for the steps of all trainers from now on."""
    if name not in NAMES:
        raise UsageError(f"--precision must be one of {', '.join(NAMES)}, not {name!r}")
    _asked["precision"] = name


def choose(root: Variable, given: feeding.Minibatch) -> Precision:
    """Choose for a trainer whose network ends in `root`, by the gradients of its first minibatch."""
    if _asked["precision"] == "fp32":
        return FP32
    weights = [leaf.data for leaf in leaves_of([root]) if isinstance(leaf, Stored) and leaf.is_trainable]

    def gradients(precision: Precision) -> list[Tensor]:
        """The gradients as if all samples had one class, so that they add up (`training/precision.py`)."""
        with torch.enable_grad():
            [scores] = passed(precision, [root], given)
            scores = F.pad(scores.flatten(1), (0, 1))  # one class more: a single one would have no gradient
            loss = F.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.int64, device=scores.device))
            found = torch.autograd.grad(loss, weights, allow_unused=True)
        return [each for each in found if each is not None]

    chosen = fastest_right(_asked["precision"], gradients, devices.used())
    warnings.warn(f"training steps compute in {chosen.name}: {chosen.reason}", stacklevel=2)
    return chosen


def passed(
    precision: Precision, outputs: Sequence[Variable], given: feeding.Minibatch, trainer: Any = None
) -> list[Tensor]:
    """`running.passed` in this precision, in a step of the `trainer` or outside of one; the outputs are fp32."""
    is_step = trainer is not None
    if precision.name == "fp32":
        return running.passed(outputs, given, is_step, owner=trainer)
    for each in given.values():
        if each.tensor.ndim == 4:
            last = torch.empty_like(each.tensor, memory_format=torch.channels_last)  # also for single maps
            each.tensor = last.copy_(each.tensor)
    with precision.autocast(devices.used()):
        found = running.passed(outputs, given, is_step, owner=trainer)
    return [tensor.float() if tensor.dtype == torch.bfloat16 else tensor for tensor in found]
