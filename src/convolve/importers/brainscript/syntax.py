"""BrainScript text -> typed syntax tree. `grammar.lark` is the grammar."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from convolve.errors import FormatError
from convolve.importers.brainscript.text import Place, Text

if TYPE_CHECKING:
    from lark import Lark

LIBRARY = "library.bs"  # the file name of our layer library, which users cannot correct


@dataclass(frozen=True, slots=True)
class Spot:
    """Where an expression begins; line and column are computed when they are needed."""

    text: Text
    offset: int

    @property
    def place(self) -> Place:
        return self.text.place(self.offset)

    @property
    def in_library(self) -> bool:
        return self.text.pieces[0][1].file == LIBRARY

    def error(self, what: str) -> FormatError:
        return self.place.error(what)


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A part of the text; `spot` is where it begins, or that of an operator."""

    spot: Spot


@dataclass(frozen=True, slots=True, eq=False)
class Literal(Part):
    value: float | str | bool


@dataclass(frozen=True, slots=True, eq=False)
class Name(Part):
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Unary(Part):
    operator: str
    operand: Expression


@dataclass(frozen=True, slots=True, eq=False)
class Binary(Part):
    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True, eq=False)
class Sequence(Part):
    """a : b : c"""

    items: tuple[Expression, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Bracketed(Part):
    """[| a ; b |]"""

    items: tuple[Expression, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Range(Part):
    """array[first..last] (function)"""

    first: Expression
    last: Expression
    function: Expression


@dataclass(frozen=True, slots=True, eq=False)
class Condition(Part):
    condition: Expression
    then: Expression
    otherwise: Expression


@dataclass(frozen=True, slots=True, eq=False)
class Lambda(Part):
    """`defaults` has the optional parameters, which are given by name."""

    name: str
    parameters: tuple[str, ...]
    defaults: tuple[tuple[str, Expression], ...]
    body: Expression


@dataclass(frozen=True, slots=True, eq=False)
class Call(Part):
    function: Expression
    positional: tuple[Expression, ...]
    named: tuple[tuple[str, Expression], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Field(Part):
    """record.name"""

    record: Expression
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Element(Part):
    """array[index]"""

    array: Expression
    index: Expression


@dataclass(frozen=True, slots=True, eq=False)
class New(Part):
    kind: str
    operand: Expression


@dataclass(frozen=True, slots=True, eq=False)
class Include(Part):
    """The file's content takes its place: members, or one expression."""

    path: str


@dataclass(frozen=True, slots=True, eq=False)
class Member(Part):
    name: str
    value: Expression


@dataclass(frozen=True, slots=True, eq=False)
class RecordLiteral(Part):
    members: tuple[Member | Include, ...]


Expression = (
    Literal | Name | Unary | Binary | Sequence | Bracketed | Range | Condition | Lambda | Call | Field | Element
    | New | RecordLiteral | Include
)  # fmt: skip


def parse_expression(text: Text) -> Expression:
    """One expression, such as the `{...}` of a network. Raises FormatError with line and column."""
    expression: Expression = _parse(text, "expression")
    return expression


def parse_members(text: Text) -> tuple[Member | Include, ...]:
    """The members of an included file."""
    members: tuple[Member | Include, ...] = _parse(text, "members")
    return members


def _parse(text: Text, start: str) -> Any:
    import lark

    try:
        tree = _parser().parse(text.string, start=start)
    except lark.UnexpectedCharacters as error:
        at = error.pos_in_stream or 0
        raise text.error(at, f"{text.string[at]!r} has no meaning here; is a quote or a comment left open?") from None
    except lark.UnexpectedToken as error:
        token = error.token
        if token.type == "$END":
            raise text.error(len(text.string.rstrip()), f"the text ends where {_expected(error)} is expected") from None
        raise text.error(
            token.start_pos or 0, f"unexpected {str(token)[:40]!r}; {_expected(error)} is expected"
        ) from None
    return typed(tree, text, _RULES)


def _expected(error: Any) -> str:
    """What was possible there, in a few words."""
    wanted = set(error.expected)
    if "NUMBER" in wanted:
        return "a value"
    if "NAME" in wanted:
        return "a name"
    words = {"EQUAL": "=", "RPAR": ")", "RSQB": "]", "RBRACE": "}", "THEN": "then", "ELSE": "else", "__ANON_0": ".."}
    return " or ".join(repr(word) for key, word in words.items() if key in wanted) or "something else"


@cache
def _parser() -> Lark:
    """Built once, at the first use: the tables take a tenth of a second."""
    from lark import Lark

    grammar = resources.files("convolve.importers.brainscript").joinpath("grammar.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", lexer="basic", start=["expression", "members"], propagate_positions=True)


# -- parse tree -> syntax tree ----------------------------------------------------------------------------------------


def typed(tree: Any, text: Text, rules: Mapping[str, Callable[[Spot, list[Any]], Any]]) -> Any:
    """The typed tree, from the leaves up and without recursion: a text may be nested deeper than Python's stack."""
    built: dict[int, Any] = {}
    for part in tree.iter_subtrees():
        children = [built.get(id(child), child) for child in part.children]
        built[id(part)] = rules[part.data](Spot(text, getattr(part.meta, "start_pos", 0)), children)
    return built[id(tree)]


def _number(spot: Spot, children: list[Any]) -> Literal:
    digits = str(children[0])
    return Literal(spot, float(int(digits, 16)) if digits[:2] in ("0x", "0X") else float(digits))


def _binary(spot: Spot, children: list[Any]) -> Binary:
    left, operator, right = children
    return Binary(Spot(spot.text, operator.start_pos), str(operator), left, right)


def _function(spot: Spot, name: str, parameters: list[tuple[str, Expression | None]], body: Expression) -> Lambda:
    for place, (parameter, _) in enumerate(parameters):
        if parameter in (other for other, _ in parameters[:place]):
            raise spot.error(f"the parameter {parameter!r} is given twice")
    names = tuple(parameter for parameter, default in parameters if default is None)
    defaults = tuple((parameter, default) for parameter, default in parameters if default is not None)
    return Lambda(spot, name, names, defaults, body)


def _member(spot: Spot, children: list[Any]) -> Member:
    """f (x) = body is f = (x => body); v[i:first..last] = body is v = array[first..last] (i => body)."""
    name, *extras, value = children
    for extra in reversed(extras):
        if isinstance(extra, _Index):
            value = Range(spot, extra.first, extra.last, Lambda(spot, str(name), (extra.name,), (), value))
        else:
            value = _function(spot, str(name), extra, value)
    return Member(spot, str(name), value)


@dataclass(frozen=True)
class _Index:
    name: str
    first: Expression
    last: Expression


def _call(spot: Spot, children: list[Any]) -> Call:
    function, arguments = children
    positional = tuple(value for name, value in arguments if name is None)
    return Call(spot, function, positional, tuple((name, value) for name, value in arguments if name is not None))


_RULES: dict[str, Callable[[Spot, list[Any]], Any]] = {
    "members": lambda spot, children: tuple(children),
    **dict.fromkeys(("include", "included"), lambda spot, children: Include(spot, str(children[0])[1:-1])),
    "member": _member,
    "index": lambda spot, children: _Index(str(children[0]), children[1], children[2]),
    "parameters": lambda spot, children: children,
    "parameter": lambda spot, children: (str(children[0]), children[1] if len(children) > 1 else None),
    "lambda": lambda spot, children: Lambda(spot, "", (str(children[0]),), (), children[1]),
    "sequence": lambda spot, children: Sequence(spot, tuple(children)),
    "binary": _binary,
    "unary": lambda spot, children: Unary(spot, str(children[0]), children[1]),
    "field": lambda spot, children: Field(spot, children[0], str(children[1])),
    "element": lambda spot, children: Element(spot, children[0], children[1]),
    "call": _call,
    "number": _number,
    "string": lambda spot, children: Literal(spot, str(children[0])[1:-1]),
    "true": lambda spot, children: Literal(spot, True),
    "false": lambda spot, children: Literal(spot, False),
    "name": lambda spot, children: Name(spot, str(children[0])),
    "bracketed": lambda spot, children: Bracketed(spot, tuple(children)),
    "range": lambda spot, children: Range(spot, *children),
    "condition": lambda spot, children: Condition(spot, *children),
    "new": lambda spot, children: New(spot, str(children[0]), children[1]),
    "record": lambda spot, children: RecordLiteral(spot, children[0]),
    "arguments": lambda spot, children: children,
    "named": lambda spot, children: (str(children[0]), children[1]),
    "positional": lambda spot, children: (None, children[0]),
}
