"""The part of a recipe about the network."""

from dataclasses import dataclass, fields
from typing import Any, Literal

from convolve.errors import UsageError, unknown_name
from convolve.recipe_values import Steps
from convolve.specs.setting import setting
from convolve.transforms.transform import require

# Fields of data that the start also determines, and where its preprocessing has them.
START_SAYS = ("channels", "image_size", "resize", "crop_ratio", "mean", "scale", "orientation", "interpolation")


@dataclass(frozen=True)
class NetworkSpec:
    """Which network: the part of its description that is stored with the weights."""

    name: str = setting("convnet-mnist", "the network; with model.start, that one's own")
    variant: str = setting("", "variant of the network; empty: the original")
    dropout: Steps = setting((0.5,), "dropout probability for each epoch; the last one stays")
    batch_norm_time_constants: Steps = setting(
        (), "batch-norm time constant for each epoch, in samples; leading zeros keep the model's own"
    )
    head: Literal["", "linear", "mlp"] = setting(
        "", "new head for the start: linear, or mlp (one hidden layer); empty: linear if classes differ"
    )
    cut: str = setting(
        "", "the layer of the start, or node of its file, that the head is attached to; empty: the last but one"
    )

    def __post_init__(self) -> None:
        holds = bool(self.dropout) and all(0 <= p < 1 for p in self.dropout)
        require(holds, "model.dropout", "at least one value, each in [0, 1)", self.dropout)
        if self.cut and not self.head:  # the truncated network needs a head
            object.__setattr__(self, "head", "linear")


@dataclass(frozen=True)
class ModelSpec(NetworkSpec):
    """Which network, and what only its training needs to know."""

    start: str = setting("", "the trained network to start from, as --from: a file, a folder or timm:NAME")
    arch: str = setting("", "network of a start that is a PyTorch checkpoint, as --arch; empty: recognized")
    freeze: str = setting(
        "none",
        "layers of the start that are not trained. all: all but the head; NAME: up to and including that layer; "
        "none. One value for each epoch, for example all*3:layer3:none; the last one stays",
    )
    keep_batch_norm: bool = setting(
        False, "whether batch normalization keeps the start's statistics; frozen layers always do"
    )
    data_overrides: str = setting(
        "",
        f"fields of data that the recipe decides, not the start; --set adds to them. Any of {','.join(START_SAYS)}",
    )
    plan: str = setting(
        "",
        "plan of the recipe photos; your own settings override the plan's. auto: by the number of photographs; "
        "auto:5: the largest that should take 5 minutes; empty: none",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in filter(None, self.data_overrides.split(",")):
            if name not in START_SAYS:
                raise UsageError(f"model.data_overrides: {unknown_name('field', name, START_SAYS)}")
        for name, usual in (("head", ""), ("cut", ""), ("arch", ""), ("freeze", "none"), ("keep_batch_norm", False)):
            awaits_plan = name == "freeze" and bool(self.plan)
            if getattr(self, name) != usual and not (self.start or awaits_plan):
                raise UsageError(f"model.{name} is for a training that starts from a network: give one with --from")
        require(all(self.freezes), "model.freeze", "all, none or a layer, or several such as all*3:none", self.freeze)

    @property
    def freezes(self) -> tuple[str, ...]:
        """Which layers are frozen in each epoch; the last value stays."""
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
        """The part that is stored with the weights, with `changes`."""
        return NetworkSpec(**{f.name: getattr(self, f.name) for f in fields(NetworkSpec)} | changes)
