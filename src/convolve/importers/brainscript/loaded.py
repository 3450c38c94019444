"""Trained models as BrainScript values: BS.Network.Load returns a record of nodes, under the names in the file.

A model is a file of CNTK, v1 or v2, or a model folder. Where a block of the same configuration trains it, that block
describes its network; the numbers are read when the network is made, since they may not exist earlier.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convolve.atomic import is_there
from convolve.errors import ConvolveError, ModelError, UnsupportedError
from convolve.graph import graph as neutral
from convolve.importers.brainscript.syntax import Spot
from convolve.importers.brainscript.values import Array, Frame, Item, Node, Record, Scope, Value, failure
from convolve.names import own_slashes

if TYPE_CHECKING:
    from convolve.importers.brainscript.evaluate import Evaluator

At = tuple[Spot, Frame | None]  # where a node comes from
ASSUMED = "assumed"  # the setting of a criterion that the file does not have
_EPOCH = re.compile(r"\.\d+$")  # at the end of the model of an epoch
STORED = "Stored"  # the operation of a node whose setting `node` is one of the neutral graph
# The criteria of the neutral graph -> CNTK's, which have the labels first.
_CRITERIA = {
    "cross_entropy_with_softmax": "CrossEntropyWithSoftmax", "classification_error": "ClassificationError",
    "squared_error": "SquareError", "logistic": "Logistic",
}  # fmt: skip
_ROLES = {
    "FeatureNodes": "featureNodes", "LabelNodes": "labelNodes", "CriterionNodes": "criterionNodes",
    "EvalNodes": "evaluationNodes", "OutputNodes": "outputNodes",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Numbers:
    """A parameter's numbers: those called `source` in the model that `of` opens. `fallback`: the text's own numbers may
    stand in, since constants are not always saved."""

    of: Callable[[], neutral.Graph]
    source: str
    shape: tuple[int, ...] | None = None
    fallback: bool = False

    def read(self, dims: tuple[int, ...]) -> neutral.Array | None:
        """The numbers in the shape `dims`, the fastest axis first. Raises ModelError if they do not fit."""
        found = [p for p in self.of().parameters if self.source in (p.source, p.name)]
        if not found and self.fallback:
            return None
        if not found or found[0].array.size != np.prod(dims, dtype=int):
            shape = f"has the shape {found[0].shape}" if found else "is not there"
            raise ModelError(f"the model was not made from this text: {self.source} {shape}; train it again")
        return found[0].array.reshape(dims[::-1])


# Makes the record of a network, and gives the names of its nodes.
Described = Callable[["Evaluator"], tuple[Record, Mapping[Node, str]]]


class Models:
    """`open_folder` opens what is not a file of CNTK; `text_of` describes the network of the block that trains or edits
    the model at a path, if there is one."""

    def __init__(self, open_folder: Callable[[Path], neutral.Graph] | None = None) -> None:
        self._open_folder = open_folder
        self.text_of: Callable[[str], Described | None] = lambda path: None
        self.made: set[str] = set()  # what commands that come before make
        self.opened: list[str] = []  # by their texts, one inside the other

    def graph(self, path: Path) -> neutral.Graph:
        return self.open(path)[0]

    def open(self, path: Path) -> tuple[neutral.Graph, Mapping[str, Sequence[str]]]:
        """The graph of a model, and the roles of its roots, if the file has them."""
        from convolve.importers import cntk  # imported here, since it imports torch

        if self._open_folder is None or cntk.recognizes(path):
            return cntk.read_whole(path)
        return self._open_folder(path), {}


def load_network(evaluator: Evaluator, name: str, spot: Spot) -> Record:
    """The network at the path `name`. Raises a ConvolveError with the place if there is none."""
    name, models = own_slashes(name), evaluator.models
    path = Path(name)
    is_made = not models.made.isdisjoint({name, _EPOCH.sub("", name)})
    will_be_there = path.is_dir() if is_there(path) else is_made
    text = models.text_of(name) if will_be_there and name not in models.opened else None
    if text is not None:
        models.opened.append(name)
        try:
            return _of_text(evaluator, text, cache(lambda: models.graph(path)))
        finally:
            models.opened.pop()
    if not is_there(path):
        raise evaluator.error(
            spot, f"there is no model at {path}, and no command before this one trains it; correct the path"
        )
    try:
        graph, roles = models.open(path)
    except UnsupportedError as error:
        raise UnsupportedError(str(evaluator.error(spot, str(error)))) from None
    except ConvolveError as error:
        raise evaluator.error(spot, str(error)) from None
    return _of_graph(evaluator, graph, roles, spot)


# -- from a file ------------------------------------------------------------------------------------------------------


def _of_graph(evaluator: Evaluator, graph: neutral.Graph, roles: Mapping[str, Sequence[str]], spot: Spot) -> Record:
    nodes: dict[str, Node] = {}
    for value in graph.values().values():
        inputs = [nodes[name] for name in getattr(value, "inputs", ())]
        nodes[value.name] = _node(value, inputs, graph, (spot, evaluator.frame))
    members: dict[str, Item] = {value.source: nodes[value.name] for value in graph.values().values() if value.source}
    members |= {alias: nodes[names[0]] for alias, names in graph.aliases.items() if len(names) == 1}
    outputs = tuple(nodes[name] for name in graph.outputs)
    members["outputNodes"] = Array(outputs)
    for role, names in roles.items():
        found = tuple(members[name] for name in names if name in members)
        if role in _ROLES and found:
            members[_ROLES[role]] = Array(found)
    if "criterionNodes" not in members and outputs:
        members |= _as_classifier(outputs[0], graph, (spot, evaluator.frame))
    return as_record(members, nodes)


def _node(value: neutral.Value, inputs: list[Node], graph: neutral.Graph, at: At) -> Node:
    (spot, frame), name, dims = at, value.source or value.name, Array(tuple(map(float, value.shape[::-1])))
    if isinstance(value, neutral.Input):
        return Node("Input", {"inputs": Array(()), "shape": dims}, name, spot, frame)
    if isinstance(value, neutral.Parameter):
        numbers: Any = Numbers(lambda: graph, value.name, value.shape)
        rate = value.learning_rate_multiplier
        return Node(
            "Parameter", {"inputs": Array(()), "shape": dims, "rate": rate, "stored": numbers}, name, spot, frame
        )
    if value.op in _CRITERIA and len(inputs) == 2:
        top: dict[str, Item] = {"top": float(value.attributes.get("top", 1)), "along": 0.0}
        return Node(_CRITERIA[value.op], {"inputs": Array((inputs[1], inputs[0])), **top}, name, spot, frame)
    stored: Any = value
    return Node(STORED, {"inputs": Array(tuple(inputs)), "node": stored}, name, spot, frame)


def _as_classifier(scores: Node, graph: neutral.Graph, at: At) -> dict[str, Item]:
    """The criteria with which a model that only gives scores is trained and tested, under the names in CNTK's texts."""
    (spot, frame), shape = at, graph.values()[graph.outputs[0]].shape
    classes = Array((float(np.prod(shape)),))
    labels = Node("Input", {"inputs": Array(()), "shape": classes, ASSUMED: True}, "labels", spot, frame)
    settings: dict[str, Item] = {"inputs": Array((labels, scores)), "along": 0.0, ASSUMED: True}
    ce = Node("CrossEntropyWithSoftmax", settings, "ce", spot, frame)
    errs = Node("ClassificationError", {**settings, "top": 1.0}, "errs", spot, frame)
    made: dict[str, Item] = {"labels": labels, "ce": ce, "errs": errs}
    return made | {"criterionNodes": ce, "evaluationNodes": errs, "labelNodes": labels}


def as_record(members: Mapping[str, Item], others: Mapping[str, Item] | None = None) -> Record:
    """A record of nodes. Those whose names contain dots and brackets, `h.W` and `layers[0].b`, are also found with _ in
    their places, and as members of members if nothing else has that name; `others` are found, too."""
    aliases = {**(others or {}), **{re.sub(r"\W+", "_", name).strip("_"): item for name, item in members.items()}}
    groups: dict[str, dict[str, Item]] = {}
    for name, item in members.items():
        first, dot, rest = name.partition(".")
        if dot and first not in members:
            groups.setdefault(first, {})[rest] = item
    return Record(Scope({**members}, None), {**aliases, **{name: as_record(inner) for name, inner in groups.items()}})


# -- from the text that it is trained by ------------------------------------------------------------------------------


def _of_text(evaluator: Evaluator, described: Described, graph: Callable[[], neutral.Graph]) -> Record:
    """The network of a text, with the numbers of the model that its training gave."""
    record, names = described(evaluator)
    done: dict[Node, Node] = {}

    def trained(node: Node, inputs: list[Item]) -> Node:
        if node.operation != "Parameter":
            return replace(node, attributes={**node.attributes, "inputs": Array(tuple(inputs))}, path=names[node])
        numbers: Any = Numbers(graph, names[node], fallback=evaluator.force(node.attributes["rate"]) == 0)
        return replace(node, attributes={**node.attributes, "stored": numbers}, path=names[node])

    def replaced(value: Value) -> Value:
        if isinstance(value, Array):
            return Array(tuple(replaced(evaluator.force(item)) for item in value.items))
        return rebuilt(evaluator, value, trained, done) if isinstance(value, Node) else value

    members = {name: replaced(evaluator.force(item)) for name, item in record.scope.members.items()}
    return as_record({**{names[old]: new for old, new in done.items()}, **members})


# -- nodes made from nodes --------------------------------------------------------------------------------------------

Made = Callable[[Node, list[Item]], Node]


def inputs_of(evaluator: Evaluator, node: Node) -> list[Item]:
    value = evaluator.force(node.attributes["inputs"])
    return [evaluator.force(item) for item in value.items] if isinstance(value, Array) else [value]


def rebuilt(evaluator: Evaluator, wanted: Node, make: Made, done: dict[Node, Node]) -> Node:
    """What `make` makes of a node and of all that it is computed from, operands first; `done` has earlier results."""
    stack, opened = [wanted], set[Node]()
    while stack:
        node = stack[-1]
        if node in done:
            stack.pop()
            continue
        inputs = inputs_of(evaluator, node)
        missing = [item for item in inputs if isinstance(item, Node) and item not in done]
        if missing and node in opened:
            raise failure(node.spot, node.frame, f"{node.path or node.operation}: it depends on itself")
        opened.add(node)
        stack += missing
        if not missing:
            done[node] = make(node, [done[item] if isinstance(item, Node) else item for item in inputs])
    return done[wanted]
