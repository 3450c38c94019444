"""What a recipe says of the network."""

from __future__ import annotations

from dataclasses import dataclass

from convolve.recipe_values import Steps
from convolve.specs.setting import setting
from convolve.transforms.transform import require


@dataclass(frozen=True)
class ModelSpec:
    """Which network."""

    name: str = setting("convnet-mnist", "which network")
    variant: str = setting("", "a variant of it; empty: the original")
    dropout: Steps = setting((0.5,), "probability in each epoch; the last one holds")
    batch_norm_time_constants: Steps = setting(
        (), "samples, one value for each epoch in place of the network's own; 0 at the start leaves that"
    )

    def __post_init__(self) -> None:
        holds = bool(self.dropout) and all(0 <= p < 1 for p in self.dropout)
        require(holds, "model.dropout", "at least one value, each in [0, 1)", self.dropout)
