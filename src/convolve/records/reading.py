"""Records as the plain values of JSON, and back.

`to_json` and `from_json` are inverses. Input is untrusted: types, ranges and field names are checked. A field without a
default is always written, even as null; a field whose default is None is omitted when it is None.
"""

import types
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from convolve.atomic import parse_json, read_whole
from convolve.errors import ConvolveError, DataError, UnsupportedError, brief, unknown_name

T = TypeVar("T")
MOST_BYTES = 1 << 28  # limit for a file with one record; the largest that we write have a few megabytes
_TYPES: dict[Any, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"), int: ((int,), "a whole number"), float: ((int, float), "a number"),
    str: ((str,), "a text"),
}  # fmt: skip


class FieldError(ValueError):
    """A value that is not what its field holds; the message names the field."""


def to_json(value: Any) -> Any:
    """The plain values of a record."""
    if is_dataclass(value):
        items = [(item, getattr(value, item.name)) for item in fields(value)]
        return {item.name: to_json(v) for item, v in items if not (v is None and item.default is None)}
    if isinstance(value, dict):
        return {name: to_json(item) for name, item in value.items()}
    return [to_json(item) for item in value] if isinstance(value, list | tuple) else value


def from_json(kind: type[T], value: Any, field: str = "") -> T:
    """The record of this kind that `value` describes. Raises FieldError."""
    record: T = _checked(kind, value, field)
    return record


def read_record(path: Path, kind: type[T], mend: str, error: type[ConvolveError] = DataError) -> T:
    """The record that the file holds. Raises FileNotFoundError, or `error` with the file, the field and how to `mend`
    it."""
    try:
        return from_json(kind, parse_json(read_whole(path, error, MOST_BYTES).decode("utf-8")))
    except ValueError as damage:
        raise error(f"{path} is damaged ({damage}); {mend}") from None


def require_format(values: Any, known: int, path: object) -> None:
    """Raise UnsupportedError for a file of a newer version, whose fields may have changed."""
    found = values.get("format") if isinstance(values, dict) else None
    if type(found) is int and found != known:
        raise UnsupportedError(f"{path} has format {found}, this version reads {known}; update convolve")


def _checked(kind: Any, value: Any, field: str) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        checked = _checked(inner[0], value, field)
        for limit in inner[1:]:
            _require(limit.holds(checked), field, str(limit), value)
        return checked
    if origin in (Union, types.UnionType):  # the only unions are with None
        return None if value is None else _checked(inner[0], value, field)
    if is_dataclass(kind):
        return _record(kind, value, field)
    if origin is tuple:
        _require(isinstance(value, list), field, "a list", value)
        return tuple(_checked(inner[0], item, f"{field}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        _require(isinstance(value, dict), field, "a mapping", value)
        return {name: _checked(inner[1], item, f"{field}.{name}") for name, item in value.items()}
    if kind is Any:
        return value
    if issubclass(kind, StrEnum):
        _require(value in [*kind], field, f"one of {', '.join(kind)}", value)
        return kind(value)
    accepted, words = _TYPES[kind]
    _require(type(value) in accepted, field, words, value)
    try:
        return float(value) if kind is float else value
    except OverflowError:
        raise FieldError(f"{field or 'it'} is too large") from None


def _record(kind: Any, value: Any, field: str) -> Any:
    _require(isinstance(value, dict), field, "a mapping", value)
    hints, within = _hints(kind), f"{field}." if field else ""
    for name in value:
        if name not in hints:
            raise FieldError(within + unknown_name("field", str(name), hints))
    for item in fields(kind):
        if item.name not in value and item.default is MISSING:
            raise FieldError(f"{within}{item.name} is missing")
    return kind(**{name: _checked(hints[name], item, within + name) for name, item in value.items()})


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _require(holds: bool, field: str, expected: str, came: Any) -> None:
    if not holds:
        raise FieldError(f"{field or 'it'} must be {expected}, got {brief(came)}")
