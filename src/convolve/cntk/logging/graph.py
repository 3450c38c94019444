"""Search in functions, and pictures of them."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

from convolve.atomic import write_text
from convolve.cntk.nodes import operands_in_order, resolved
from convolve.cntk.ops.functions import Function
from convolve.cntk.searching import depth_first_search
from convolve.cntk.variables import Output

__all__ = [
    "depth_first_search",
    "find_all_with_name",
    "find_by_name",
    "find_by_uid",
    "get_node_outputs",
    "plot",
]


def find_all_with_name(node: Any, node_name: str, depth: int = 0) -> list[Any]:
    return depth_first_search(node, lambda item: item.name == node_name, depth)


def find_by_name(node: Any, node_name: str, depth: int = 0) -> Any:
    if not isinstance(node_name, str):
        raise ValueError(f"node name has to be a string. You gave: {type(node_name)}")
    found = find_all_with_name(node, node_name, depth)
    if len(found) > 1:
        raise ValueError(
            f'found multiple functions matching "{node_name}". If that was expected call find_all_with_name'
        )
    return found[0] if found else None


def find_by_uid(node: Any, node_uid: str, depth: int = 0) -> Any:
    found = depth_first_search(node, lambda item: item.uid == node_uid, depth)
    return found[0] if found else None


def get_node_outputs(node: Any, depth: int = 0) -> list[Any]:
    functions = depth_first_search(node, lambda item: isinstance(item, Function), depth)
    return [output for function in functions for output in function.outputs]


def plot(root: Any, filename: str | None = None) -> str:
    """A function as text, one line per operation; with `filename` also as a graph: .dot, or, with graphviz's `dot`,
    .png, .pdf or .svg."""
    functions = [each for each in depth_first_search(root, lambda _: True) if isinstance(each, Function)]
    lines: list[str] = []
    drawn: list[str] = []
    for function in functions:
        node = function.node
        inputs = [resolved(variable) for variable in operands_in_order(node)]
        given = ", ".join(variable.uid for variable in inputs)
        lines += [f"{node.op_name}({given}) -> {output.uid};\n" for output in function.outputs]
        label = f"{node.op_name} {node.name}".strip()
        drawn.append(f"  {_quoted(node.uid)} [label={_quoted(label)}, shape=ellipse];")
        for variable in inputs:
            source = variable.node.uid if isinstance(variable, Output) else variable.uid
            drawn.append(f"  {_quoted(source)} -> {_quoted(node.uid)} [label={_quoted(str(variable.shape))}];")
            if not isinstance(variable, Output):
                shown = f"{variable.kind} {variable.name}".strip()
                drawn.append(f"  {_quoted(source)} [label={_quoted(shown)}, shape=box];")
    if filename is not None:
        _draw("\n".join(["digraph model {", "  rankdir=BT;", *dict.fromkeys(drawn), "}", ""]), Path(filename))
    return "\n".join(reversed(lines))  # as in CNTK: what is computed first comes first


def _draw(text: str, path: Path) -> None:
    form = path.suffix.lstrip(".")
    if form not in ("dot", "png", "pdf", "svg"):
        raise ValueError(f'file format "{form}" is not supported; give a name that ends in .dot, .png, .pdf or .svg')
    if form == "dot":
        write_text(path, text)
        return
    if not (dot := shutil.which("dot")):
        raise ImportError(
            f"{path}: drawing needs graphviz's `dot`, which is not installed; install it, or give a name that ends "
            f"in .dot"
        )
    subprocess.run([dot, f"-T{form}", "-o", str(path)], input=text.encode(), check=True)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
