"""Readable names for the values of a graph: they become attributes and variables of generated code."""

import builtins
import keyword
import re
from collections import Counter
from dataclasses import replace

from convolve.graph.graph import Graph, Node, Parameter, Value
from convolve.graph.operations import OPERATIONS


def with_readable_names(graph: Graph) -> Graph:
    """The graph with its values renamed to Python identifiers: the file's own name, the block and the operation, or the
    operation and a number.

    Equal names are numbered. The names become attributes and variables of generated code, so they contain only letters,
    digits and underscores.
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
    """`name` followed by the next free number."""
    while True:
        numbers[name] += 1
        if (numbered := f"{name}_{numbers[name]}") not in taken:
            return numbered


def identifier(text: str) -> str:
    """`text` as a Python identifier of at most 60 characters; empty if no character can be used."""
    name = re.sub(r"[^0-9A-Za-z]+", "_", text)[:60].strip("_")
    return f"n{name}" if name[:1].isdigit() else name


# Names with another meaning in the generated code; operations are numbered, so that each counts from 1.
RESERVED = {*dir(builtins), *keyword.kwlist, *OPERATIONS, "self", "torch", "inf", "nan", "device", "operator"}
