"""The optimizers of torch.optim, by names such as "torch.adamw", and the arguments that each accepts."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from convolve.errors import UsageError, brief, unknown_name

if TYPE_CHECKING:
    import torch

PREFIX = "torch."
_NOT_HERE = {"Optimizer", "LBFGS", "SparseAdam"}  # the base class; one that needs a closure; one for sparse gradients


def torch_optimizer(name: str) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
    """The class that `name` stands for, and its arguments with their defaults, without the learning rate."""
    import torch

    known = {
        f"{PREFIX}{key.lower()}": kind
        for key, kind in vars(torch.optim).items()
        if inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer) and key not in _NOT_HERE
    }
    if name.lower() not in known:
        raise UsageError(f"optimizer.name: {unknown_name('optimizer', name, known)}")
    kind = known[name.lower()]
    parameters = inspect.signature(kind).parameters.values()
    return kind, {p.name: p.default for p in parameters if p.name not in ("params", "lr")}


def checked_arguments(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """`given`, with each value as the optimizer `name` takes it; texts are those of `--set`: "0.9:0.95", "none"."""
    _, known = torch_optimizer(name)
    for key in given:
        if key == "lr":
            raise UsageError("optimizer.arguments.lr: the learning rate comes from schedule.learning_rates")
        if key not in known:
            raise UsageError(f"optimizer.arguments.{key}: unknown argument; {name} takes {', '.join(sorted(known))}")
    return {key: _value(value, f"optimizer.arguments.{key}") for key, value in given.items()}


def _value(value: Any, path: str) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_value(item, path) for item in value)
    if not isinstance(value, str):
        return value
    words = {"none": None, "true": True, "false": False}
    if value.lower() in words:
        return words[value.lower()]
    if ":" in value:
        return tuple(_value(part, path) for part in value.split(":"))
    try:
        number = float(value)
    except ValueError:
        raise UsageError(
            f"{path} must be a number, numbers as 0.9:0.95, true, false or none, got {brief(value)}"
        ) from None
    return int(number) if number.is_integer() and "." not in value and "e" not in value.lower() else number
