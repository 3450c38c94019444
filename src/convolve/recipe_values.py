"""Plain values -> the typed fields of a recipe: from JSON, from YAML, and from the text of `--set`."""

import math
import types
import typing
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from convolve.atomic import parse_json
from convolve.errors import UsageError, brief, look_up, unknown_name
from convolve.transforms.table import TRANSFORMS
from convolve.transforms.transform import MAX_SIDE, Size, Transform, require

# One value for each period of a schedule; the last one stays from there on. Texts such as "0.001*10:0.0005*10:0.0001"
# (CNTK's notation) are accepted wherever such a list is.
Steps = tuple[float, ...]
MAX_STEPS = 100_000  # more epochs than any training has
NumberOrWord = int | str
ImageSize = NumberOrWord  # N, or "WxH"
Arguments = Mapping[str, Any]  # what another library takes: it says which, and checks them

# Renamed fields -> their present names.
RENAMED = {
    "adjust": "plateau",
    "data.side_ratio": "data.crop_ratio",
    "data.train_sizes": "data.progressive_sizes",
    "run.average_epochs": "run.ema_epochs",
    "optimizer.vector_rate": "optimizer.bias_lr",
    "schedule.least_rate_per_sample": "schedule.min_lr_per_sample",
}


def parse(kind: Any, value: Any, path: str, base: Any = None) -> Any:
    """`value` as the type `kind`; `base` supplies the fields that a mapping omits."""
    origin = get_origin(kind)
    if is_dataclass(kind):
        return _parse_dataclass(typing.cast(type, kind), value, path, base)
    if kind == Arguments:
        if value in (None, "none"):
            return {}
        if isinstance(value, str):  # from the command line
            with suppress(ValueError):
                value = parse_json(value)
        require(isinstance(value, Mapping), path, 'a mapping such as {"betas": [0.9, 0.95]}', value)
        return {**(base or {}), **value}
    if isinstance(value, Mapping) and not _has_parts(kind):
        name, inner = path.rpartition(".")[2], next(iter(value), "")
        raise UsageError(f"{path}.{inner}: {path} has no fields of its own; did you mean {name!r}?")
    if kind == tuple[Transform, ...]:
        return _parse_transforms(value, path)
    if kind == NumberOrWord:
        return _parse_number_or_word(value, path)
    if kind == Steps:  # ratios and means use the same notation
        return _parse_steps(value, path)
    if origin is Literal:
        if value not in get_args(kind):
            raise UsageError(f"{path}: {unknown_name('value', str(value), map(str, get_args(kind)))}")
        return value
    if origin in (types.UnionType, typing.Union):  # the only unions are with None
        return None if value in (None, "none") else parse(get_args(kind)[0], value, path, base)
    return _parse_scalar(kind, value, path)


def _has_parts(kind: Any) -> bool:
    return any(is_dataclass(part) for part in get_args(kind))


def _parse_dataclass(kind: type, value: Any, path: str, base: Any) -> Any:
    if not isinstance(value, Mapping):
        inside = ", ".join(f.name for f in fields(kind))
        raise UsageError(
            f"{path or 'recipe'} has fields of its own ({inside}); name one, for example {path}.{fields(kind)[0].name}"
        )
    hints = get_type_hints(kind)
    prefix = f"{path}." if path else ""
    for key in value:
        if f"{prefix}{key}" in RENAMED:
            raise UsageError(f"{prefix}{key} was renamed to {RENAMED[f'{prefix}{key}']}")
        if key not in hints:
            raise UsageError(f"{prefix}{key}: {unknown_name('field', str(key), hints)}")
    given = {key: parse(hints[key], item, prefix + key, getattr(base, key, None)) for key, item in value.items()}
    if base is not None:
        return replace(base, **given)
    try:
        return kind(**given)
    except TypeError:  # a field without a default is missing; only `name` has none
        raise UsageError(f"{prefix}name is missing; every recipe needs one") from None


def _parse_transforms(value: Any, path: str) -> tuple[Transform, ...]:
    if isinstance(value, str):  # from the command line
        with suppress(ValueError):
            value = parse_json(value)
    require(isinstance(value, list), path, 'a list such as [{"kind": "shift", "pixels": 2}]', value)
    return tuple(_parse_transform(item, f"{path}[{i}]") for i, item in enumerate(value))


def _parse_transform(value: Any, path: str) -> Transform:
    require(isinstance(value, Mapping) and "kind" in value, path, 'a mapping with a "kind"', value)
    kind = look_up(TRANSFORMS, str(value["kind"]), "transform", f"{path}.kind")
    rest = {key: item for key, item in value.items() if key != "kind"}
    parsed: Transform = _parse_dataclass(kind, rest, path, None)
    return parsed


def positive_numbers(values: Mapping[str, Any], path: str) -> dict[str, float]:
    """The same mapping, with its texts parsed as positive numbers."""
    numbers = {name: _parse_scalar(float, value, f"{path}.{name}") for name, value in values.items()}
    for name, number in numbers.items():
        require(number > 0, f"{path}.{name}", "above 0", number)
    return numbers


def size_of(image_size: ImageSize, path: str) -> Size | None:
    """(height, width); None for 0."""
    sides = str(image_size).split("x")
    are_sides = len(sides) <= 2 and all(side.isdecimal() and int(side) <= MAX_SIDE for side in sides)
    usable = are_sides and (len(sides) == 1 or min(map(int, sides)) > 0)
    require(usable, path, f"N or WxH, in pixels up to {MAX_SIDE}", image_size)
    return (int(sides[-1]), int(sides[0])) if int(sides[0]) else None


def _parse_number_or_word(value: Any, path: str) -> NumberOrWord:
    """A number if the text is one; otherwise the text is checked where the recipe is made."""
    if isinstance(value, str) and not value.isdecimal():
        return value
    number: int = _parse_scalar(int, value, path)
    return number


def _parse_steps(value: Any, path: str) -> Steps:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (_parse_scalar(float, value, path),)
    if isinstance(value, str):
        steps: list[float] = []
        for part in value.split(":") if value else ():  # an empty text empties a list: data.progressive_sizes=
            number, _, count = part.partition("*")
            times = _parse_scalar(int, count or "1", path)
            require(times >= 1, path, 'a repeat count of at least 1 after each "*"', value)
            require(len(steps) + times <= MAX_STEPS, path, f"at most {MAX_STEPS:,} numbers", value)
            steps += [_parse_scalar(float, number, path)] * times
        return tuple(steps)
    require(isinstance(value, list | tuple), path, 'a number, a list, or a text such as "0.1*10:0.01"', value)
    require(len(value) <= MAX_STEPS, path, f"at most {MAX_STEPS:,} numbers", value)
    return tuple(_parse_scalar(float, item, path) for item in value)


def _parse_scalar(kind: Any, value: Any, path: str) -> Any:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    if isinstance(value, str) and kind is not str:
        words = {"true": True, "false": False}
        try:
            value = words[value.strip().lower()] if kind is bool else kind(value)
        except (KeyError, ValueError):
            raise UsageError(f"{path} must be {names[kind]}, got {brief(value)}") from None
    if kind is float and type(value) is int:
        with suppress(OverflowError):
            value = float(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)) or (kind is int and abs(value) >> 63):
        raise UsageError(f"{path} must be {names[kind]}, got {brief(value)}")
    return value


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """{"run.epochs": 40} -> {"run": {"epochs": 40}}. "run" overrides "run.epochs"; a plain value never
    replaces parts."""
    mapping: dict[str, Any] = {}
    for path, setting in sorted(settings.items(), key=lambda item: -item[0].count(".")):
        *parts, name = path.split(".")
        inside = mapping
        for part in parts:
            inside = inside.setdefault(part, {})
        if name not in inside or not parts or isinstance(setting, Mapping):  # otherwise it is refused, by its name
            inside[name] = setting
    return mapping


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


def differences(one: Any, other: Any) -> list[str]:
    """The lines "path: a -> b" in which two recipes differ."""
    left, right = leaf_paths(one), leaf_paths(other)  # one of them may have a part that the other lacks
    paths = [*left, *(path for path in right if path not in left)]
    changed = [path for path in paths if path not in left or path not in right or left[path] != right[path]]
    return [f"{path}: {left.get(path)!r} -> {right.get(path)!r}" for path in changed]


def steps_text(values: Steps) -> str:
    """(0.1, 0.1, 0.01) -> "0.1*2:0.01", the short way to write a list of steps."""
    parts: list[tuple[float, int]] = []
    for value in values:
        if parts and parts[-1][0] == value:
            parts[-1] = (value, parts[-1][1] + 1)
        else:
            parts.append((value, 1))
    return ":".join(f"{_text(value)}*{count}" if count > 1 else _text(value) for value, count in parts)


def _text(value: float) -> str:
    """The shortest text that parses to exactly this number."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)
