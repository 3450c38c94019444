"""BrainScript's operators, on plain values and on nodes of the network."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from convolve.errors import FormatError
from convolve.importers.brainscript.syntax import Binary, Spot, Unary
from convolve.importers.brainscript.values import Item, Node, Record, Scope, Value, kind_of


class Maker(Protocol):
    """What operators need from the evaluator: errors and nodes inside the current call."""

    def error(self, spot: Spot, what: str) -> FormatError: ...
    def node(self, operation: str, inputs: Sequence[Item], path: str, spot: Spot, **settings: Item) -> Node: ...


MAX_LETTERS = 100_000  # of a string

# The right operand cannot change these results.
SHORT_CUTS = {"&&": False, "||": True}

_COMPARISONS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "==": ("Equal", lambda a, b: a == b),
    "!=": ("NotEqual", lambda a, b: a != b),
    "<": ("Less", lambda a, b: a < b),
    "<=": ("LessEqual", lambda a, b: a <= b),
    ">": ("Greater", lambda a, b: a > b),
    ">=": ("GreaterEqual", lambda a, b: a >= b),
}
_COMPARED = {sign: float | str | bool if sign in ("==", "!=") else float | str for sign in _COMPARISONS}
_NODES = {"+": "Plus", "-": "Minus", ".*": "ElementTimes", **{sign: name for sign, (name, _) in _COMPARISONS.items()}}

# CNTK's names for the operands of an operator's node: z.PlusArgs[0].
ARGUMENTS = {sign: f"{name}Args" for sign, name in (*_NODES.items(), ("*", "Times"), ("/", "ElementTimes"))}

_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "%": math.fmod,
    "**": lambda a, b: float(a**b),
}


def unary(make: Maker, e: Unary, value: Value, path: str) -> Value:
    if e.operator == "!" and isinstance(value, bool):
        return not value
    if e.operator != "!" and type(value) is float:
        return -value if e.operator == "-" else value
    if e.operator != "!" and isinstance(value, Node):
        return make.node("Negate", [value], path, e.spot) if e.operator == "-" else value
    raise make.error(e.spot, f"{e.operator!r} is not defined for {kind_of(value)}")


def binary(make: Maker, e: Binary, left: Value, right: Value, path: str) -> Value:
    if isinstance(left, Node) or isinstance(right, Node):
        return _node(make, e, left, right, path)
    sign = e.operator
    if sign in _ARITHMETIC and type(left) is float and type(right) is float:
        return _number(make, e, left, right)
    if sign in SHORT_CUTS and isinstance(left, bool) and isinstance(right, bool):
        return right
    if sign in _COMPARISONS and type(left) is type(right) and isinstance(left, _COMPARED[sign]):
        return _COMPARISONS[sign][1](left, right)
    if sign == "+" and isinstance(left, str) and isinstance(right, str):
        if len(left) + len(right) > MAX_LETTERS:
            raise make.error(e.spot, f"a string has more than {MAX_LETTERS:,} characters")
        return left + right
    if sign == "with" and isinstance(left, Record) and isinstance(right, Record):
        return Record(Scope(left.scope.members | right.scope.members, left.scope.outer))
    raise make.error(e.spot, f"{sign} is not defined for {kind_of(left)} and {kind_of(right)}")


def _number(make: Maker, e: Binary, left: float, right: float) -> float:
    try:
        return _ARITHMETIC[e.operator](left, right)
    except (ArithmeticError, ValueError, TypeError):  # a power of a negative number may be complex
        raise make.error(e.spot, f"{left:g} {e.operator} {right:g} is not a number") from None


def _node(make: Maker, e: Binary, left: Value, right: Value, path: str) -> Value:
    """An operator with a node on one side; a number on the other becomes a constant."""
    sign, operands = e.operator, (left, right)
    if not all(isinstance(value, Node) or type(value) is float for value in operands):
        raise make.error(e.spot, f"{sign} is not defined for {kind_of(left)} and {kind_of(right)}")
    if sign == "/":
        return _quotient(make, e, left, right, path)
    name = _NODES.get(sign, "")
    if sign == "*":
        name = "Times" if isinstance(left, Node) and isinstance(right, Node) else "ElementTimes"
    if not name:
        raise make.error(e.spot, f"{sign!r} is not defined for nodes of the network")
    arguments = f"{path}.{name}Args"
    return make.node(name, [_constant(make, e, v, f"{arguments}[{i}]") for i, v in enumerate(operands)], path, e.spot)


def _quotient(make: Maker, e: Binary, left: Value, right: Value, path: str) -> Node:
    """CNTK has node / number and 1 / node only."""
    if type(right) is float and isinstance(left, Node):
        inverse = _number(make, e, 1.0, right)
        inputs = [left, _constant(make, e, inverse, f"{path}.ElementTimesArgs[1]")]
        return make.node("ElementTimes", inputs, path, e.spot)
    if left == 1 and isinstance(right, Node):
        return make.node("Reciprocal", [right], path, e.spot)
    raise make.error(e.spot, "only node / number and 1 / node are defined; use ElementDivide (a, b)")


def _constant(make: Maker, e: Binary, value: Value, path: str) -> Node:
    return value if isinstance(value, Node) else make.node("Constant", (), path, e.spot, value=value)
