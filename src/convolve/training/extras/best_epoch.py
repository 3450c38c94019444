"""The best epoch on the validation part: its weights are kept, and the training may stop when no epoch
improves on it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from torch import Tensor

from convolve.records import EpochEvent
from convolve.training.extras.extra import Extra

if TYPE_CHECKING:
    from convolve.training.trainer import Trainer


class BestEpoch(Extra):
    """The smallest `error` so far, the `epoch` (from 1) that reached it, and its `weights`.

    For targets other than one class, the loss is compared. `patience`: stop after this many epochs without an
    improvement; 0: never.
    """

    def __init__(self, patience: int) -> None:
        self.patience, self.error, self.epoch = patience, math.inf, 0
        self.weights: dict[str, Tensor] = {}

    def on_epoch_end(self, trainer: Trainer, epoch: EpochEvent) -> None:
        judged = epoch.validation_loss if epoch.validation_error is None else epoch.validation_error
        if judged is not None and judged < self.error:
            self.error, self.epoch = judged, epoch.epoch
            self.weights = {name: tensor.clone() for name, tensor in trainer.evaluated.state_dict().items()}

    def stops(self, epochs_done: int) -> bool:
        return bool(self.patience and self.epoch and epochs_done - self.epoch >= self.patience)

    def tensors(self) -> dict[str, Tensor]:
        return self.weights

    def values(self) -> dict[str, Any]:
        return {"error": self.error, "epoch": self.epoch} if self.epoch else {}  # infinity is not JSON

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        self.weights = tensors
        self.error, self.epoch = values.get("error", math.inf), values.get("epoch", 0)
