"""The hooks of the trainer, and what an object on them adds to a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from convolve.records import EpochEvent

if TYPE_CHECKING:
    from convolve.training.plan import PlannedStep
    from convolve.training.trainer import Trainer


class Extra:
    """Does nothing; a subclass defines the hooks that it needs, and what of itself a resumed run must have."""

    def on_step(self, trainer: Trainer, losses_M: Tensor, step: PlannedStep) -> None:
        """After each update. `losses_M` are those of this worker's shard of the batch, on the device."""

    def on_epoch_end(self, trainer: Trainer, epoch: EpochEvent) -> None:
        """After the evaluation of each epoch, once the trainer's position is that of the next."""

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def values(self) -> dict[str, Any]:
        """What is not a tensor; it must be JSON."""
        return {}

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Go on from `tensors` and `values`."""
