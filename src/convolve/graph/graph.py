"""One neutral graph: every front end (CNTK, Caffe, BrainScript) lowers to it, one builder makes a module from it.

    Graph
    ├── inputs the network's inputs: the shape of one sample each
    ├── parameters   numpy arrays; frozen if the learning-rate multiplier is 0
    ├── nodes        one operation each, operands first; every node has one value
    └── outputs      the values that the network returns

A value has the name of the input, parameter or node that it comes from. Shapes are those of one sample, slowest axis
first: (C, H, W) for an image. A `batched` value is such an array for each sample of the batch; a value made from
parameters alone has no batch axis. `operations.py` lists the operations; `draft.py` is how a front end makes a graph.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from convolve.errors import UsageError, look_up
from convolve.graph.shapes import Attributes, Shape

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Input:
    """`source` is the input's own name in the file; likewise for parameters and nodes."""

    name: str
    shape: Shape
    source: str = ""
    batched: ClassVar[bool] = True
    constant: ClassVar[None] = None


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

    @property
    def is_frozen(self) -> bool:
        return self.learning_rate_multiplier == 0

    @property
    def constant(self) -> float | None:
        """The value of a frozen parameter with one element; None for anything else."""
        return float(self.array.flat[0]) if self.array.size == 1 and self.is_frozen else None


@dataclass(frozen=True)
class Node:
    """`block` is the path of the source's named blocks that contain the node."""

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: Attributes
    shape: Shape
    batched: bool
    source: str = ""
    block: str = ""
    constant: ClassVar[None] = None

    def integer(self, name: str) -> int:
        """The attribute `name`, which must be a whole number."""
        return int(self.attributes[name])

    def number(self, name: str) -> float:
        return float(self.attributes[name])

    def integers(self, name: str) -> tuple[int, ...]:
        return tuple(self.attributes[name])

    def settings(self, *names: str) -> dict[str, Any]:
        """The attributes called `names`, in this order, as keyword arguments."""
        return {name: self.attributes[name] for name in names}


Value = Input | Parameter | Node


@dataclass(frozen=True, eq=False)
class Graph:
    """`aliases` maps the file's own names (one name may refer to several values) to values; `notes` are sentences on
    what the file does not state; `origin` is the kind of file it came from."""

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
        """How often each value is used by a node or returned."""
        return Counter([*(name for node in self.nodes for name in node.inputs), *self.outputs])

    def with_outputs(self, names: Iterable[str]) -> Graph:
        """The part of the graph that computes the values called `names`, the file's or ours.

        Raises UsageError for a name that refers to no value or to several.
        """
        return pruned(replace(self, outputs=tuple(self._find(name) for name in names)))

    def _find(self, name: str) -> str:
        known = {node.name: (node.name,) for node in self.nodes} | dict(self.aliases)
        found = look_up(known, name, "node")
        if len(found) > 1:
            raise UsageError(f"{len(found)} nodes are called {name!r}; give one of {', '.join(found)}")
        return found[0]


def graph_of(values: Iterable[Value], **rest: Any) -> Graph:
    """The graph consisting of `values`, each after its operands; `rest` are its other fields."""
    values = [*values]
    return Graph(
        inputs=tuple(value for value in values if isinstance(value, Input)),
        parameters=tuple(value for value in values if isinstance(value, Parameter)),
        nodes=tuple(value for value in values if isinstance(value, Node)),
        **rest,
    )


def pruned(graph: Graph) -> Graph:
    """The graph without nodes, parameters and inputs that no output needs."""
    needed = set(graph.outputs)
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed |= set(node.inputs)
    aliases = {alias: tuple(name for name in names if name in needed) for alias, names in graph.aliases.items()}
    values = (value for value in graph.values().values() if value.name in needed)
    aliases = {alias: names for alias, names in aliases.items() if names}
    return graph_of(values, outputs=graph.outputs, aliases=aliases, notes=graph.notes, origin=graph.origin)


def free_name(graph: Graph, name: str) -> str:
    """`name`, with a number if the graph already has it."""
    taken, number, free = graph.values(), 1, name
    while free in taken:
        number, free = number + 1, f"{name}_{number + 1}"
    return free
