"""What CNTK's binary prints about a network before training: nodes with shapes, criteria, learnable parameters.

The form of these lines is that of CNTK 2.x, as far as it is known; shapes of functions of labels are left out.
"""

from collections.abc import Iterator
from math import prod

from convolve.errors import ConvolveError
from convolve.importers.brainscript.criterion import CRITERIA, trained
from convolve.importers.brainscript.lower import sample_shapes
from convolve.importers.brainscript.network import Network, Operation, needed_for

# Ours -> CNTK's, where they differ.
_NAMES = {
    "Input": "InputValue", "Parameter": "LearnableParameter", "Constant": "LearnableParameter",
    "ReLU": "RectifiedLinear", "Cos": "Cosine", "ELU": "ExponentialLinearUnit", "Transpose": "TransposeDimensions",
    "Reduce": "ReduceElements", "Splice": "RowStack",
}  # fmt: skip


def network_lines(network: Network, device: str) -> Iterator[str]:
    """`device` in CNTK's words: "CPU", "GPU 0"."""
    found = trained(network)
    roots = [*dict.fromkeys((network.criterion(), *network.roles["evaluationNodes"]))]
    nodes = needed_for(roots)
    shapes = _shapes(network)
    yield f"\nValidating network. {len(nodes)} nodes to process in pass 1.\n"
    yield from (_node_line(node, shapes) for node in nodes if _is_known(node, shapes))
    yield "\nValidating network, final pass.\n"
    yield f"Model has {len(nodes)} nodes. Using {device}.\n"
    yield f"Training criterion:   {found.criterion} = {_name(roots[0])}"
    yield from (f"Evaluation criterion: {root.name} = {_name(root)}" for root in network.roles["evaluationNodes"])
    learned = [node for node in nodes if _is_learned(node) and node in shapes]
    count, moving = sum(prod(shapes[node][0]) for node in learned), _with_gradient(needed_for(roots[:1]))
    tensors = f"{len(learned)} out of {len(learned)} parameter tensors"
    yield f"\nTraining {count} parameters in {tensors} and {moving} nodes with gradient:\n"
    yield from (f"\tNode '{node.name}' (LearnableParameter operation) : {_brackets(*shapes[node])}" for node in learned)
    if not any(node.kind in ("Mean", "InvStdDev") for node in nodes):
        yield "\nNo PreCompute nodes found, or all already computed. Skipping pre-computation step."


def _shapes(network: Network) -> dict[Operation, tuple[tuple[int, ...], bool]]:
    """(shape, the fastest axis first; whether each sample has one) of the nodes that are known."""
    found = trained(network)
    shapes = sample_shapes(found.outputs) | {found.labels: (found.labels.integers("shape"), True)}
    for node in needed_for([network.criterion(), *network.roles["evaluationNodes"]]):
        if node.kind in CRITERIA:
            shapes[node] = ((1,), False)
    return shapes


def _is_known(node: Operation, shapes: dict[Operation, tuple[tuple[int, ...], bool]]) -> bool:
    return node in shapes and all(operand in shapes for operand in node.inputs)


def _node_line(node: Operation, shapes: dict[Operation, tuple[tuple[int, ...], bool]]) -> str:
    names = ", ".join(operand.name for operand in node.inputs)
    operands = ", ".join(_brackets(*shapes[operand]) for operand in node.inputs)
    return f"Validating --> {node.name} = {_name(node)} ({names}) : {operands} -> {_brackets(*shapes[node])}"


def _name(node: Operation) -> str:
    return _NAMES.get(node.kind, node.kind)


def _brackets(shape: tuple[int, ...], batched: bool) -> str:
    """[28 x 28 x 1 x *], where the star stands for the samples."""
    return f"[{' x '.join([*map(str, shape), *(['*'] if batched else [])])}]"


def _is_learned(node: Operation) -> bool:
    try:
        return node.kind == "Parameter" and node.number("rate") != 0
    except ConvolveError:  # elsewhere, a setting that is not a number is an error
        return False


def _with_gradient(nodes: list[Operation]) -> int:
    """How many nodes a gradient reaches: learnable parameters, and all that is computed from them."""
    moving: set[Operation] = set()
    for node in nodes:
        if _is_learned(node) or any(operand in moving for operand in node.inputs):
            moving.add(node)
    return len(moving)
