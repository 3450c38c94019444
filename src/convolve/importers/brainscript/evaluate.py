"""The evaluator: BrainScript expressions -> values, each computed when it is first needed.

Names of nodes are CNTK's: the path of the expression that made them. A member adds its name, an argument its
parameter's name, an element its index: `z.x.W`, `model.layers[2].b`.

A configuration can ask for any amount of work, so steps, nesting, arrays and strings are limited.
"""

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from importlib import resources
from pathlib import Path

from convolve.atomic import is_there
from convolve.errors import ConvolveError, FormatError, UnsupportedError, unknown_name
from convolve.importers.brainscript import operators, syntax
from convolve.importers.brainscript.edits import OBJECTS, attribute
from convolve.importers.brainscript.loaded import Models
from convolve.importers.brainscript.natives import NATIVES
from convolve.importers.brainscript.refused import REFUSED
from convolve.importers.brainscript.syntax import Expression, Include, Member, Spot
from convolve.importers.brainscript.text import Text, of_lines, read_lines
from convolve.importers.brainscript.values import (
    NOTHING,
    Array,
    Frame,
    Function,
    Item,
    Node,
    Nothing,
    Record,
    Scope,
    Thunk,
    Value,
    failure,
    kind_of,
)
from convolve.names import own_slashes

# A ResNet-152 takes 45,000 steps.
MAX_STEPS = 300_000
# Expressions inside expressions, calls inside calls; for each of them Python makes up to four calls.
MAX_DEPTH = 2_000
_PYTHON_CALLS = 6
MAX_ITEMS = 10_000  # of an array
MAX_FILES = 50
MAX_PATH = 400  # characters

CONSTANTS: dict[str, Item] = {"None": NOTHING, "deviceId": -1.0, "traceLevel": 1.0, "precision": "float"}


@contextmanager
def deep_calls() -> Iterator[None]:
    """Raise Python's recursion limit to what an evaluator may need."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + _PYTHON_CALLS * MAX_DEPTH)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


class Evaluator:
    """`folders` are searched for included files, `models` for trained networks. `frame` is the current call."""

    def __init__(self, folders: Sequence[Path], models: Models | None = None) -> None:
        self.models = models or Models()
        self.frame: Frame | None = None
        self._folders = folders
        self._files: list[Path] = []
        self._steps = self._depth = 0
        builtin = Scope(dict(CONSTANTS), None)
        for name, (parameters, native) in NATIVES.items():
            builtin.members[name] = Function(name, parameters, {}, builtin, native=native)
        self.library = self.record(_library(), builtin, "").scope
        newer = self.force(self.library.members.pop("_CNTK2"))
        assert isinstance(newer, Record)  # as library.bs has it
        self.library.members["CNTK2"] = Record(newer.scope, self.library.members)

    def network(self, expression: Expression) -> Record:
        """The record of a network. Raises FormatError if the value of the expression is anything else."""
        value = self.value(expression, self.library, "")
        if not isinstance(value, Record):
            raise self.error(expression.spot, f"the network is {kind_of(value)}; a record {{...}} is expected")
        return value

    def error(self, spot: Spot, what: str) -> FormatError:
        return failure(spot, self.frame, what)

    # -- evaluation ---------------------------------------------------------------------------------------------------

    def value(self, expression: Expression, scope: Scope, path: str) -> Value:
        self._steps += 1
        self._depth += 1
        if self._steps > MAX_STEPS:
            raise self.error(expression.spot, f"the network is not complete after {MAX_STEPS:,} steps; is it endless?")
        if self._depth > MAX_DEPTH:
            raise self.error(expression.spot, f"nested deeper than {MAX_DEPTH} levels; does a function call itself?")
        try:
            return _RULES[type(expression)](self, expression, scope, path)
        finally:
            self._depth -= 1

    def force(self, item: Item) -> Value:
        """The value of an item, computed now unless it was before."""
        if not isinstance(item, Thunk):
            return item
        if item.value is not None:
            return item.value
        if item.running:
            raise failure(item.expression.spot, item.frame, f"{item.path or 'this value'} depends on itself")
        outer, self.frame, item.running = self.frame, item.frame, True
        try:
            item.value = self.value(item.expression, item.scope, item.path)
        finally:
            self.frame, item.running = outer, False
        return item.value

    def later(self, expression: Expression, scope: Scope, path: str) -> Item:
        """`expression`, to be evaluated when it is needed."""
        if isinstance(expression, syntax.Literal):
            return expression.value
        return Thunk(expression, scope, path, self.frame)

    def number(self, expression: Expression, scope: Scope, what: str) -> float:
        value = self.value(expression, scope, "")
        if type(value) is not float:
            raise self.error(expression.spot, f"{what} must be a number, not {kind_of(value)}")
        return value

    def whole(self, expression: Expression, scope: Scope, what: str) -> int:
        number = self.number(expression, scope, what)
        if not number.is_integer():
            raise self.error(expression.spot, f"{what} must be a whole number, not {number:g}")
        return int(number)

    def apply(self, function: Function, arguments: dict[str, Item], spot: Spot, path: str) -> Value:
        """The value of a call with all its arguments."""
        if function.native is not None:
            values = [self.force(arguments[name]) for name in function.parameters]
            result: Value = function.native(partial(self.error, spot), values)
            return result
        assert function.body is not None  # one or the other
        outer, self.frame = self.frame, Frame(function.name, spot, self.frame)
        try:
            return self.value(function.body, Scope(arguments, function.scope), path)
        finally:
            self.frame = outer

    def node(self, operation: str, inputs: Sequence[Item], path: str, spot: Spot, **settings: Item) -> Node:
        return Node(operation, {"inputs": Array(tuple(inputs)), **settings}, path, spot, self.frame)

    def elements(self, expressions: Sequence[Expression], scope: Scope, path: str, first: int = 0) -> list[Item]:
        """The elements of an array from index `first` on, each named by its index."""
        return [self.later(e, scope, _join(path, f"[{number}]")) for number, e in enumerate(expressions, first)]

    def array(self, items: Sequence[Item], spot: Spot) -> Array:
        if len(items) > MAX_ITEMS:
            raise self.error(spot, f"an array has {len(items):,} elements; the limit is {MAX_ITEMS:,}")
        return Array(tuple(items))

    # -- records ------------------------------------------------------------------------------------------------------

    def record(self, members: Sequence[Member | Include], outer: Scope, path: str) -> Record:
        scope = Scope({}, outer)
        for member in self._spliced(members, ()):
            if member.name in scope.members:
                raise self.error(member.spot, f"{member.name!r} is defined twice in one record; rename one of the two")
            scope.members[member.name] = self.later(member.value, scope, _join(path, member.name))
        return Record(scope)

    def _spliced(self, members: Sequence[Member | Include], inside: tuple[Path, ...]) -> list[Member]:
        """The members, with those of included files in place of the includes."""
        found: list[Member] = []
        for member in members:
            if isinstance(member, Member):
                found.append(member)
                continue
            file = self._find(member)
            if file in inside:
                raise self.error(member.spot, f"{member.path!r} includes itself")
            found += self._spliced(syntax.parse_members(self.text_of(member)), (*inside, file))
        return found

    def text_of(self, include: Include) -> Text:
        """The text of an included file."""
        file = self._find(include)
        self._files.append(file)
        if len(self._files) > MAX_FILES:
            raise self.error(include.spot, f"more than {MAX_FILES} files; does {include.path!r} include itself?")
        return of_lines(str(file), read_lines(file))

    def _find(self, include: Include) -> Path:
        beside, name = Path(include.spot.place.file).parent, own_slashes(include.path)
        for folder in (Path(), beside, *self._folders):
            if is_there(folder / name, is_file=True):
                return folder / name
        raise self.error(include.spot, f"cannot find {include.path!r}, neither here nor beside the configuration")


@cache
def _library() -> tuple[Member | Include, ...]:
    text = resources.files("convolve.importers.brainscript").joinpath(syntax.LIBRARY).read_text(encoding="utf-8")
    return syntax.parse_members(of_lines(syntax.LIBRARY, text.splitlines()))


def _join(path: str, name: str) -> str:
    """The path of `name` inside `path`. Very long paths grow no further; equal ones are numbered later."""
    if len(path) + len(name) > MAX_PATH:
        return path
    return f"{path}.{name}" if path and name[0] != "[" else path + name


# -- one rule for each kind of expression -----------------------------------------------------------------------------


def _name(self: Evaluator, e: syntax.Name, scope: Scope, path: str) -> Value:
    looked: Scope | None = scope
    while looked is not None:
        if e.name in looked.members:
            return self.force(looked.members[e.name])
        looked = looked.outer
    raise _unknown(self, e.spot, "name", e.name, _visible(scope))


def _unknown(self: Evaluator, spot: Spot, kind: str, name: str, known: Collection[str]) -> ConvolveError:
    if name in REFUSED:
        return UnsupportedError(str(self.error(spot, f"{name} is not supported: it {REFUSED[name]}")))
    return self.error(spot, unknown_name(kind, name, known))


def _visible(scope: Scope | None) -> set[str]:
    names: set[str] = set()
    while scope is not None:
        names |= {name for name in scope.members if name[0] != "_"}
        scope = scope.outer
    return names


def _binary(self: Evaluator, e: syntax.Binary, scope: Scope, path: str) -> Value:
    names = operators.ARGUMENTS.get(e.operator)
    left = self.value(e.left, scope, _join(path, f"{names}[0]") if names else path)
    if e.operator in operators.SHORT_CUTS and left is operators.SHORT_CUTS[e.operator]:
        return left
    right = self.value(e.right, scope, _join(path, f"{names}[1]") if names else path)
    if e.operator in (">>", "<<") and isinstance(left, Function) and isinstance(right, Function):
        first, second = (left, right) if e.operator == ">>" else (right, left)
        compose = self.force(self.library.members["_Compose"])
        assert isinstance(compose, Function)  # as library.bs has it
        return self.apply(compose, {"f": first, "g": second}, e.spot, path)
    return operators.binary(self, e, left, right, path)


def _sequence(self: Evaluator, e: syntax.Sequence, scope: Scope, path: str) -> Value:
    """a : b : c. An array on the left is continued; an array further right is an element."""
    first = self.value(e.items[0], scope, _join(path, "[0]"))
    start = first.items if isinstance(first, Array) else () if isinstance(first, Nothing) else (first,)
    return self.array([*start, *self.elements(e.items[1:], scope, path, len(start))], e.spot)


def _range(self: Evaluator, e: syntax.Range, scope: Scope, path: str) -> Value:
    first, last = self.whole(e.first, scope, "the first index"), self.whole(e.last, scope, "the last index")
    if last - first >= MAX_ITEMS:
        raise self.error(e.spot, f"an array has {last - first + 1:,} elements; the limit is {MAX_ITEMS:,}")
    inner = Scope({"f": self.later(e.function, scope, path)}, None)
    function, spot = syntax.Name(e.spot, "f"), e.function.spot
    calls = [syntax.Call(spot, function, (syntax.Literal(spot, float(index)),), ()) for index in range(first, last + 1)]
    return Array(tuple(self.elements(calls, inner, path)))


def _condition(self: Evaluator, e: syntax.Condition, scope: Scope, path: str) -> Value:
    condition = self.value(e.condition, scope, _join(path, "cond"))
    if isinstance(condition, Node):
        branches = (self.later(e.then, scope, _join(path, "then")), self.later(e.otherwise, scope, _join(path, "else")))
        return self.node("If", (condition, *branches), path, e.spot)
    if not isinstance(condition, bool):
        raise self.error(e.condition.spot, f"a condition must be true or false, not {kind_of(condition)}")
    return self.value(e.then if condition else e.otherwise, scope, path)


def _call(self: Evaluator, e: syntax.Call, scope: Scope, path: str) -> Value:
    function = self.value(e.function, scope, path)
    if not isinstance(function, Function):
        raise self.error(e.spot, f"{kind_of(function)} is called as if it were a function")
    name = function.name or "the function"
    if len(e.positional) != len(function.parameters):
        wanted = ", ".join(function.parameters) or "none"
        raise self.error(
            e.spot, f"{name} takes {len(function.parameters)} arguments ({wanted}), but got {len(e.positional)}"
        )
    arguments: dict[str, Item] = {}
    for parameter, expression in zip(function.parameters, e.positional, strict=True):
        arguments[parameter] = self.later(expression, scope, _join(path, parameter))
    for parameter, expression in e.named:
        if parameter not in function.defaults:
            known = function.defaults or ["no others"]
            raise self.error(expression.spot, f"{name}: {unknown_name('optional argument', parameter, known)}")
        if parameter in arguments:
            raise self.error(expression.spot, f"{name}: {parameter!r} is given twice")
        arguments[parameter] = self.later(expression, scope, _join(path, parameter))
    for parameter, expression in function.defaults.items():
        if parameter not in arguments:
            arguments[parameter] = self.later(expression, Scope(arguments, function.scope), _join(path, parameter))
    return self.apply(function, arguments, e.spot, path)


def _field(self: Evaluator, e: syntax.Field, scope: Scope, path: str) -> Value:
    record = self.value(e.record, scope, path)
    if isinstance(record, Node):
        return attribute(self, record, e.name, e.spot)
    if not isinstance(record, Record):
        raise self.error(e.spot, f"{kind_of(record)} has no member {e.name!r}; only records have")
    members = {**record.aliases, **record.scope.members}
    if e.name not in members:
        raise _unknown(self, e.spot, "member", e.name, members or ["none"])
    return self.force(members[e.name])


def _element(self: Evaluator, e: syntax.Element, scope: Scope, path: str) -> Value:
    array, index = self.value(e.array, scope, path), self.whole(e.index, scope, "an index")
    if not isinstance(array, Array):
        raise self.error(e.spot, f"{kind_of(array)} has no elements; only arrays have")
    if not 0 <= index < len(array.items):
        raise self.error(
            e.index.spot, f"there is no element {index} in an array of {len(array.items)}; elements count from 0"
        )
    return self.force(array.items[index])


def _new(self: Evaluator, e: syntax.New, scope: Scope, path: str) -> Value:
    """A network is its record. A node is named by its path; what an object makes, by its record's members."""
    if e.kind not in ("ComputationNetwork", "ComputationNode", *OBJECTS):
        known = "ComputationNetwork and ComputationNode"
        raise UnsupportedError(f"{e.spot.place}: new {e.kind} is not supported; {known} are")
    record = self.value(e.operand, scope, "")
    if not isinstance(record, Record):
        raise self.error(e.spot, f"new {e.kind} takes a record, not {kind_of(record)}")
    if e.kind == "ComputationNetwork":
        return record
    if e.kind in OBJECTS:
        given = {name: self.force(item) for name, item in record.scope.members.items()}
        return OBJECTS[e.kind](self, e.spot, given, path)
    attributes = dict(record.scope.members)
    operation = self.force(attributes.pop("operation", NOTHING))
    if not isinstance(operation, str) or "inputs" not in attributes:
        raise self.error(e.spot, "a node needs `operation = 'name'` and `inputs = ...`")
    return Node(operation, attributes, path, e.spot, self.frame)


def _included(self: Evaluator, e: Include, scope: Scope, path: str) -> Value:
    return self.value(syntax.parse_expression(self.text_of(e)), scope, path)


_RULES: dict[type, Callable[..., Value]] = {
    Include: _included,
    syntax.Literal: lambda self, e, scope, path: e.value,
    syntax.Name: _name,
    syntax.Unary: lambda self, e, scope, path: operators.unary(self, e, self.value(e.operand, scope, path), path),
    syntax.Binary: _binary,
    syntax.Sequence: _sequence,
    syntax.Bracketed: lambda self, e, scope, path: self.array(self.elements(e.items, scope, path), e.spot),
    syntax.Range: _range,
    syntax.Condition: _condition,
    syntax.Lambda: lambda self, e, scope, path: Function(e.name, e.parameters, dict(e.defaults), scope, body=e.body),
    syntax.Call: _call,
    syntax.Field: _field,
    syntax.Element: _element,
    syntax.New: _new,
    syntax.RecordLiteral: lambda self, e, scope, path: self.record(e.members, scope, path),
}
