"""Graph -> the graph of a classifier: one image as input, one score for each class as output."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import prod

from convolve.errors import UnsupportedError, UsageError
from convolve.graph.ends import as_scores, two_classes
from convolve.graph.graph import Graph, Input, Node, Parameter, free_name, pruned
from convolve.graph.shapes import Shape


class NoClassifierError(UnsupportedError):
    """The network can be shown, run and converted, but its output is not one score per class of one image."""


class SeveralHeadsError(UsageError):
    """The network has several outputs that could be class scores; `heads` are their names."""

    def __init__(self, message: str, heads: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.heads = tuple(heads)


def class_scores(graph: Graph, is_binary: bool = False) -> Graph:
    """The part of the graph that gives the scores: a vector per sample, which evaluation turns into probabilities.

    A single score means two classes if it comes from a sigmoid, or if `is_binary`. Raises SeveralHeadsError if there
    are several such outputs, NoClassifierError if there is none.
    """
    nodes = {node.name: node for node in graph.nodes}
    found = [name for name in graph.outputs if name in nodes and _is_vector(nodes[name])]
    if not found:
        if binary := two_classes(graph, is_binary):
            return binary
        shapes = ", ".join(f"{name} {nodes[name].shape}" for name in graph.outputs if name in nodes)
        raise NoClassifierError(f"no output is a score for each class ({shapes}); choose a node with --output")
    if len(found) > 1:
        said = f"the model has several outputs; choose one with --output: {', '.join(found)}"
        raise SeveralHeadsError(said, found)
    last = nodes[found[0]]
    graph = pruned(replace(graph, outputs=(last.name,)))
    return as_scores(graph if len(last.shape) == 1 else _with_flat_output(graph, last))


def side_by_side(graph: Graph) -> tuple[Graph, tuple[int, ...]]:
    """(the graph with its outputs concatenated into one vector, the size of each)."""
    values = graph.values()
    sizes = tuple(prod(values[name].shape) for name in graph.outputs)
    for name, size in zip(graph.outputs, sizes, strict=True):
        if not values[name].batched:
            raise UnsupportedError(
                f"{values[name].source or name} is the same for all samples, so it cannot be compared"
            )
        flat = _reshape(free_name(graph, f"{name}_flat"), name, (size,))
        graph = replace(graph, nodes=(*graph.nodes, flat), outputs=(*graph.outputs[1:], flat.name))
    if len(sizes) > 1:
        name, shape = free_name(graph, "outputs"), (sum(sizes),)
        joined = Node(name, "concatenate", graph.outputs, {"axis": 0}, shape=shape, batched=True)
        graph = replace(graph, nodes=(*graph.nodes, joined), outputs=(name,))
    return graph, sizes


def first_output(graph: Graph, count: int) -> Graph:
    """The graph that gives the first of the `count` outputs that `side_by_side` concatenated."""
    last = next(node for node in graph.nodes if node.name == graph.outputs[0])
    return pruned(replace(graph, outputs=last.inputs[:1])) if count > 1 else graph


def image_input(graph: Graph, shape_CHW: Shape | None = None) -> Graph:
    """The graph with one input (C, H, W). A network of plain numbers gets them from an image of `shape_CHW`, by default
    a single row."""
    if len(graph.inputs) != 1:
        names = ", ".join(value.name for value in graph.inputs) or "nothing"
        raise NoClassifierError(f"the output is computed from {names}; it must depend on one input, the image")
    source = graph.inputs[0]
    if _has_channels_last(source.shape) and shape_CHW in (None, (source.shape[2], *source.shape[:2])):
        return _from_planes(graph)
    if len(source.shape) == 3 and shape_CHW in (None, source.shape):
        return graph
    wanted, shape_CHW = shape_CHW, shape_CHW or ((1,) * 3 + source.shape)[-3:]
    if len(source.shape) > 2 or prod(shape_CHW) != prod(source.shape):
        misfit = f"the network takes {source.shape}, which cannot be an image of shape {shape_CHW} (C, H, W)"
        raise UsageError(misfit) if wanted else NoClassifierError(misfit)
    image = Input(free_name(graph, "image"), shape_CHW, source.source)
    flat = replace(_reshape(source.name, image.name, source.shape), source=source.source)
    return replace(graph, inputs=(image,), nodes=(flat, *graph.nodes))


def _has_channels_last(shape: Shape) -> bool:
    """Whether the shape is (H, W, C), as for networks of Keras on CNTK: if it cannot be (C, H, W)."""
    return len(shape) == 3 and shape[2] in (1, 3) and shape[0] not in (1, 3)


def _from_planes(graph: Graph) -> Graph:
    """The graph with an input (C, H, W) in place of (H, W, C)."""
    source = graph.inputs[0]
    height, width, channels = source.shape
    image = Input(free_name(graph, "image"), (channels, height, width), source.source)
    turned = Node(
        source.name, "transpose", (image.name,), {"order": (1, 2, 0)}, shape=source.shape, batched=True,
        source=source.source,
    )  # fmt: skip
    notes = (*graph.notes, f"the input {source.source or source.name} is stored with its channels last")
    return replace(graph, inputs=(image,), nodes=(turned, *graph.nodes), notes=notes)


def reshaped_image(graph: Graph, shape_CHW: Shape) -> Graph:
    """The graph for images of another shape, if it flattens its input first."""
    source = graph.inputs[0]
    readers = [node for node in graph.nodes if source.name in node.inputs]
    if shape_CHW == source.shape:
        return graph
    if prod(shape_CHW) != prod(source.shape) or any(node.op != "reshape" for node in readers):
        raise UsageError(f"the network takes images {source.shape} (C, H, W), not {shape_CHW}")
    return replace(graph, inputs=(replace(source, shape=shape_CHW),))


def input_arithmetic(graph: Graph) -> Iterator[str]:
    """What the graph does to its input with frozen constants, in words: "minus 114", "times 0.00390625"."""
    words = {"subtract": "minus", "multiply": "times", "add": "plus", "divide": "divided by"}
    values, uses, name = graph.values(), graph.uses(), graph.inputs[0].name if graph.inputs else ""
    while uses[name] == 1:
        node = next((node for node in graph.nodes if name in node.inputs), None)
        if node is None or node.op not in (*words, "reshape"):
            return
        if node.op != "reshape":
            other = values[next((operand for operand in node.inputs if operand != name), name)]
            frozen = isinstance(other, Parameter) and other.is_frozen
            if not frozen or (node.op in ("subtract", "divide") and node.inputs[0] != name):
                return
            yield f"{words[node.op]} {_constant(other)}" + (f" ({node.source})" if node.source else "")
        name = node.name


def done_twice(graph: object, asked: tuple[str, ...]) -> str:
    """A warning that the network itself does what the user's --mean or --scale does (`asked`: "minus", "times"); empty
    if it does not."""
    own = input_arithmetic(graph) if asked and isinstance(graph, Graph) else ()
    again = [words for words in own if words.startswith(asked)]
    if not again:
        return ""
    return f"the network itself computes its input {', '.join(again)}, after --mean and --scale: leave out what it does"


def _constant(value: object) -> str:
    assert isinstance(value, Parameter)  # the caller has checked this
    if value.array.size <= 4:
        return ", ".join(f"{number:g}" for number in value.array.flat)
    return f"{value.name}, constants of shape {value.shape}"


def _is_vector(node: Node) -> bool:
    return node.batched and len(node.shape) >= 1 and max(node.shape) == prod(node.shape) > 1


def _with_flat_output(graph: Graph, last: Node) -> Graph:
    flat = _reshape(free_name(graph, "class_scores"), last.name, (prod(last.shape),))
    return replace(graph, nodes=(*graph.nodes, flat), outputs=(flat.name,))


def _reshape(name: str, x: str, shape: Shape) -> Node:
    return Node(name, "reshape", (x,), {"shape": shape}, shape=shape, batched=True)
