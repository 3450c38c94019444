"""The part of a recipe about the learning rate."""

from dataclasses import dataclass
from typing import Literal

from convolve.errors import UsageError
from convolve.recipe_values import Steps
from convolve.specs.setting import setting
from convolve.transforms.transform import require


@dataclass(frozen=True)
class ScheduleSpec:
    """How the learning rate changes.

    "steps" takes one of `learning_rates` for each period; fewer epochs cut the list short, as with CNTK. "one_cycle"
    rises linearly to the first of `learning_rates` over `warmup_fraction` of the training and falls linearly to
    `final_fraction` of it; "cosine" falls along a cosine. Both stretch with the number of epochs.
    """

    kind: Literal["steps", "one_cycle", "cosine"] = setting(
        "steps", "steps: a list of rates; one_cycle and cosine: the first rate is the peak"
    )
    learning_rates: Steps = setting((0.1,), "one learning rate for each period; the last one stays")
    reference_batch_size: int = setting(
        0,
        "batch size that the rates are for. 0: any, on the mean gradient; 1: per sample, on the summed gradient; "
        "M: M samples",
    )
    period_samples: int = setting(0, "samples in a period; 0: one pass over the data")
    warmup_fraction: float = setting(0.0, "fraction of the training during which the rate rises")
    final_fraction: float = setting(0.0, "rate at the end, as a fraction of the peak")
    min_lr_per_sample: float = setting(0.0, "end the training when the rate on the summed gradient falls below this")

    def __post_init__(self) -> None:
        rates = self.learning_rates
        require(bool(rates) and min(rates) >= 0, "schedule.learning_rates", "at least one value, none negative", rates)
        for name in ("reference_batch_size", "period_samples", "min_lr_per_sample"):
            require(getattr(self, name) >= 0, f"schedule.{name}", "at least 0", getattr(self, name))
        for name in ("warmup_fraction", "final_fraction"):
            require(0 <= getattr(self, name) <= 1, f"schedule.{name}", "in [0, 1]", getattr(self, name))


@dataclass(frozen=True)
class PlateauSpec:
    """Reduce on plateau, once the listed learning rates are used up: CNTK's autoAdjustLR=adjustAfterEpoch.

    At the end of each interval, the mean of a metric is compared with that of the previous interval.
    """

    every_epochs: int = setting(1, "epochs in an interval")
    monitor: Literal["train_loss", "train_error", "validation_loss", "validation_error"] = setting(
        "train_loss", "the metric; validation: on the validation part, or else on the test set"
    )
    threshold: float = setting(0.0, "reduce the rate unless the metric improved by more than this fraction")
    factor: float = setting(0.618, "factor for reducing the rate")
    raise_threshold: float | None = setting(
        None, "raise the rate if the metric improved by more than this fraction; null: never"
    )
    raise_factor: float = setting(1.382, "factor for raising the rate")
    rollback: bool = setting(True, "if the metric got worse, undo the interval and train it again")

    def __post_init__(self) -> None:
        require(self.every_epochs >= 1, "plateau.every_epochs", "at least 1", self.every_epochs)
        for name in ("factor", "raise_factor"):
            require(getattr(self, name) > 0, f"plateau.{name}", "above 0", getattr(self, name))
        if self.rollback and not (self.threshold >= 0 and self.factor < 1):
            raise UsageError(  # otherwise the same interval at the same rate would get worse again, forever
                "plateau.rollback needs a rate that falls: set plateau.threshold to 0 or more, plateau.factor below 1"
            )
