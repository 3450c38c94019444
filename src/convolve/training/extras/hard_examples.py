"""Hard-example mining: later epochs train on the images with the largest losses.

After a third of a training on digits most losses are almost 0, and most of the work changes nothing. Katharopoulos and
Fleuret (2018) and Jiang et al. (2019, "selective backprop") spend it on the images with large losses;
docs/experiments.md has the measured effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convolve.records import EpochEvent
from convolve.training.extras.extra import Extra

if TYPE_CHECKING:
    from convolve.training.plan import Loader, PlannedStep
    from convolve.training.trainer import Trainer

_KEPT = 0.5  # of the earlier losses of an image, when it is met again: augmentation makes a single one noisy
_NEVER_MET = 9.0  # more than any image that was met: such an image comes first


class HardExamples(Extra):
    """`loss_N` is each image's recent loss; `at_start_N` is its value when the epoch began, which determines the order.

    Before `first_epoch` (from 0) the losses are only recorded. `order_N` are the images of the present epoch, in order.
    """

    def __init__(self, samples: int, first_epoch: float, device: torch.device) -> None:
        self.first_epoch = first_epoch
        self.loss_N = torch.full((samples,), _NEVER_MET, device=device)
        self.at_start_N = self.loss_N.clone()
        self.order_N = torch.empty(0, dtype=torch.int64)

    def order(self, loader: Loader, epoch: int) -> NDArray[np.int64]:
        order_N = loader.order(epoch, self.at_start_N if epoch >= self.first_epoch else None)
        self.order_N = torch.from_numpy(order_N)
        return order_N

    def on_step(self, trainer: Trainer, losses_M: Tensor, step: PlannedStep) -> None:
        if trainer.workers.size > 1:  # each worker knows the losses of its own shard
            losses_N = losses_M.new_zeros(step.samples)
            losses_N[step.shard.rows] = losses_M * step.shard.weight
            trainer.workers.sum(losses_N)
            losses_M = losses_N
        self.note(trainer.metrics.samples - step.samples, losses_M)

    def note(self, first: int, losses_M: Tensor) -> None:
        """Record `losses_M` for the images from position `first` of the order."""
        chosen_M = self.order_N[first : first + len(losses_M)].to(losses_M.device)
        self.loss_N[chosen_M] = torch.lerp(losses_M.clamp(max=_NEVER_MET), self.loss_N[chosen_M], _KEPT)

    def on_epoch_end(self, trainer: Trainer, epoch: EpochEvent) -> None:
        self.at_start_N = self.loss_N.clone()

    def tensors(self) -> dict[str, Tensor]:
        return {"loss_N": self.loss_N, "at_start_N": self.at_start_N}  # the next order depends on them

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        self.loss_N.copy_(tensors["loss_N"])
        self.at_start_N.copy_(tensors["at_start_N"])
