"""Reduce on plateau: the learning rate is reduced after epochs that improved too little, and they may be undone.

Source: autoAdjustLR=adjustAfterEpoch of CNTK 2.7's SGD, with its defaults.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from convolve.records import EpochEvent
from convolve.specs.schedule import PlateauSpec
from convolve.training.extras.extra import Extra
from convolve.training.snapshot import Snapshot, part_of, restore, take_snapshot

if TYPE_CHECKING:
    from convolve.training.trainer import Trainer


class Plateau(Extra):
    """The schedule's rate is multiplied by `factor`; `metric` is the mean of the last valid interval, with which the
    mean of each interval is compared.

    The first `listed_epochs`, for which the schedule lists rates, are only recorded.
    """

    def __init__(self, spec: PlateauSpec, listed_epochs: int) -> None:
        self.spec, self.listed_epochs = spec, listed_epochs
        self.factor, self.metric = 1.0, None  # type: float, float | None
        self.total, self.epochs = 0.0, 0  # the sum over the epochs of the interval at hand
        self.earlier: Snapshot | None = None  # the end of the last interval that counts

    def on_epoch_end(self, trainer: Trainer, epoch: EpochEvent) -> None:
        before = self.factor
        went_back = self.note(trainer, self._metric_of(epoch))
        if went_back:
            trainer.callback(
                "note", {"message": f"{self.spec.monitor} got worse: back to the end of epoch {trainer.position.epoch}"}
            )
        if self.factor != before:
            trainer.callback(
                "note", {"message": f"the learning rate is now {self.factor:g} times the last one in the list"}
            )

    def _metric_of(self, epoch: EpochEvent) -> float:
        value = getattr(epoch, self.spec.monitor)
        if value is None:  # without a validation part, each epoch is evaluated on the test set
            value = getattr(epoch, self.spec.monitor.replace("validation", "test"))
        return float(value)

    def note(self, trainer: Trainer, metric: float) -> bool:
        """Record the `metric` of the epoch that has ended. True: its interval is undone, to be trained again."""
        self.total, self.epochs = self.total + metric, self.epochs + 1
        if self.epochs < self.spec.every_epochs:
            return False
        mean, before = self.total / self.epochs, self.metric
        self.total, self.epochs = 0.0, 0
        is_worse = False
        if before is not None and trainer.position.epoch > self.listed_epochs:
            self._change_rate(before, mean)
            is_worse = mean > before
        if is_worse and self.spec.rollback:
            self._roll_back(trainer)
            return True
        self.metric = mean
        if self.spec.rollback:
            self.earlier = None  # not part of the snapshot
            self.earlier = take_snapshot(trainer, without="plateau").copy()
        return False

    def _change_rate(self, before: float, mean: float) -> None:
        spec = self.spec
        if before - mean <= spec.threshold * before:
            self.factor *= spec.factor
        elif spec.raise_threshold is not None and before - mean > spec.raise_threshold * before:
            self.factor *= spec.raise_factor

    def _roll_back(self, trainer: Trainer) -> None:
        """Restore the snapshot, except for this object, the count of updates and the training time."""
        assert self.earlier is not None  # only the ends of intervals are kept
        at = trainer.position
        restore(trainer, self.earlier, without="plateau")
        trainer.position.step = at.step
        trainer.position.train_seconds, trainer.position.wait_seconds = at.train_seconds, at.wait_seconds

    def tensors(self) -> dict[str, Tensor]:
        return {f"earlier.{name}": tensor for name, tensor in self.earlier.tensors.items()} if self.earlier else {}

    def values(self) -> dict[str, Any]:
        earlier = self.earlier.values if self.earlier else None
        return {
            "factor": self.factor, "metric": self.metric, "total": self.total, "epochs": self.epochs,
            "earlier": earlier,
        }  # fmt: skip

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        self.factor, self.metric = values["factor"], values["metric"]
        self.total, self.epochs = values["total"], values["epochs"]
        self.earlier = Snapshot(part_of(tensors, "earlier."), values["earlier"]) if values["earlier"] else None
