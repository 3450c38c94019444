"""The end of a classifier: whether its outputs are logits, or probabilities from a softmax, a sigmoid or a hardmax.

Evaluation applies a softmax to the scores, and it must not be applied twice. So a softmax at the end is removed, also
if only changes of shape follow it; if it cannot be removed, a logarithm is added, since the softmax of log p is p. The
probabilities of sigmoids do not sum to 1: `gives_independent` recognizes such a graph by its end, the logarithm of a
sigmoid, and evaluation does not normalize them.
"""

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from convolve.graph.graph import Graph, Node, Parameter, Value, free_name, pruned

_SAME_NUMBERS = {"reshape", "transpose", "dropout", "stop_gradient"}
_OVER_CELLS = {"average_pool", "max_pool", "reduce_mean", "reduce_max", "reduce_min"}
_ENDS = {"softmax", "log_softmax", "sigmoid", "log_sigmoid", "hardmax"}


@dataclass(frozen=True)
class _End:
    """`node` computes probabilities; the nodes in `behind` follow it, in order, and only move values if `moves`, or
    scale them if `scales`."""

    node: Node
    behind: tuple[Node, ...]
    moves: bool
    scales: bool


def as_scores(graph: Graph) -> Graph:
    """The graph with a single vector as its output, whose softmax gives the file's probabilities; or, after sigmoids,
    whose exponential does."""
    graph = _with_one_logarithm(graph)
    end = _end_of(graph, graph.outputs[0])
    if end is None or (end.node.op == "sigmoid" and end.scales):
        return graph
    name = end.node.name
    if end.node.op in ("softmax", "log_softmax") and _is_of_all_classes(end) and _is_read_once(graph, end):
        note = f"the {end.node.op} at the end ({name}) is removed, since evaluation applies its own"
        return _without(replace(graph, notes=(*graph.notes, note)), end)
    if end.node.op in ("log_softmax", "log_sigmoid"):
        return graph
    kind = "independent probabilities of each class" if end.node.op == "sigmoid" else "probabilities"
    notes = (*graph.notes, f"its outputs are {kind} ({end.node.op} {name}) and treated as such")
    if end.node.op == "sigmoid" and end.moves and _is_read_once(graph, end):
        exact = replace(end.node, op="log_sigmoid")
        return replace(graph, nodes=tuple(exact if node is end.node else node for node in graph.nodes), notes=notes)
    last = graph.values()[graph.outputs[0]]
    log = Node(free_name(graph, "log_probabilities"), "log", (last.name,), {}, shape=last.shape, batched=True)
    return replace(graph, nodes=(*graph.nodes, log), outputs=(log.name,), notes=notes)


def _with_one_logarithm(graph: Graph) -> Graph:
    """The graph with one `log` at its end, where our exported files have the equivalent of `functions.log`."""
    values = graph.values()
    last = values[graph.outputs[0]]
    if not isinstance(last, Node) or last.op != "select":
        return graph
    below, lowest, log = (values[name] for name in last.inputs)
    clamp = values[log.inputs[0]] if isinstance(log, Node) and log.op == "ieee_log" else None
    if not isinstance(below, Node) or not isinstance(clamp, Node) or (below.op, clamp.op) != ("less", "clamp"):
        return graph
    if below.inputs[0] != clamp.inputs[0] or not -85.2 < (lowest.constant or 0) < -85:
        return graph
    whole = replace(last, op="log", inputs=clamp.inputs)
    return pruned(replace(graph, nodes=tuple(whole if node is last else node for node in graph.nodes)))


def two_classes(graph: Graph, is_logit: bool) -> Graph | None:
    """The graph of a single score as one of two classes; the score is for the second class.

    The softmax of (0, z) is (1 - p, p), where p is the sigmoid of z. None if the score does not come from a sigmoid and
    `is_logit` is false.
    """
    last = graph.values()[graph.outputs[0]]
    if len(graph.outputs) != 1 or not last.batched or prod(last.shape) != 1:
        return None
    end = _end_of(graph, last.name)
    if end and end.node.op == "sigmoid" and not end.scales:
        graph = replace(graph, outputs=(end.node.inputs[0],))
        note = f"its one score is the probability ({end.node.name}) of the second of two classes"
    elif is_logit:
        note = "its one score is the logit of the second of two classes"
    else:
        return None
    last = graph.values()[graph.outputs[0]]
    flat = Node(free_name(graph, "score"), "reshape", (last.name,), {"shape": (1,)}, shape=(1,), batched=True)
    factors = Parameter(free_name(graph, "classes"), np.array([0, 1], np.float32), learning_rate_multiplier=0)
    scores = Node(free_name(graph, "class_scores"), "multiply", (flat.name, factors.name), {}, shape=(2,), batched=True)
    whole = replace(
        graph, nodes=(*graph.nodes, flat, scores), parameters=(*graph.parameters, factors), outputs=(scores.name,),
        notes=(*graph.notes, note),
    )  # fmt: skip
    return pruned(whole)


def makes_probabilities(graph: Graph, name: str) -> bool:
    """Whether the value called `name` comes from a softmax, a sigmoid or a hardmax."""
    return _end_of(graph, name) is not None


def gives_independent(graph: Graph) -> bool:
    """Whether the output is the logarithm of sigmoids' probabilities: classes are independent of each other."""
    _, end = _before_logarithm(graph)
    return end is not None and end.node.op in ("sigmoid", "log_sigmoid")


def for_training(graph: Graph) -> Graph:
    """The graph without the probabilities at its end: training applies its own."""
    before, end = _before_logarithm(graph)
    return _without(before, end) if end and end.moves and _is_read_once(before, end) else graph


def without_sigmoid(graph: Graph) -> Graph:
    """The graph that gives the logits, if it ends in a sigmoid."""
    end = _end_of(graph, graph.outputs[0])
    takes_off = end is not None and end.node.op == "sigmoid" and end.moves and _is_read_once(graph, end)
    return _without(graph, end) if end and takes_off else graph


def _before_logarithm(graph: Graph) -> tuple[Graph, _End | None]:
    """(the graph without a logarithm at its end, the node that computes probabilities there); None for other scores."""
    last = graph.values()[graph.outputs[0]]
    if isinstance(last, Node) and last.op == "log":
        graph = pruned(replace(graph, outputs=last.inputs))
        return graph, _end_of(graph, graph.outputs[0])
    end = _end_of(graph, last.name)
    return graph, end if end and end.moves and end.node.op == "log_sigmoid" else None


def _end_of(graph: Graph, name: str) -> _End | None:
    """The node that computes probabilities, if the value called `name` consists of them."""
    values, behind, moves, scales = graph.values(), list[Node](), True, False
    while True:
        node = values[name]
        if not isinstance(node, Node):
            return None
        if node.op in _ENDS:
            return _End(node, tuple(behind[::-1]), moves, scales) if isinstance(values[node.inputs[0]], Node) else None
        name = node.inputs[0]
        if factor := _scaled(values, node):
            name, moves, scales = factor, False, True
        elif node.op in _OVER_CELLS and prod(values[name].shape) != prod(node.shape):
            moves = False
        elif node.op not in _SAME_NUMBERS | _OVER_CELLS or _is_padded(node):
            return None
        behind.append(node)


def _scaled(values: dict[str, Value], node: Node) -> str:
    """The operand that is multiplied by a positive constant; empty for anything else."""
    if node.op == "multiply":
        for name, other in (node.inputs, node.inputs[::-1]):
            if (values[other].constant or 0) > 0:
                return name
    return ""


def _is_padded(node: Node) -> bool:
    return node.op == "average_pool" and any((*node.integers("lower"), *node.integers("upper")))


def _is_of_all_classes(end: _End) -> bool:
    """Whether the softmax is over all numbers of a sample, and everything after it only moves them."""
    return end.moves and prod(end.node.shape[axis] for axis in end.node.integers("axes")) == prod(end.node.shape)


def _is_read_once(graph: Graph, end: _End) -> bool:
    uses = graph.uses()
    return all(uses[node.name] == 1 for node in (end.node, *end.behind))


def _without(graph: Graph, end: _End) -> Graph:
    """The graph in which the values after the end come directly from its operand."""
    source = end.node.inputs[0]

    def fed(node: Node) -> Node:
        return replace(node, inputs=tuple(source if name == end.node.name else name for name in node.inputs))

    outputs = tuple(source if name == end.node.name else name for name in graph.outputs)
    return pruned(replace(graph, nodes=tuple(map(fed, graph.nodes)), outputs=outputs))
