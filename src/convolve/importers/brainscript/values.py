"""The values of BrainScript expressions. Everything is lazy: a thunk is an expression that has not been needed yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from convolve.errors import FormatError
from convolve.importers.brainscript.syntax import Expression, Spot
from convolve.importers.brainscript.text import Place

MAX_CALLS_SHOWN = 6  # of a chain of calls in a message


class Nothing:
    """BrainScript's `None`: an argument that was not given."""


NOTHING = Nothing()


@dataclass(frozen=True, eq=False)
class Frame:
    """A call in progress: of which function, from where, and inside which other call."""

    function: str
    spot: Spot
    outer: Frame | None


@dataclass(slots=True, eq=False)
class Thunk:
    """`expression` in `scope`, evaluated at most once; `path` names the result."""

    expression: Expression
    scope: Scope
    path: str
    frame: Frame | None
    value: Value | None = None
    running: bool = False


@dataclass(frozen=True, eq=False)
class Scope:
    """Names and their values; other names are looked up in `outer`."""

    members: dict[str, Item]
    outer: Scope | None


@dataclass(frozen=True, eq=False)
class Array:
    items: tuple[Item, ...]


@dataclass(frozen=True, eq=False)
class Record:
    """The scope that its members see; `r.x` looks into that scope's own members only, then into `aliases`."""

    scope: Scope
    aliases: Mapping[str, Item] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Function:
    """`parameters` are positional, `defaults` optional and given by name. `native` computes in Python, with all
    arguments evaluated; otherwise `body` does, in `scope`."""

    name: str
    parameters: tuple[str, ...]
    defaults: Mapping[str, Expression]
    scope: Scope
    body: Expression | None = None
    native: Callable[..., Any] | None = None


@dataclass(frozen=True, eq=False)
class Node:
    """An operation of the network. `attributes` holds its `inputs` and its settings, unevaluated."""

    operation: str
    attributes: Mapping[str, Item]
    path: str
    spot: Spot
    frame: Frame | None


Value = float | bool | str | Nothing | Array | Record | Function | Node
Item = Value | Thunk


def kind_of(value: Value) -> str:
    """How messages name the type of a value."""
    if isinstance(value, bool):
        return "a boolean"
    return _KINDS[type(value)]


_KINDS: dict[type, str] = {
    float: "a number",
    str: "a string",
    Nothing: "None",
    Array: "an array",
    Record: "a record",
    Function: "a function",
    Node: "a node of the network",
}


def failure(spot: Spot, frame: Frame | None, what: str) -> FormatError:
    """An error at `spot`, inside the calls of `frame`. In our library, it is at the call that led there."""
    calls: list[Frame] = []
    while frame is not None:
        calls.append(frame)
        frame = frame.outer
    called = ""
    while spot.in_library and calls:
        call = calls.pop(0)
        spot, called = call.spot, call.function
    if called not in ("", "apply") and called[0] != "_":
        what = f"{called}: {what}"
    place = spot.place
    chain = [f"in {call.function or 'a function'}, called at {_brief(call.spot.place, place)}" for call in calls]
    if len(chain) > MAX_CALLS_SHOWN:
        chain = [*chain[: MAX_CALLS_SHOWN - 1], f"{len(chain) - MAX_CALLS_SHOWN} more", chain[-1]]
    return place.error(what + (f" ({'; '.join(chain)})" if chain else ""))


def _brief(place: Place, beside: Place) -> str:
    """A place in a message about the same file, shortened."""
    return f"line {place.line}" if place.file == beside.file else f"{place.file} line {place.line}"
