"""What a training lowers, and what it counts as an error: one row each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from convolve.specs.run import RunSpec


@dataclass(frozen=True)
class Criterion:
    """`loss` is that of each sample; a sample counts as an error where its label is not what `predict` says.

    Both are functions of torch with their arguments bound, as they are called in each step.
    """

    loss: Callable[[Tensor, Tensor], Tensor]  # (logits_NK, labels_N) -> loss_N
    predict: Callable[[Tensor], Tensor]  # logits_NK -> labels_N


def cross_entropy(run: RunSpec) -> Criterion:
    """Of one class for each image. Label smoothing as in Szegedy et al. 2015, section 7."""
    loss = partial(F.cross_entropy, reduction="none", label_smoothing=run.label_smoothing)
    return Criterion(loss, partial(torch.argmax, dim=1))


CRITERIA: dict[str, Callable[[RunSpec], Criterion]] = {"cross_entropy": cross_entropy}
