"""The part of a recipe about a teacher."""

from dataclasses import dataclass

from convolve.errors import UsageError
from convolve.specs.setting import setting
from convolve.transforms.transform import require


@dataclass(frozen=True)
class DistillationSpec:
    """Knowledge distillation (G. Hinton et al. 2015): learn a teacher's probabilities as well as the labels."""

    teacher: str = setting("", "the trained network: any MODEL with the same classes")
    temperature: float = setting(4.0, "temperature: both networks' scores are divided by it before they are compared")
    weight: float = setting(0.9, "weight of the teacher's probabilities in the loss; the labels have the rest")

    def __post_init__(self) -> None:
        if not self.teacher:
            raise UsageError("distillation.teacher is missing; name a trained network, as --teacher does")
        require(self.temperature > 0, "distillation.temperature", "above 0", self.temperature)
        require(0 < self.weight <= 1, "distillation.weight", "in (0, 1]", self.weight)
