"""What a recipe says of the network."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from convolve.errors import UsageError, unknown_name
from convolve.recipe_values import Steps
from convolve.specs.setting import setting
from convolve.transforms.transform import require

# Fields of data that a start says, too: where it lies in the preprocessing of the network.
START_SAYS = ("channels", "image_size", "resize", "crop_ratio", "mean", "scale", "orientation", "interpolation")


@dataclass(frozen=True)
class NetworkSpec:
    """Which network: what is kept of it with its weights."""

    name: str = setting("convnet-mnist", "which network; a start brings its own")
    variant: str = setting("", "a variant of it; empty: the original")
    dropout: Steps = setting((0.5,), "probability in each epoch; the last one holds")
    batch_norm_time_constants: Steps = setting(
        (), "samples, one value for each epoch in place of the network's own; 0 at the start leaves that"
    )
    head: Literal["", "linear", "mlp"] = setting(
        "", "a fresh head on the start: linear; mlp, with a hidden layer. empty: linear where the classes are others"
    )
    cut: str = setting("", "the layer of the start, or node of its file, that the head reads; empty: all but its last")

    def __post_init__(self) -> None:
        holds = bool(self.dropout) and all(0 <= p < 1 for p in self.dropout)
        require(holds, "model.dropout", "at least one value, each in [0, 1)", self.dropout)
        if self.cut and not self.head:  # what is left of the network needs one
            object.__setattr__(self, "head", "linear")


@dataclass(frozen=True)
class ModelSpec(NetworkSpec):
    """Which network, and what only its training needs to know."""

    start: str = setting("", "the network that training starts from, as --from: a file, a folder or timm:NAME")
    arch: str = setting("", "the architecture of a start that is a PyTorch checkpoint, as --arch; empty: recognized")
    freeze: str = setting(
        "none",
        "what of the start is frozen. all: all but the head; the name of a layer: up to and with it; none. One for "
        "each epoch, as all*3:layer3:none; the last one holds",
    )
    keep_batch_norm: bool = setting(False, "batch normalization keeps the start's statistics; frozen layers always do")
    data_overrides: str = setting(
        "",
        f"fields of data that hold although the start says them, which --set adds to: some of {','.join(START_SAYS)}",
    )
    plan: str = setting(
        "",
        "a plan of the recipe photos, whose settings hold but for those that are set; auto: by the number of "
        "photographs; auto:5: the largest of some 5 minutes; empty: this recipe as it stands",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in filter(None, self.data_overrides.split(",")):
            if name not in START_SAYS:
                raise UsageError(f"model.data_overrides: {unknown_name('field', name, START_SAYS)}")
        for name, usual in (("head", ""), ("cut", ""), ("arch", ""), ("freeze", "none"), ("keep_batch_norm", False)):
            awaits_plan = name == "freeze" and bool(self.plan)
            if getattr(self, name) != usual and not (self.start or awaits_plan):
                raise UsageError(f"model.{name} is for a training that starts from a network: give that with --from")
        require(all(self.freezes), "model.freeze", "all, none or a layer, or several, as all*3:none", self.freeze)

    @property
    def freezes(self) -> tuple[str, ...]:
        """What is frozen in each epoch; the last one holds."""
        words: list[str] = []
        for part in self.freeze.split(":"):
            word, times, count = part.partition("*")
            require(
                not times or (count.isdecimal() and int(count) > 0), "model.freeze", "such as all*3:none", self.freeze
            )
            words += [word] * int(count or 1)
        return tuple(words)

    def frozen_in(self, epoch: int) -> str:
        return self.freezes[min(epoch, len(self.freezes) - 1)]

    def network(self, **changes: Any) -> NetworkSpec:
        """What is kept with the weights, with `changes`."""
        return NetworkSpec(**{f.name: getattr(self, f.name) for f in fields(NetworkSpec)} | changes)
