"""The nodes of a model as a table that a MEL script edits: each under its name, all of them the table's own."""

from collections.abc import Iterable, Mapping
from typing import Any

from convolve.errors import ConvolveError, UnsupportedError
from convolve.importers.brainscript.edits import WEIGHT_FIRST
from convolve.importers.brainscript.loaded import ASSUMED, STORED, inputs_of, rebuilt
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
            maker.inner |= {node} if node.operation == STORED else set()


def _own(node: Node, operands: list[Item]) -> Node:
    return Node(node.operation, {**node.attributes, "inputs": Array(tuple(operands))}, node.path, node.spot, node.frame)


def inputs(maker: Maker, node: Node) -> list[Item]:
    return inputs_of(maker.evaluator, node)


def change(node: Node, key: str, value: Value) -> None:
    assert isinstance(node.attributes, dict)  # of this module's making, or the library's
    node.attributes[key] = value


def join(node: Node, operands: Iterable[Item]) -> None:
    change(node, "inputs", Array(tuple(operands)))


def replace_operand(maker: Maker, node: Node, number: int, operand: Item) -> None:
    """Put `operand` in the place of the one that CNTK counts as `number`. A node of CNTK's may have become several of
    ours: what belongs to this one stays between the two."""
    operands, place = inputs(maker, node), _counted(node, number)
    between = operands[place]
    if isinstance(between, Node) and between in maker.inner:
        own = Node(between.operation, {**between.attributes}, between.path, between.spot, between.frame)
        maker.inner.add(own)
        replace_operand(maker, own, 0, operand)
        operand = own
    operands[place] = operand
    join(node, operands)


def _counted(node: Node, number: int) -> int:
    """CNTK's number of an operand -> ours, or the other way round."""
    stored: Any = node.attributes.get("node")
    return 1 - number if stored and stored.op in WEIGHT_FIRST and number < 2 else number


def changed(node: Node, other: Node, settings: Mapping[str, Item], only_value: bool, spot: Spot) -> Node:
    """`node` with the settings of another one of its kind, and its own operands."""
    if node.operation != other.operation:
        raise spot.error(f"{node.path} is {node.operation}, {other.path} is {other.operation}; remove it first")
    assert isinstance(node.attributes, dict)  # of this module's making, or the library's
    own = ("inputs", "rate", "shape") if only_value else ("inputs", "shape")
    kept = {key: node.attributes[key] for key in own if key in node.attributes}
    node.attributes.clear()
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
            lost = [i for i, item in enumerate(operands) if item is NOTHING or item in broken]
            if lost:
                item = operands[lost[0]]
                broken[node] = (
                    broken[item] if isinstance(item, Node) else f"{name} has lost its operand {_counted(node, lost[0])}"
                )
                found = True
    for role, nodes in maker.roles.items():
        for node in nodes:
            if node in broken and ASSUMED not in node.attributes:
                raise spot.error(f"{broken[node]}, and {role} need it; give it another one with SetNodeInput")
    copy = Maker()
    copy.interleaved = maker.interleaved
    done: dict[Node, Node] = {}
    try:
        copy.nodes = {
            name: rebuilt(maker.evaluator, node, _own, done) for name, node in maker.nodes.items() if node not in broken
        }
    except ConvolveError as error:
        raise UnsupportedError(f"{spot.place}: {error}; a recurrent network is not supported") from None
    copy.roles = {role: [done[node] for node in nodes if node not in broken] for role, nodes in maker.roles.items()}
    return copy


def matches(pattern: str, name: str) -> bool:
    """Whether a name fits a pattern, in which one * stands for anything."""
    before, star, after = pattern.lower().partition("*")
    if not star:
        return name.lower() == before
    fits = len(name) >= len(before) + len(after)
    return fits and name.lower().startswith(before) and name.lower().endswith(after)
