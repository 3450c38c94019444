"""The nodes of a model as a table that a MEL script edits: each under its name, all of them the table's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from convolve.errors import ConvolveError, UnsupportedError
from convolve.importers.brainscript.loaded import inputs_of, rebuilt
from convolve.importers.brainscript.ndl.maker import Maker
from convolve.importers.brainscript.network import ROLES
from convolve.importers.brainscript.syntax import Spot
from convolve.importers.brainscript.values import NOTHING, Array, Item, Node, Record, Value



def fill(maker: Maker, record: Record) -> None:
    """Give a model nodes of its own that are those of a loaded network."""
    members = {name: maker.evaluator.force(item) for name, item in record.scope.members.items()}
    done: dict[Node, Node] = {}

    for name, value in members.items():
        if name in ROLES:
            items = value.items if isinstance(value, Array) else (value,)
            nodes = [item for item in map(maker.evaluator.force, items) if isinstance(item, Node)]
            maker.roles[name] += [rebuilt(maker.evaluator, node, _own, done) for node in nodes]
        elif isinstance(value, Node) and rebuilt(maker.evaluator, value, _own, done) not in maker.nodes.values():
            maker.nodes[name] = done[value]
    named = {*maker.nodes.values()}
    for node in done.values():
        if node not in named:
            name = node.path
            while name in maker.nodes:
                name += "_"
            maker.nodes[name] = node


def _own(node: Node, operands: list[Item]) -> Node:
    return Node(node.operation, {**node.attributes, "inputs": Array(tuple(operands))}, node.path, node.spot, node.frame)


def inputs(maker: Maker, node: Node) -> list[Item]:
    return inputs_of(maker.evaluator, node)


def change(node: Node, key: str, value: Value) -> None:
    assert isinstance(node.attributes, dict)  # of this module's making, or the library's
    node.attributes[key] = value


def join(node: Node, operands: Iterable[Item]) -> None:
    change(node, "inputs", Array(tuple(operands)))  # type: ignore[arg-type]  # they are values already


def changed(node: Node, other: Node, settings: Mapping[str, Item], only_value: bool, spot: Spot) -> Node:
    """`node` with the settings of another one of its kind, and its own operands."""
    if node.operation != other.operation:
        raise spot.error(f"{node.path} is {node.operation}, {other.path} is {other.operation}; remove it first")
    assert isinstance(node.attributes, dict)  # of this module's making, or the library's
    kept = {"inputs": node.attributes["inputs"]} | ({"rate": node.attributes.get("rate", 1.0)} if only_value else {})
    node.attributes.update({**settings, **kept})
    return node


def below(maker: Maker, names: Iterable[str]) -> list[str]:
    """The nodes called `names` and all that they are computed from."""
    waiting, seen = [maker.nodes[name] for name in names], set[Node]()
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting += [item for item in inputs(maker, node) if isinstance(item, Node)]
    return [name for name, node in maker.nodes.items() if node in seen]


def complete(maker: Maker, spot: Spot) -> Maker:
    """A copy of the model without the nodes that miss an operand. Raises FormatError where a node with a role does."""
    broken: dict[Node, str] = {}
    found = True
    while found:
        found = False
        for name, node in maker.nodes.items():
            operands = inputs(maker, node) if node not in broken else []
            lost = [i for i, item in enumerate(operands) if item is NOTHING or (isinstance(item, Node) and item in broken)]
            if lost:
                item = operands[lost[0]]
                broken[node] = broken[item] if isinstance(item, Node) else f"{name} has lost its operand {lost[0]}"
                found = True
    for role, nodes in maker.roles.items():
        for node in nodes:
            if node in broken:
                what = f"{broken[node]}, and {role} needs it; give it another with SetNodeInput, or remove what it is for"
                raise spot.error(what)
    copy = Maker()
    done: dict[Node, Node] = {}

    try:
        copy.nodes = {
            name: rebuilt(maker.evaluator, node, _own, done) for name, node in maker.nodes.items() if node not in broken
        }
    except ConvolveError as error:
        raise UnsupportedError(f"{spot.place}: {error}; a recurrent network is not supported") from None
    copy.roles = {role: [done[node] for node in nodes] for role, nodes in maker.roles.items()}
    return copy
