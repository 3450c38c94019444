"""Weights that anyone can make again, and small checkpoints."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def weights_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Values that depend on the place of a tensor among the names and on its shape alone, and keep signals alive."""
    made = {}
    for place, name in enumerate(sorted(state)):
        shape = tuple(state[name].shape)
        wave = torch.sin(torch.arange(math.prod(shape), dtype=torch.float64) * 0.7 + place).reshape(shape)
        if name.endswith("num_batches_tracked"):
            made[name] = torch.zeros((), dtype=torch.int64)
        elif name.endswith(("running_var", "bn1.weight", "bn2.weight", "bn3.weight", "bn.weight")) or len(shape) == 1:
            made[name] = (1 + 0.1 * wave if "bias" not in name and "mean" not in name else 0.1 * wave).float()
        else:
            made[name] = (wave * (2 / math.prod(shape[1:])) ** 0.5).float()
    return made


def images_of(size: int = 64) -> Tensor:
    """Two images of `size` + 1 rows, so that a stride leaves an odd number of cells."""
    count = 2 * 3 * (size + 1) * size
    return torch.cos(torch.arange(count, dtype=torch.float64) * 0.31).reshape(2, 3, size + 1, size).float()
