"""One neutral graph: every front end (CNTK, Caffe, BrainScript) lowers to it, one builder turns it into a module.

    Graph
    ├── inputs       what the network is fed: the shape of one sample each
    ├── parameters   numpy arrays; frozen where the learning-rate multiplier is 0
    ├── nodes        one operation each, operands first; every node has one value
    └── outputs      the values that the network returns

Values are called by the name of the input, parameter or node that they come from. Shapes are those of one sample,
slowest axis first: (C, H, W) for an image. A `batched` value is such an array for each sample of the batch; a value
made from parameters alone has no batch axis. `shapes.py` lists the operations, their attributes and what they do to
shapes; `draft.py` is how a front end makes a graph.
"""

from __future__ import annotations

import builtins
import keyword
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from convolve.errors import UsageError, unknown_name
from convolve.graph.shapes import SHAPE_RULES, Attributes, Shape

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Input:
    """`source` is the input's own name in the file; so it is for parameters and nodes."""

    name: str
    shape: Shape
    source: str = ""
    batched: ClassVar[bool] = True


@dataclass(frozen=True, eq=False)
class Parameter:
    """`learning_rate_multiplier` 0 means frozen. `array` may be a read-only view of the file."""

    name: str
    array: Array
    learning_rate_multiplier: float = 1.0
    source: str = ""
    batched: ClassVar[bool] = False

    @property
    def shape(self) -> Shape:
        return self.array.shape


@dataclass(frozen=True)
class Node:
    """`block` is the path of the source's named blocks around the node."""

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: Attributes
    shape: Shape
    batched: bool
    source: str = ""
    block: str = ""

    def integer(self, name: str) -> int:
        """The attribute `name`, which is a whole number."""
        return int(self.attributes[name])

    def number(self, name: str) -> float:
        return float(self.attributes[name])

    def integers(self, name: str) -> tuple[int, ...]:
        return tuple(self.attributes[name])


Value = Input | Parameter | Node


@dataclass(frozen=True, eq=False)
class Graph:
    """`aliases` leads from the names that the file itself uses (one name may stand for several values) to values;
    `notes` are sentences on what the file does not hold; `origin` says what kind of file it was."""

    inputs: tuple[Input, ...]
    parameters: tuple[Parameter, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    origin: str = ""

    def values(self) -> dict[str, Value]:
        values: list[Value] = [*self.inputs, *self.parameters, *self.nodes]
        return {value.name: value for value in values}

    def uses(self) -> Counter[str]:
        """How often each value is read by a node or returned."""
        return Counter([*(name for node in self.nodes for name in node.inputs), *self.outputs])

    def with_outputs(self, names: Iterable[str]) -> Graph:
        """The part of the graph that computes the values called `names`, in the file's words or in ours.

        Raises UsageError for a name that stands for nothing or for several values.
        """
        return pruned(replace(self, outputs=tuple(self._find(name) for name in names)))

    def _find(self, name: str) -> str:
        known = {node.name: (node.name,) for node in self.nodes} | dict(self.aliases)
        if name not in known:
            raise UsageError(unknown_name("node", name, known))
        if len(known[name]) > 1:
            raise UsageError(f"{len(known[name])} nodes are called {name!r}; give one of {', '.join(known[name])}")
        return known[name][0]


def pruned(graph: Graph) -> Graph:
    """The graph without the nodes, parameters and inputs that no output needs."""
    needed = set(graph.outputs)
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed |= set(node.inputs)
    aliases = {alias: tuple(name for name in names if name in needed) for alias, names in graph.aliases.items()}
    return replace(
        graph,
        inputs=tuple(value for value in graph.inputs if value.name in needed),
        parameters=tuple(value for value in graph.parameters if value.name in needed),
        nodes=tuple(value for value in graph.nodes if value.name in needed),
        aliases={alias: names for alias, names in aliases.items() if names},
    )


def with_readable_names(graph: Graph) -> Graph:
    """The graph with its values renamed to Python identifiers: the file's own name, the block and the operation, or the
    operation and a number. What would be called alike is numbered.

    The names become attributes and variables of generated code, so that nothing but letters, digits and
    underscores may pass.
    """
    values: list[Value] = [*graph.inputs, *graph.nodes, *graph.parameters]
    wanted = {value.name: _wanted_name(value) for value in values}
    counts = Counter(wanted.values())
    taken = {name for name in counts if counts[name] == 1 and name not in RESERVED}
    new: dict[str, str] = {}
    numbers: Counter[str] = Counter()
    for key, name in wanted.items():
        new[key] = name if name in taken and counts[name] == 1 else _numbered(name, numbers, taken)
        taken.add(new[key])
    return replace(
        graph,
        inputs=tuple(replace(value, name=new[value.name]) for value in graph.inputs),
        parameters=tuple(replace(value, name=new[value.name]) for value in graph.parameters),
        nodes=tuple(
            replace(node, name=new[node.name], inputs=tuple(new[name] for name in node.inputs)) for node in graph.nodes
        ),
        outputs=tuple(new[name] for name in graph.outputs),
        aliases={alias: tuple(new[name] for name in names) for alias, names in graph.aliases.items()},
    )


def _wanted_name(value: Value) -> str:
    if name := identifier(value.source):
        return name
    if isinstance(value, Node):
        return identifier(f"{value.block}_{value.op}")
    return "parameter" if isinstance(value, Parameter) else "features"


def _numbered(name: str, numbers: Counter[str], taken: set[str]) -> str:
    """`name` with the next free number behind it."""
    while True:
        numbers[name] += 1
        if (numbered := f"{name}_{numbers[name]}") not in taken:
            return numbered


def identifier(text: str) -> str:
    """`text` as a Python identifier of at most 60 characters; empty where nothing of it can stay."""
    name = re.sub(r"[^0-9A-Za-z]+", "_", text)[:60].strip("_")
    return f"n{name}" if name[:1].isdigit() else name


# What means something else in the generated code; operations are numbered, so that each counts from 1.
RESERVED = {*dir(builtins), *keyword.kwlist, *SHAPE_RULES, "self", "torch", "inf", "nan", "device", "operator"}
