"""Defaults for the keywords of layers, within a `with` block: `default_options(activation=relu, pad=True)`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_scopes: list[tuple[tuple[str, ...], dict[str, Any]]] = []  # (names of the layers that it holds for; all: (), values)


class Unset:
    """What stands for a keyword that was not given."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return repr(self.value)


def default_override_or(value: Any) -> Unset:
    """A keyword's default, which `default_options` may replace."""
    return Unset(value)


def is_default_override(value: Any) -> bool:
    return isinstance(value, Unset)


def current(name: str, default: Any, layer: str = "") -> Any:
    """The innermost value that is set for the keyword `name` of `layer`."""
    for layers, values in reversed(_scopes):
        if name in values and (not layers or layer in layers):
            return values[name]
    return default


def get_default_override(function: Any, **given: Any) -> Any:
    """The value of one keyword of `function`: what was given, or what `default_options` says, or its own default."""
    [(name, value)] = given.items()
    if not isinstance(value, Unset):
        return value
    return current(name, value.value, function if isinstance(function, str) else getattr(function, "__name__", ""))


@contextmanager
def default_options(**options: Any) -> Iterator[None]:
    """Values for keywords of all layers that are made within the block and leave them out."""
    with _scope((), options):
        yield


@contextmanager
def default_options_for(functions: Callable[..., Any] | list[Callable[..., Any]], **options: Any) -> Iterator[None]:
    """The same, for some layers alone."""
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
