"""The text of an NDL or MEL script -> its statements. `grammar.lark` is the grammar."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from convolve.importers.brainscript.syntax import Part, Spot, typed
from convolve.importers.brainscript.text import Text

if TYPE_CHECKING:
    from lark import Lark


@dataclass(frozen=True, slots=True, eq=False)
class Word(Part):
    """A name, a number, a pattern or a path; a `quoted` one is not a name."""

    text: str
    quoted: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Items(Part):
    """(a : b), {a, b}"""

    items: tuple[Expression, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Call(Part):
    function: str
    positional: tuple[Expression, ...]
    named: tuple[tuple[str, Word | Items], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Embedded(Part):
    """[...]: a network inside a MEL script."""

    script: tuple[Statement, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Assignment(Part):
    """name = value; for a call without assignment, `name` is empty."""

    name: str
    value: Expression


@dataclass(frozen=True, slots=True, eq=False)
class Macro(Part):
    """name (parameters) { script }; `defaults` are those of optional parameters."""

    name: str
    parameters: tuple[str, ...]
    defaults: tuple[tuple[str, Word | Items], ...]
    script: tuple[Statement, ...]


Expression = Word | Items | Call | Embedded
Statement = Assignment | Macro


def parse_script(text: Text) -> tuple[Statement, ...]:
    """The statements of a script. Raises FormatError with line and column."""
    import lark

    try:
        tree = _parser().parse(text.string)
    except lark.UnexpectedCharacters as error:
        at = error.pos_in_stream or 0
        raise text.error(at, f"{text.string[at]!r} has no meaning here; is a quote left open?") from None
    except lark.UnexpectedToken as error:
        if error.token.type == "$END":
            raise text.error(len(text.string.rstrip()), "the text ends within a statement; is a brace open?") from None
        at = error.token.start_pos or 0
        raise text.error(at, f"unexpected {str(error.token)[:40]!r}; `name = Function (...)` is expected") from None
    script: tuple[Statement, ...] = typed(tree, text, _RULES)
    return script


@cache
def _parser() -> Lark:
    from lark import Lark

    grammar = resources.files("convolve.importers.brainscript.ndl").joinpath("grammar.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", lexer="basic", start="script", propagate_positions=True)


def _macro(spot: Spot, children: list[Any]) -> Macro:
    name, (positional, defaults), script = children
    for parameter in positional:
        if not isinstance(parameter, Word):
            raise parameter.spot.error(f"a parameter of the macro {str(name)!r} must be a name")
    body = script if isinstance(script, tuple) else (Assignment(script.spot, "", script),)
    return Macro(spot, str(name), tuple(parameter.text for parameter in positional), defaults, body)


def _arguments(spot: Spot, children: list[Any]) -> tuple[tuple[Expression, ...], tuple[tuple[str, Any], ...]]:
    positional = tuple(value for name, value in children if name is None)
    return positional, tuple((name, value) for name, value in children if name is not None)


def _call(spot: Spot, children: list[Any]) -> Call:
    return Call(spot, str(children[0]), *children[1])


_RULES: dict[str, Callable[[Spot, list[Any]], Any]] = {
    "script": lambda spot, children: tuple(children),
    "assignment": lambda spot, children: Assignment(spot, str(children[0]), children[1]),
    "command": lambda spot, children: Assignment(spot, "", _call(spot, children)),
    "short_macro": _macro,
    "macro": _macro,
    "embedded": lambda spot, children: Embedded(spot, children[0]),
    "call": _call,
    "word": lambda spot, children: Word(spot, str(children[0])),
    "string": lambda spot, children: Word(spot, str(children[0])[1:-1], quoted=True),
    "array": lambda spot, children: Items(spot, tuple(children)),
    "arguments": _arguments,
    "named": lambda spot, children: (str(children[0]), children[1]),
    "positional": lambda spot, children: (None, children[0]),
}
