"""Nodes of a network that is not described in BrainScript, made by BrainScript's own functions."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import resources

from convolve.importers.brainscript import syntax
from convolve.importers.brainscript.evaluate import Evaluator, deep_calls
from convolve.importers.brainscript.loaded import ASSUMED
from convolve.importers.brainscript.network import ROLES, Network, collect, names_in
from convolve.importers.brainscript.syntax import Include, Member, Spot
from convolve.importers.brainscript.text import of_lines
from convolve.importers.brainscript.values import Array, Function, Node, Record, Scope, Value

MINIBATCH_SIZE = 256.0  # the default of CNTK's trainer


class Maker:
    """`nodes`: all nodes made so far, under CNTK's names; `roles` maps each of ROLES to its nodes.

    `warnings`: sentences about options without meaning. `interleaved`: text files have its images as (H, W, C).
    """

    def __init__(self, minibatch_size: float = MINIBATCH_SIZE) -> None:
        self.warnings: list[str] = []
        self.interleaved = False
        self.inner: set[Node] = set()  # nodes of a loaded model that CNTK's own node stands for
        self.evaluator = Evaluator([])
        self.nodes: dict[str, Node] = {}
        self.roles: dict[str, list[Node]] = {role: [] for role in ROLES}
        own = Scope({"minibatchSize": minibatch_size}, self.evaluator.library)
        self._scope = self.evaluator.record(_functions(), own, "").scope

    def function(self, name: str, count: int) -> str | None:
        """The library's name for a function with this many positional arguments; None if there is none."""
        own = [known for known in self._scope.members if known.rpartition("_")[0] == name]
        if own:
            return f"{name}_{count}" if f"{name}_{count}" in own else None
        return name if name in self._scope.members or name in self.evaluator.library.members else None

    def options(self, function: str) -> tuple[str, ...]:
        """The names of its optional arguments."""
        found = self.evaluator.value(syntax.Name(_NOWHERE, function), self._scope, "")
        return tuple(found.defaults) if isinstance(found, Function) else ()

    def call(
        self,
        spot: Spot,
        name: str,
        function: str,
        positional: Sequence[Value],
        named: Mapping[str, Value] | None = None,
    ) -> Node:
        """The node that the library's `function` makes from these values, called `name`."""
        values = {f"{number}": value for number, value in enumerate(positional)}
        options = {f"{option}=": value for option, value in (named or {}).items()}
        arguments = tuple(syntax.Name(spot, key) for key in values)
        pairs = tuple((key[:-1], syntax.Name(spot, key)) for key in options)
        expression = syntax.Call(spot, syntax.Name(spot, function), arguments, pairs)
        with deep_calls():
            node = self.evaluator.value(expression, Scope({**values, **options}, self._scope), name)
        if not isinstance(node, Node):
            raise spot.error(f"{function} does not make a node with these arguments")
        if name in self.nodes and ASSUMED not in self.nodes[name].attributes:
            raise spot.error(f"there already is a node {name!r}; remove it, or choose another name")
        if name in self.nodes:  # assumed criteria give way
            self.nodes = {other: n for other, n in self.nodes.items() if ASSUMED not in n.attributes}
            self.roles = {role: [n for n in nodes if ASSUMED not in n.attributes] for role, nodes in self.roles.items()}
        self.nodes[name] = node
        return node

    def rename(self, old: str, new: str) -> None:
        self.nodes[new] = self.nodes.pop(old)

    def tag(self, role: str, node: Node) -> None:
        others = [other for other in self.roles[role] if other is not node and ASSUMED not in other.attributes]
        self.roles[role] = [*others, node]

    def record(self) -> Record:
        roles = {role: Array(tuple(nodes)) for role, nodes in self.roles.items()}
        return Record(Scope({**self.nodes, **roles}, None))

    def described(self, evaluator: Evaluator) -> tuple[Record, Mapping[Node, str]]:
        """The record of the network, and the names of its nodes."""
        record = self.record()
        return record, names_in(evaluator, record, _NOWHERE)

    def network(self, spot: Spot) -> Network:
        network = collect(self.evaluator, self.record(), spot)
        return replace(network, warnings=tuple(self.warnings), interleaved=self.interleaved)


_NOWHERE = Spot(of_lines("", [""]), 0)


@cache
def _functions() -> tuple[Member | Include, ...]:
    text = resources.files("convolve.importers.brainscript.ndl").joinpath("functions.bs").read_text(encoding="utf-8")
    return syntax.parse_members(of_lines(syntax.LIBRARY, text.splitlines()))
