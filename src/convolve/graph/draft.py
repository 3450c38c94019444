"""A graph while an importer writes it: values are added in the order of computation, and their shapes are known."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from convolve.graph.fuse import fuse
from convolve.graph.graph import Array, Graph, Input, Node, Parameter, Value, graph_of, pruned
from convolve.graph.names import with_readable_names
from convolve.graph.operations import outcome
from convolve.graph.shapes import MAX_VALUES, Shape, bounded, require


class Draft:
    """Returns a key for each value; `finish` replaces the keys by readable names."""

    def __init__(self) -> None:
        self._values: dict[str, Value] = {}
        self._aliases: dict[str, dict[str, None]] = {}
        self.notes: list[str] = []
        self.block = ""  # the named block that nodes are added to

    def input(self, shape: Shape, source: str = "") -> str:
        require(min(shape, default=1) >= 1, f"an input of shape {shape}")
        return self._keep(Input(self._key(), bounded(shape), source))

    def parameter(self, array: Array, learning_rate_multiplier: float = 1.0, source: str = "") -> str:
        return self._keep(Parameter(self._key(), array, learning_rate_multiplier, source))

    def add(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node. Raises GraphError if its operands do not fit."""
        require(len(self._values) < MAX_VALUES, f"more than {MAX_VALUES} operations and parameters")
        shape, batched = outcome(op, attributes, [self._values[name] for name in inputs])
        node = Node(self._key(), op, tuple(inputs), attributes, shape=shape, batched=batched, block=self.block)
        return self._keep(node)

    def shape(self, key: str) -> Shape:
        return self._values[key].shape

    def batched(self, key: str) -> bool:
        return self._values[key].batched

    def array(self, key: str) -> Array | None:
        """The values of a parameter; None for anything else."""
        value = self._values[key]
        return value.array if isinstance(value, Parameter) else None

    def node(self, key: str) -> Node | None:
        """The node of a key; None for an input or a parameter."""
        value = self._values[key]
        return value if isinstance(value, Node) else None

    def call(self, key: str, name: str, *aliases: str) -> None:
        """Let names refer to a value: the `name` that the author gave it, if any, and the names used in the file."""
        for alias in filter(None, (name, *aliases)):
            self._aliases.setdefault(alias, {})[key] = None
        self.label(key, name)

    def label(self, key: str, name: str) -> None:
        """Give a value the author's `name` if it has none, but do not let the name refer to it."""
        if name and not self._values[key].source:
            self._values[key] = replace(self._values[key], source=name)

    def finish(self, outputs: Sequence[str], origin: str, whole: bool = False) -> Graph:
        """The graph that `outputs` need. With `whole`, everything that was added."""
        aliases = {alias: tuple(keys) for alias, keys in self._aliases.items()}
        notes = tuple(dict.fromkeys(self.notes))
        graph = graph_of(self._values.values(), outputs=tuple(outputs), aliases=aliases, notes=notes, origin=origin)
        return with_readable_names(graph if whole else fuse(pruned(graph)))

    def _key(self) -> str:
        return str(len(self._values))

    def _keep(self, value: Value) -> str:
        self._values[value.name] = value
        return value.name


@dataclass(frozen=True)
class Operands:
    """What a conversion rule sees of one operation of a file: its operands are already values of the draft."""

    word: ClassVar[str] = "operand"  # what the tool calls an operand

    draft: Draft
    operands: tuple[str, ...]

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        return self.draft.add(op, inputs, **attributes)

    def operand(self, index: int = 0) -> str:
        count = len(self.operands)
        require(0 <= index < count, f"{self.word} {index + 1} is missing; there are {count}")
        return self.operands[index]

    def shape(self, index: int = 0) -> Shape:
        """The shape of an operand, for one sample, the slowest axis first."""
        return self.draft.shape(self.operand(index))

    def reshaped(self, value: str, shape: Shape) -> str:
        return value if self.draft.shape(value) == shape else self.add("reshape", value, shape=shape)

    def constant(self, number: float | Array) -> str:
        return self.draft.parameter(np.asarray(number), learning_rate_multiplier=0)
