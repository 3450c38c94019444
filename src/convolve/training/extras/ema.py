"""EMA: an exponential moving average of the weights, which evaluates better than the last step's weights do."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from convolve.training.extras.extra import Extra

if TYPE_CHECKING:
    from convolve.training.plan import PlannedStep
    from convolve.training.trainer import Trainer


class Ema(Extra):
    """`network` is the average. Its horizon is counted in samples, so that it does not depend on the batch size.

    In the first steps the horizon is a tenth of the samples seen so far, so that the initial weights are forgotten
    (Polyak averaging with warm-up, as in TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, source: nn.Module, horizon_samples: float) -> None:
        self.horizon_samples = horizon_samples
        self.network = copy.deepcopy(source).requires_grad_(False)

    def on_step(self, trainer: Trainer, losses_M: Tensor, step: PlannedStep) -> None:
        self.update(trainer.network, trainer.position.samples_seen, step.samples)

    @torch.no_grad()
    def update(self, source: nn.Module, samples_seen: int, batch_size: int) -> None:
        horizon = min(self.horizon_samples, samples_seen / 10)
        weight = 1 - math.exp(-batch_size / horizon)
        ours, theirs = list(self.network.state_dict().values()), list(source.state_dict().values())
        floats = [i for i, tensor in enumerate(ours) if tensor.is_floating_point()]
        torch._foreach_lerp_([ours[i] for i in floats], [theirs[i] for i in floats], weight)
        for i, tensor in enumerate(ours):
            if not tensor.is_floating_point():
                tensor.copy_(theirs[i])  # counters, such as batch norm's

    def tensors(self) -> dict[str, Tensor]:
        return self.network.state_dict()

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        self.network.load_state_dict(tensors)
