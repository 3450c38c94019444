"""What a network in BrainScript is trained on: its criteria as expressions of labels and of the network's outputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from convolve.importers.brainscript.network import Network, Operation, needed_for

# CNTK's criteria, whose first operand is the labels -> whether they are for classes.
CRITERIA = {
    "CrossEntropyWithSoftmax": True, "CrossEntropy": True, "ClassificationError": True, "SquareError": False,
    "Logistic": False, "WeightedLogistic": False,
}  # fmt: skip
# Other functions of labels and criteria: rows of training/objective.py.
_FUNCTIONS = (
    "Plus Minus ElementTimes Negate Sqrt Exp Log Abs Reciprocal Sigmoid Tanh ReLU Pass Reshape StopGradient Softmax "
    "LogSoftmax Greater GreaterEqual Less LessEqual Equal NotEqual SumElements"
)
_REDUCTIONS = frozenset(("Sum", "Mean", "Max", "Min", "LogSum"))
_MAX_DEPTH = 100  # of operations on criteria


@dataclass(frozen=True, eq=False)
class Trained:
    """What is trained.

    `outputs`: the network's values that the criteria read; the first one is its answer. `nodes`: expressions of
    `outputs` and `labels`. `criterion` is minimized, `evaluations` are reported beside it. `is_plain`: cross-entropy
    with softmax, and at most one classification error, which every training has. `is_class`: each sample has one class.
    """

    labels: Operation
    outputs: tuple[Operation, ...]
    nodes: dict[str, Any]
    criterion: str
    evaluations: tuple[str, ...]
    is_plain: bool
    is_class: bool


def trained(network: Network) -> Trained:
    """The network's criteria. Raises FormatError or UnsupportedError, with the place, if they cannot be minimized."""
    criterion, evaluations = network.criterion(), network.roles["evaluationNodes"]
    roots = [*dict.fromkeys((criterion, *evaluations))]
    cut = _Cut(_label_input(network, roots))
    for root in roots:
        cut.expression(root)
    if not cut.outputs:
        raise criterion.unsupported("a criterion that does not depend on the network")
    answer = next((node for node in network.roles["outputNodes"] if node in cut.outputs), None)
    if answer is not None:
        cut.outputs = dict.fromkeys((answer, *cut.outputs))
    nodes = {root.name: cut.expression(root) for root in roots}
    asked = [node for node in network.members.values() if node.kind in CRITERIA and cut.looks_at_known(node)]
    is_plain = criterion.kind == "CrossEntropyWithSoftmax" and criterion.inputs[0] is cut.labels
    is_plain &= len(cut.outputs) == 1 and len(evaluations) <= 1
    is_plain &= all(node.kind == "ClassificationError" and len(node.inputs) == 2 for node in evaluations)
    return Trained(
        labels=cut.labels, outputs=tuple(cut.outputs),
        nodes={node.name: cut.expression(node) for node in asked} | nodes,  # a test may ask for these, too
        criterion=criterion.name, evaluations=tuple(node.name for node in evaluations if node is not criterion),
        is_plain=is_plain, is_class=any(CRITERIA.get(node.kind, False) for node in needed_for(roots)),
    )  # fmt: skip


def input_names(network: Network | None) -> tuple[str, str]:
    """The names of the input that the outputs depend on, and of the labels; "" where there is none."""
    if network is None:
        return "", ""
    found = trained(network)
    features = [node.name for node in needed_for(found.outputs) if node.kind == "Input"]
    return features[0] if features else "", found.labels.name


def _label_input(network: Network, roots: Sequence[Operation]) -> Operation:
    """The input that the criteria compare with; labelNodes, if given, name it."""
    needed = needed_for(roots)
    inputs = [node for node in needed if node.kind == "Input"]
    features = set(network.roles["featureNodes"])
    compared = needed_for([node.inputs[0] for node in needed if node.kind in CRITERIA and node.inputs])
    by_role = [node for node in inputs if node in network.roles["labelNodes"]]
    by_place = [node for node in inputs if node in compared and node not in features]
    found = by_role or by_place or [node for node in inputs if "label" in node.name.lower()]
    if not found:
        raise roots[0].unsupported("a criterion without labels")
    if len(found) > 1:
        names = " and ".join(node.name for node in found)
        raise roots[0].unsupported(
            f"a criterion with several inputs of labels ({names}), instead of one input with all of them,"
        )
    return found[0]


class _Cut:
    """Separates functions of the labels, which become expressions, from the network that they read: its `outputs`."""

    def __init__(self, labels: Operation) -> None:
        self.labels = labels
        self.outputs: dict[Operation, None] = {}
        self._depends = {labels: True}

    def depends(self, wanted: Operation) -> bool:
        if wanted not in self._depends:  # asked of each node of a network, operands first or last
            unknown = any(operand not in self._depends for operand in wanted.inputs)
            for node in needed_for([wanted]) if unknown else [wanted]:
                self._depends.setdefault(node, any(self._depends[operand] for operand in node.inputs))
        return self._depends[wanted]

    def looks_at_known(self, criterion: Operation) -> bool:
        """Whether it needs nothing but the `outputs` found so far."""
        nodes = [node for node in needed_for([criterion]) if self.depends(node)]
        others = [operand for node in nodes for operand in node.inputs if not self.depends(operand)]
        inside = all(node.kind in CRITERIA or node is self.labels for node in nodes)
        return inside and all(node in self.outputs or node.kind in ("Constant", "Parameter") for node in others)

    def expression(self, node: Operation, depth: int = 0) -> Any:
        if depth > _MAX_DEPTH:
            raise node.unsupported(f"a criterion of more than {_MAX_DEPTH} nested operations")
        if node is self.labels:
            return "labels"
        if depth and not self.depends(node):
            return self._known(node)
        if node.kind in ("CrossEntropyWithSoftmax", "ClassificationError") and not self.depends(node.inputs[0]):
            raise node.error("the labels come first, as in CrossEntropyWithSoftmax (labels, z)")
        if node.settings.get("along"):
            raise node.unsupported("a criterion along one axis")
        operands = [self.expression(operand, depth + 1) for operand in node.inputs]
        if node.kind == "Reduce" and node.settings["how"] in _REDUCTIONS:
            return [f"Reduce{node.settings['how']}", *operands]
        if node.kind not in CRITERIA and node.kind not in _FUNCTIONS.split():
            raise node.unsupported(f"{node.kind} of labels or criteria")
        return [node.kind, *operands]

    def _known(self, node: Operation) -> Any:
        """A number, an array of numbers, or an output of the network."""
        from convolve.importers.brainscript.initial import initial_values  # imports torch, which most readers need not

        leaves = needed_for([node])
        if any(leaf.kind == "Input" for leaf in leaves):
            self.outputs.setdefault(node)
            return {"output": [*self.outputs].index(node)}
        if node.kind == "Constant":
            return node.number("value")
        if node.kind == "Parameter" and node.number("rate") == 0:
            values = initial_values(node, node.integers("shape"), None)
            return float(values.flat[0]) if values.size == 1 else np.ravel(values).tolist()
        raise node.unsupported("a parameter or a function of constants among criteria")
