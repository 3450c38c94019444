"""The part of a recipe about confidence: calibration, rejected images, sets of classes."""

from dataclasses import dataclass

from convolve.specs.setting import setting
from convolve.transforms.transform import require


@dataclass(frozen=True)
class ConfidenceSpec:
    """Confidence: learned at the end of a training, from images that the network was not trained on."""

    accept: float = setting(
        0.95,
        "answer this fraction of images like the training images; those farther away are none of these. 1: "
        "answer every image",
    )
    coverage: float = setting(0.9, "probability that the set of classes given with an answer contains the right one")

    def __post_init__(self) -> None:
        for name in ("accept", "coverage"):
            require(0 < getattr(self, name) <= 1, f"confidence.{name}", "in (0, 1]", getattr(self, name))
