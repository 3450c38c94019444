"""Defaults for keywords of layers, inside a `with` block: `default_options(activation=relu, pad=True)`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_scopes: list[tuple[tuple[str, ...], dict[str, Any]]] = []  # (names of the layers it applies to, () for all; values)


class Unset:
    """Stands for a keyword that was not given."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return repr(self.value)


def default_override_or(value: Any) -> Unset:
    """The default of a keyword, which `default_options` may replace."""
    return Unset(value)


def is_default_override(value: Any) -> bool:
    return isinstance(value, Unset)


def current(name: str, default: Any, layer: str = "") -> Any:
    """The innermost value set for the keyword `name` of `layer`."""
    for layers, values in reversed(_scopes):
        if name in values and (not layers or layer in layers):
            return values[name]
    return default


def get_default_override(function: Any, **given: Any) -> Any:
    """The value of a keyword of `function`: the one given, else that of `default_options`, else its own default."""
    [(name, value)] = given.items()
    if not isinstance(value, Unset):
        return value
    return current(name, value.value, function if isinstance(function, str) else getattr(function, "__name__", ""))


@contextmanager
def default_options(**options: Any) -> Iterator[None]:
    """Default values for keywords of all layers that are created in the block."""
    with _scope((), options):
        yield


@contextmanager
def default_options_for(functions: Callable[..., Any] | list[Callable[..., Any]], **options: Any) -> Iterator[None]:
    """Default values for keywords of some layers only."""
    listed = functions if isinstance(functions, list | tuple) else [functions]
    with _scope(tuple(function.__name__ for function in listed), options):
        yield


@contextmanager
def _scope(layers: tuple[str, ...], options: dict[str, Any]) -> Iterator[None]:
    _scopes.append((layers, options))
    try:
        yield
    finally:
        _scopes.pop()
