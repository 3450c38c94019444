"""A recipe says everything about a training: frozen values, checked where they are made.

A Python recipe, a JSON or YAML file and `--set dotted.path=value` all become the same `Recipe`
through the same three functions: `from_mapping`, `to_mapping`, `with_value`.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from convolve.errors import UsageError, unknown_name
from convolve.transforms.spec import TRANSFORMS, Transform

# One value for each period of a schedule; the last one holds from there on. Texts such as
# "0.001*10:0.0005*10:0.0001" (CNTK's notation) are accepted wherever such a list is.
Steps = tuple[float, ...]


@dataclass(frozen=True)
class DataSpec:
    """Which samples, in which order, and what happens to them on the way into the network.

    The network sees `(pixel - mean) * scale`, with pixels in 0..255.
    """

    name: str = "mnist"
    order: Literal["shuffled", "cntk", "file"] = "shuffled"
    mean: float = 0.0
    scale: float = 1 / 256
    train_transforms: tuple[Transform, ...] = ()
    validation_fraction: float = 0.0

    def __post_init__(self) -> None:
        _require(0 <= self.validation_fraction < 1, "data.validation_fraction", "in [0, 1)", self.validation_fraction)
        _require(self.scale != 0, "data.scale", "other than 0", self.scale)


@dataclass(frozen=True)
class ModelSpec:
    """Which network. `dropout` is one probability an epoch, the last one holding on."""

    name: str = "convnet-mnist"
    variant: str = ""
    dropout: Steps = (0.5,)

    def __post_init__(self) -> None:
        _require(all(0 <= p < 1 for p in self.dropout) and self.dropout, "model.dropout", "in [0, 1)", self.dropout)


@dataclass(frozen=True)
class OptimizerSpec:
    """CNTK's learners; the arithmetic and its source are in `training/optimizer.py`.

    `momentum` holds one value for each period of the schedule, read as `momentum_unit` says:
    "per_minibatch" (as it stands), "per_reference_batch" (for `momentum_reference_batch_size` samples), or
    "time_constant_samples" (exp(-samples / T); 0 means none).
    Clipping, `l1` and `l2` are per sample, as CNTK counts them; 0 switches each off.
    """

    name: Literal["sgd", "momentum_sgd", "nesterov", "adagrad", "adadelta", "adam", "fsadagrad"] = "momentum_sgd"
    momentum: Steps = (0.9,)
    momentum_unit: Literal["per_minibatch", "per_reference_batch", "time_constant_samples"] = "per_minibatch"
    momentum_reference_batch_size: int = 1
    unit_gain: bool = True
    variance_momentum: float = 0.9999986111120757
    variance_momentum_unit: Literal["per_minibatch", "per_sample"] = "per_sample"
    adadelta_rho: float = 0.95
    epsilon: float = 1e-8
    l1: float = 0.0
    l2: float = 0.0
    clip_per_sample: float = 0.0
    clip_by: Literal["truncation", "norm"] = "truncation"

    def __post_init__(self) -> None:
        _require(bool(self.momentum), "optimizer.momentum", "at least one value", self.momentum)
        if self.momentum_unit == "time_constant_samples":
            _require(min(self.momentum) >= 0, "optimizer.momentum", "time constants of 0 or more", self.momentum)
        else:
            _require(all(0 <= m < 1 for m in self.momentum), "optimizer.momentum", "in [0, 1)", self.momentum)
        _require(self.momentum_reference_batch_size >= 1, "optimizer.momentum_reference_batch_size", "at least 1",
                 self.momentum_reference_batch_size)
        for name in ("l1", "l2", "clip_per_sample"):
            _require(getattr(self, name) >= 0, f"optimizer.{name}", "at least 0", getattr(self, name))


@dataclass(frozen=True)
class ScheduleSpec:
    """How the learning rate moves.

    "steps" takes one of `learning_rates` for each `period_samples` (0: each pass over the data) and is cut short,
    not rescaled, by a smaller number of epochs, as CNTK's lists are. "one_cycle" rises linearly to the first
    of `learning_rates` over `warmup_fraction` of the training and falls linearly to `final_fraction` of it; "cosine" falls
    as a cosine does.

    `reference_batch_size` says what a rate is meant for: 0, the mean gradient of whatever batch comes; 1, the sum
    over the samples (CNTK's "per sample"); M, a minibatch of M samples.
    """

    kind: Literal["steps", "one_cycle", "cosine"] = "steps"
    learning_rates: Steps = (0.1,)
    reference_batch_size: int = 0
    period_samples: int = 0
    warmup_fraction: float = 0.0
    final_fraction: float = 0.0

    def __post_init__(self) -> None:
        _require(bool(self.learning_rates) and min(self.learning_rates, default=0) >= 0, "schedule.learning_rates",
                 "at least one value, none negative", self.learning_rates)
        _require(self.reference_batch_size >= 0, "schedule.reference_batch_size", "at least 0", self.reference_batch_size)
        _require(self.period_samples >= 0, "schedule.period_samples", "at least 0", self.period_samples)
        for name in ("warmup_fraction", "final_fraction"):
            _require(0 <= getattr(self, name) <= 1, f"schedule.{name}", "in [0, 1]", getattr(self, name))


@dataclass(frozen=True)
class RunSpec:
    """How long, how precisely and on what. Zero switches an option off."""

    epochs: int = 1
    seed: int = 0
    global_batch_size: int = 64
    accumulation_steps: int = 1
    eval_batch_size: int = 1000
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    device: str = "auto"
    threads: int = 0
    label_smoothing: float = 0.0
    average_epochs: float = 0.0
    early_stopping_epochs: int = 0
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        for name in ("epochs", "global_batch_size", "accumulation_steps", "eval_batch_size"):
            _require(getattr(self, name) >= 1, f"run.{name}", "at least 1", getattr(self, name))
        for name in ("seed", "threads", "average_epochs", "early_stopping_epochs", "checkpoint_seconds"):
            _require(getattr(self, name) >= 0, f"run.{name}", "at least 0", getattr(self, name))
        _require(0 <= self.label_smoothing < 1, "run.label_smoothing", "in [0, 1)", self.label_smoothing)


@dataclass(frozen=True)
class Recipe:
    """A whole training. `published` is the error that its source reports, as a fraction, where there is one."""

    name: str
    data: DataSpec = field(default_factory=DataSpec)
    model: ModelSpec = field(default_factory=ModelSpec)
    optimizer: OptimizerSpec = field(default_factory=OptimizerSpec)
    schedule: ScheduleSpec = field(default_factory=ScheduleSpec)
    run: RunSpec = field(default_factory=RunSpec)
    published_error: float | None = None

    def __post_init__(self) -> None:
        if self.run.early_stopping_epochs and not self.data.validation_fraction:
            raise UsageError("run.early_stopping_epochs needs a validation split: set data.validation_fraction, for example 0.1")


def to_mapping(value: Any) -> Any:
    """Recipe -> plain dicts, lists, numbers and strings, ready for JSON or YAML."""
    if type(value) in TRANSFORMS.values():
        kind = next(name for name, known in TRANSFORMS.items() if known is type(value))
        return {"kind": kind, **{f.name: getattr(value, f.name) for f in fields(value)}}
    if is_dataclass(value):
        return {f.name: to_mapping(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple):
        return [to_mapping(item) for item in value]
    return value


def from_mapping(mapping: Mapping[str, Any], base: Recipe | None = None) -> Recipe:
    """Plain dicts -> Recipe. Unknown keys and wrong types raise `UsageError` with the dotted path."""
    recipe: Recipe = _parse(Recipe, mapping, "", base)
    return recipe


def with_value(recipe: Recipe, path: str, text: str) -> Recipe:
    """`recipe` with the field at the dotted `path` replaced by what `text` says, as `--set path=text` does."""
    mapping: Any = text
    for key in reversed(path.split(".")):
        mapping = {key: mapping}
    return from_mapping(mapping, base=recipe)


def leaf_paths(value: Any, prefix: str = "") -> dict[str, Any]:
    """Every dotted path of a recipe and its value: {"run.epochs": 40, ...}."""
    leaves: dict[str, Any] = {}
    for f in fields(value):
        item, path = getattr(value, f.name), f"{prefix}{f.name}"
        if is_dataclass(item):
            leaves |= leaf_paths(item, f"{path}.")
        else:
            leaves[path] = item
    return leaves


def differences(one: Recipe, other: Recipe) -> list[str]:
    """The lines "path: a -> b" in which two recipes differ."""
    left, right = leaf_paths(one), leaf_paths(other)
    return [f"{path}: {left[path]!r} -> {right[path]!r}" for path in left if left[path] != right[path]]


def steps_text(values: Steps) -> str:
    """(0.1, 0.1, 0.01) -> "0.1*2:0.01", the short way to write a list of steps."""
    parts: list[tuple[float, int]] = []
    for value in values:
        if parts and parts[-1][0] == value:
            parts[-1] = (value, parts[-1][1] + 1)
        else:
            parts.append((value, 1))
    return ":".join(f"{value:g}*{count}" if count > 1 else f"{value:g}" for value, count in parts)


def _require(holds: bool, path: str, expected: str, came: object) -> None:
    if not holds:
        raise UsageError(f"{path} must be {expected}, got {came!r}")


def _parse(kind: Any, value: Any, path: str, base: Any = None) -> Any:
    """`value` as the type `kind`; `base` supplies what a mapping leaves out."""
    origin = get_origin(kind)
    if is_dataclass(kind):
        return _parse_dataclass(typing.cast(type, kind), value, path, base)
    if kind == tuple[Transform, ...]:
        items = value if isinstance(value, list) else []
        _require(isinstance(value, list), path, 'a list such as [{"kind": "shift", "pixels": 2}]', value)
        return tuple(_parse_transform(item, f"{path}[{i}]") for i, item in enumerate(items))
    if kind == Steps:
        return _parse_steps(value, path)
    if origin is Literal:
        if value not in get_args(kind):
            raise UsageError(f"{path}: {unknown_name('value', str(value), map(str, get_args(kind)))}")
        return value
    if origin in (types.UnionType, typing.Union):  # the only unions are "number or nothing"
        return None if value in (None, "none") else _parse(get_args(kind)[0], value, path)
    return _parse_scalar(kind, value, path)


def _parse_dataclass(kind: type, value: Any, path: str, base: Any) -> Any:
    if not isinstance(value, Mapping):
        inside = ", ".join(f.name for f in fields(kind))
        raise UsageError(f"{path or 'recipe'} has fields of its own ({inside}); name one, for example {path}.{fields(kind)[0].name}")
    hints = get_type_hints(kind)
    prefix = f"{path}." if path else ""
    for key in value:
        if key not in hints:
            raise UsageError(f"{prefix}{key}: {unknown_name('field', str(key), hints)}")
    given = {key: _parse(hints[key], item, prefix + key, getattr(base, key, None)) for key, item in value.items()}
    if base is not None:
        return replace(base, **given)
    try:
        return kind(**given)
    except TypeError:  # a field without a default is missing; only `name` has none
        raise UsageError(f"{prefix}name is missing; every recipe needs one") from None


def _parse_transform(value: Any, path: str) -> Transform:
    _require(isinstance(value, Mapping) and "kind" in value, path, 'a mapping with a "kind"', value)
    if value["kind"] not in TRANSFORMS:
        raise UsageError(f"{path}.kind: {unknown_name('transform', str(value['kind']), TRANSFORMS)}")
    rest = {key: item for key, item in value.items() if key != "kind"}
    parsed: Transform = _parse_dataclass(TRANSFORMS[value["kind"]], rest, path, None)
    return parsed


def _parse_steps(value: Any, path: str) -> Steps:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (float(value),)
    if isinstance(value, str):
        steps: list[float] = []
        for part in value.split(":"):
            number, _, count = part.partition("*")
            steps += [_parse_scalar(float, number, path)] * _parse_scalar(int, count or "1", path)
        return tuple(steps)
    _require(isinstance(value, list | tuple), path, 'a number, a list, or a text such as "0.1*10:0.01"', value)
    return tuple(_parse_scalar(float, item, path) for item in value)


def _parse_scalar(kind: Any, value: Any, path: str) -> Any:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    if isinstance(value, str) and kind is not str:
        words = {"true": True, "false": False}
        try:
            value = words[value.strip().lower()] if kind is bool else kind(value)
        except (KeyError, ValueError):
            raise UsageError(f"{path} must be {names[kind]}, got {value!r}") from None
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind or value in (float("inf"), float("-inf")) or value != value:
        raise UsageError(f"{path} must be {names[kind]}, got {value!r}")
    return value
