"""What a run decides when it starts, and keeps to its end."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from convolve.training.precision import Precision


@dataclass(frozen=True)
class Session:
    device: torch.device
    precision: Precision
    threads: int
