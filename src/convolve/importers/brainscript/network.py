"""The text of a network -> its operations, as plain values: nothing is left to evaluate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convolve.errors import ConvolveError, UnsupportedError, brief
from convolve.graph.shapes import MAX_ELEMENTS, MAX_VALUES, Shape, require
from convolve.importers.brainscript.evaluate import MAX_ITEMS, Evaluator, deep_calls
from convolve.importers.brainscript.loaded import Models
from convolve.importers.brainscript.syntax import Spot, parse_expression
from convolve.importers.brainscript.text import Text
from convolve.importers.brainscript.values import (
    Array,
    Frame,
    Function,
    Item,
    Node,
    Nothing,
    Record,
    Thunk,
    Value,
    failure,
    kind_of,
)

# The members that list the nodes of each role, and the tags that give a role to nodes which no member lists.
_TAGS = {
    "criterion": "criterionNodes", "evaluation": "evaluationNodes", "eval": "evaluationNodes", "output": "outputNodes",
}  # fmt: skip
ROLES = ("featureNodes", "inputNodes", "labelNodes", "criterionNodes", "evaluationNodes", "outputNodes")

Setting = float | bool | str | tuple[float | bool | str, ...]


@dataclass(frozen=True, eq=False)
class Operation:
    """One node. `name` is CNTK's; `settings` has what its rule in lower.py needs."""

    kind: str
    name: str
    inputs: tuple[Operation, ...]
    settings: Mapping[str, Setting]
    spot: Spot
    frame: Frame | None

    def error(self, what: str) -> ConvolveError:
        return failure(self.spot, self.frame, f"{self.name or self.kind}: {what}")

    def unsupported(self, what: str) -> UnsupportedError:
        return UnsupportedError(str(self.error(f"{what} is not supported")))

    def number(self, name: str) -> float:
        """The setting `name`, which must be a number; the methods below read other types."""
        value = self.settings.get(name)
        if type(value) is not float:
            raise self.error(f"{name} must be a number, not {brief(value)}")
        return value

    def integer(self, name: str) -> int:
        value = self.number(name)
        require(value.is_integer() and abs(value) <= MAX_ELEMENTS, f"{name} must be a whole number, not {value:g}")
        return int(value)

    def integers(self, name: str) -> Shape:
        """One whole number or several."""
        value = self.settings.get(name)
        values = value if isinstance(value, tuple) else (value,)
        fits = all(type(v) is float and v.is_integer() and abs(v) <= MAX_ELEMENTS for v in values)
        require(fits and bool(values), f"{name} must be whole numbers such as (3:3), not {brief(value)}")
        return tuple(int(v) for v in values if v is not None)

    def flag(self, name: str) -> bool:
        value = self.settings.get(name)
        if not isinstance(value, bool):
            raise self.error(f"{name} must be true or false, not {brief(value)}")
        return value

    def flags(self, name: str) -> list[bool]:
        value = self.settings.get(name)
        values = value if isinstance(value, tuple) else (value,)
        fits = all(isinstance(v, bool) for v in values)
        require(fits and bool(values), f"{name} must be true or false, not {brief(value)}")
        return [v is True for v in values]


@dataclass(frozen=True)
class Network:
    """`members`: the nodes with a name of their own; `roles` maps each of ROLES to its nodes.

    `warnings`: sentences about options without meaning. `interleaved`: text files have the features as (H, W, C).
    """

    spot: Spot
    members: Mapping[str, Operation]
    roles: Mapping[str, tuple[Operation, ...]]
    warnings: tuple[str, ...] = ()
    interleaved: bool = False

    def criterion(self) -> Operation:
        """The criterion that is minimized: the first of the criterionNodes, as in CNTK."""
        if not self.roles["criterionNodes"]:
            raise self.spot.error("the network has no criterionNodes; say which node is trained: criterionNodes = (ce)")
        return self.roles["criterionNodes"][0]


def needed_for(outputs: Sequence[Operation]) -> list[Operation]:
    """All operations that the outputs need, operands first."""
    stack, seen, done = [*outputs[::-1]], set[Operation](), dict[Operation, None]()
    while stack:
        operation = stack[-1]
        if operation in seen:
            done.setdefault(stack.pop())
            continue
        seen.add(operation)
        stack += [operand for operand in reversed(operation.inputs) if operand not in seen]
    return [*done]


def read_network(text: Text, folders: Sequence[Path], models: Models | None = None) -> Network:
    """The network in `text`, which is a record or an expression whose value is one; `folders` are searched for
    includes, `models` for trained networks.

    Raises FormatError with line, column and the calls that led there; UnsupportedError for a recurrent network.
    """
    expression = parse_expression(text)
    evaluator = Evaluator(folders, models)
    with deep_calls():
        return collect(evaluator, evaluator.network(expression), expression.spot)


def collect(evaluator: Evaluator, record: Record, spot: Spot) -> Network:
    """The network whose members and roles are those of `record`."""
    with deep_calls():
        return _Collector(evaluator).network(record, spot)


def record_and_names(evaluator: Evaluator, text: Text) -> tuple[Record, Mapping[Node, str]]:
    """The record of the network in `text`, and the names of its nodes."""
    expression = parse_expression(text)
    record = evaluator.network(expression)
    return record, names_in(evaluator, record, expression.spot)


def names_in(evaluator: Evaluator, record: Record, spot: Spot) -> Mapping[Node, str]:
    """The names of a network's nodes."""
    collector = _Collector(evaluator)
    collector.network(record, spot)
    return {node: operation.name for node, operation in collector.done.items()}


class _Collector:
    """Node -> Operation, each once. Our own stack: a network may be deeper than Python's recursion limit."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self.done: dict[Node, Operation] = {}
        self.names: dict[Node, str] = {}
        self.taken: set[str] = set()
        self.numbers: Counter[str] = Counter()

    def network(self, record: Record, spot: Spot) -> Network:
        members = {name: self.evaluator.force(item) for name, item in record.scope.members.items()}
        nodes = {name: value for name, value in members.items() if isinstance(value, Node) and name not in ROLES}
        for name in sorted(nodes):  # of several names, the alphabetically last one wins
            self.names[nodes[name]] = name
        self.taken = {*self.names.values()}
        found = {role: self._nodes(role, members.get(role), spot) for role in ROLES}
        operations = {name: self.operation(node) for name, node in nodes.items()}
        roles = {role: tuple(map(self.operation, listed)) for role, listed in found.items()}
        for operation in operations.values():
            role = _TAGS.get(str(operation.settings.get("role", "")).lower())
            if role and operation not in roles[role]:
                roles[role] += (operation,)
        return Network(spot, operations, roles)

    def _nodes(self, role: str, value: Value | None, spot: Spot) -> list[Node]:
        """The nodes that a role lists, one or several."""
        items: Sequence[Item] = () if value is None else value.items if isinstance(value, Array) else (value,)
        found = []
        for item in items:
            node = self.evaluator.force(item)
            if not isinstance(node, Node):
                raise self.evaluator.error(spot, f"{role} must list nodes of the network, not {kind_of(node)}")
            found.append(node)
        return found

    def operation(self, wanted: Node) -> Operation:
        stack, inputs = [wanted], dict[Node, tuple[Node, ...]]()
        while stack:
            node = stack[-1]
            if node in self.done:
                stack.pop()
                continue
            if node in inputs and not all(operand in self.done for operand in inputs[node]):
                raise UnsupportedError(str(failure(node.spot, node.frame, "a recurrent network is not supported")))
            if node not in inputs:
                inputs[node] = self._inputs(node)
                stack += [operand for operand in inputs[node] if operand not in self.done]
                continue
            self.done[node] = self._operation(node, inputs[node])
        return self.done[wanted]

    def _inputs(self, node: Node) -> tuple[Node, ...]:
        self.evaluator.frame = node.frame
        value = self.evaluator.force(node.attributes["inputs"])
        items = value.items if isinstance(value, Array) else (value,)
        return tuple([self._input(node, self.evaluator.force(item), item) for item in items])

    def _input(self, node: Node, value: Value, item: Item) -> Node:
        if isinstance(value, Node):
            return value
        if type(value) is not float:
            what = f"{node.operation} takes nodes of the network, not {kind_of(value)}"
            raise failure(node.spot, node.frame, what)
        path = item.path if isinstance(item, Thunk) else f"{node.path}.inputs"
        return Node("Constant", {"inputs": Array(()), "value": value}, path, node.spot, node.frame)

    def _operation(self, node: Node, inputs: tuple[Node, ...]) -> Operation:
        if len(self.done) >= MAX_VALUES:
            raise failure(node.spot, node.frame, f"the network has more than {MAX_VALUES:,} nodes")
        settings = {name: self._setting(node, item) for name, item in node.attributes.items() if name != "inputs"}
        operands = tuple(self.done[operand] for operand in inputs)
        given = {name: value for name, value in settings.items() if value is not None}
        return Operation(node.operation, self._name(node), operands, given, spot=node.spot, frame=node.frame)

    def _name(self, node: Node) -> str:
        """CNTK's name of a node: the name of its member, or its path, made unique by a number."""
        if node in self.names:
            return self.names[node]
        name = node.path
        while name in self.taken:
            self.numbers[node.path] += 1
            name = f"{node.path}.{self.numbers[node.path]}"
        self.taken.add(name)
        return name

    def _setting(self, node: Node, item: Item) -> Setting | None:
        self.evaluator.frame = node.frame
        value = self.evaluator.force(item)
        if isinstance(value, Nothing):
            return None
        if isinstance(value, Array):
            return tuple(self._flat(node, value))
        if isinstance(value, Node | Record | Function):
            raise failure(node.spot, node.frame, f"{node.operation} takes no {kind_of(value)} as a setting")
        return value

    def _flat(self, node: Node, array: Array) -> list[Any]:
        """The numbers of nested arrays, one after the other: a shape may be joined from several arrays."""
        found: list[Any] = []
        waiting, looked = [*reversed(array.items)], 0
        while waiting:
            value = self.evaluator.force(waiting.pop())
            if isinstance(value, Array):
                waiting += reversed(value.items)
            elif isinstance(value, float | bool | str):
                found.append(value)
            else:
                raise failure(node.spot, node.frame, f"{node.operation} takes no array with {kind_of(value)} in it")
            looked += 1
            if looked + len(waiting) > MAX_ITEMS:
                raise failure(node.spot, node.frame, f"an array has more than {MAX_ITEMS:,} values")
        return found
