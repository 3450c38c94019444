"""A recipe says everything about a training: frozen values, checked where they are made.

A Python recipe, a JSON or YAML file and `--set dotted.path=value` all become the same `Recipe`
through the same three functions: `from_mapping`, `to_mapping`, `with_values`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from convolve.errors import UsageError, brief
from convolve.names import portable
from convolve.recipe_values import nested, parse
from convolve.specs.confidence import ConfidenceSpec
from convolve.specs.data import DataSpec
from convolve.specs.distillation import DistillationSpec
from convolve.specs.distributed import DistributedSpec
from convolve.specs.model import ModelSpec
from convolve.specs.optimizer import OptimizerSpec
from convolve.specs.run import RunSpec
from convolve.specs.schedule import PlateauSpec, ScheduleSpec
from convolve.specs.setting import setting
from convolve.transforms.table import TRANSFORMS

# The criteria that suit each data.target.
_CRITERIA = {
    "class": ("cross_entropy", "focal"), "classes": ("binary_cross_entropy",),
    "number": ("square_error", "root_mean_square", "l1"),
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """Everything about one training."""

    name: str
    data: DataSpec = field(default_factory=DataSpec)
    model: ModelSpec = field(default_factory=ModelSpec)
    optimizer: OptimizerSpec = field(default_factory=OptimizerSpec)
    schedule: ScheduleSpec = field(default_factory=ScheduleSpec)
    run: RunSpec = field(default_factory=RunSpec)
    distributed: DistributedSpec | None = setting(
        None, "how several workers train; null: gradients are summed in each step"
    )
    plateau: PlateauSpec | None = setting(None, "reduce on plateau; plateau.every_epochs=1 turns it on; null: off")
    confidence: ConfidenceSpec | None = setting(
        None,
        "calibrated probabilities, none of these, sets of classes: learned from held-out images (a tenth, unless "
        "data.validation_fraction says more); confidence.accept=0.95 turns it on; null: off",
    )
    distillation: DistillationSpec | None = setting(
        None, "knowledge distillation; distillation.teacher=MODEL turns it on; null: off"
    )
    published_error: float | None = setting(None, "the error that the recipe's source reports, as a fraction")

    def __post_init__(self) -> None:
        if portable(self.name) != self.name:  # it may be a stranger's, and leads to runs/NAME
            raise UsageError(f"name: no folder can be called {brief(self.name)}; use letters, digits and -")
        self._check_criterion()
        if not (self.run.epochs or self.model.start or self.model.plan):
            raise UsageError("run.epochs must be at least 1 without a network to start from (--from)")
        if self.run.early_stopping_epochs and self.run.keep != "best":
            raise UsageError("run.early_stopping_epochs needs run.keep=best")
        if self.takes_local_steps and self.run.ema_epochs:
            raise UsageError("run.ema_epochs needs one network in step; leave it out with distributed.block_samples")
        if self.takes_local_steps and self.plateau and self.plateau.rollback:
            raise UsageError(
                "plateau.rollback needs one network in step; set it to false with distributed.block_samples"
            )
        if self.plateau and (self.schedule.kind != "steps" or self.schedule.period_samples):
            raise UsageError("plateau needs schedule.kind=steps and schedule.period_samples=0")
        if self._first_lr_per_sample() < self.schedule.min_lr_per_sample:
            raise UsageError("schedule.min_lr_per_sample is above the first rate: nothing would be trained")
        if self.data.hard_fraction < 1 and (self.run.epoch_samples or self.run.global_batch_sizes):
            raise UsageError(
                "data.hard_fraction needs run.epoch_samples=0 and a single run.global_batch_size; leave one of them out"
            )

    def _check_criterion(self) -> None:
        target, asked = self.data.target, self.run.criterion
        if asked not in ("auto", *(known := _CRITERIA[target])):
            raise UsageError(f"run.criterion={asked} is not for data.target={target}; choose {' or '.join(known)}")
        if target != "class" and self.distillation:
            raise UsageError(f"distillation is for one class per image; leave it out with data.target={target}")
        if target != "class" and self.plateau and self.plateau.monitor.endswith("_error"):
            raise UsageError(f"plateau.monitor={self.plateau.monitor} is for one class per image; choose a loss")

    @property
    def takes_local_steps(self) -> bool:
        """Whether the workers update their networks independently within each block."""
        return bool(self.distributed and self.distributed.block_samples)

    def _first_lr_per_sample(self) -> float:
        schedule = self.schedule
        rises_from_0 = schedule.kind != "steps" and schedule.warmup_fraction > 0
        rate = 0.0 if rises_from_0 else schedule.learning_rates[0]
        return rate / (schedule.reference_batch_size or self.run.batch_size(0))


def to_mapping(value: Any) -> Any:
    """Recipe -> plain dicts, lists, numbers and strings, ready for JSON or YAML."""
    if type(value) in TRANSFORMS.values():
        kind = next(name for name, known in TRANSFORMS.items() if known is type(value))
        return {"kind": kind, **{f.name: to_mapping(getattr(value, f.name)) for f in fields(value)}}
    if is_dataclass(value):
        return {f.name: to_mapping(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple):
        return [to_mapping(item) for item in value]
    if isinstance(value, Mapping):
        return {name: to_mapping(item) for name, item in value.items()}
    return value


def from_mapping(mapping: Mapping[str, Any], base: Recipe | None = None) -> Recipe:
    """Plain dicts -> Recipe. Unknown keys and wrong types raise `UsageError` with the dotted path."""
    recipe: Recipe = parse(Recipe, mapping, "", base)
    return recipe


def with_values(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """`recipe` with the field at each dotted path replaced, as by `--set path=value`.

    All are replaced at once, since one setting may be valid only together with another.
    """
    return from_mapping(nested(settings), base=recipe)
