"""The settings of an operation, read with their types."""

from __future__ import annotations

from convolve.graph.shapes import MAX_ELEMENTS, Shape, require
from convolve.importers.brainscript.network import Operation


def number(operation: Operation, name: str) -> float:
    value = operation.settings.get(name)
    if type(value) is not float:
        raise operation.error(f"{name} must be a number, it is {value!r}")
    return value


def integer(operation: Operation, name: str) -> int:
    value = number(operation, name)
    require(value.is_integer() and abs(value) <= MAX_ELEMENTS, f"{name} must be a whole number, it is {value:g}")
    return int(value)


def flag(operation: Operation, name: str) -> bool:
    value = operation.settings.get(name)
    if not isinstance(value, bool):
        raise operation.error(f"{name} must be true or false, it is {value!r}")
    return value


def integers(operation: Operation, name: str) -> Shape:
    """One whole number or several."""
    value = operation.settings.get(name)
    values = value if isinstance(value, tuple) else (value,)
    fits = all(type(v) is float and v.is_integer() and abs(v) <= MAX_ELEMENTS for v in values)
    require(fits and bool(values), f"{name} must be whole numbers such as (3:3), it is {value!r}")
    return tuple(int(v) for v in values if v is not None)


def flags(operation: Operation, name: str) -> list[bool]:
    value = operation.settings.get(name)
    values = value if isinstance(value, tuple) else (value,)
    require(all(isinstance(v, bool) for v in values) and bool(values), f"{name} must be true or false, it is {value!r}")
    return [v is True for v in values]
