"""The trainer's hooks, and what an object on them adds to a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from convolve.records import EpochEvent

if TYPE_CHECKING:
    from convolve.training.plan import PlannedStep
    from convolve.training.trainer import Trainer


class Extra:
    """Does nothing; a subclass defines the hooks that it needs, and the state that a resumed run needs."""

    def on_step(self, trainer: Trainer, losses_M: Tensor, step: PlannedStep) -> None:
        """Called after each update. `losses_M` are those of this worker's shard of the batch, on the device."""

    def on_epoch_end(self, trainer: Trainer, epoch: EpochEvent) -> None:
        """Called after the evaluation of each epoch, once the trainer's position is that of the next."""

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def values(self) -> dict[str, Any]:
        """The state that is not tensors; it must be serializable as JSON."""
        return {}

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Continue from `tensors` and `values`."""
