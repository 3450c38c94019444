"""Objectives of more than one loss: CNTK's criteria, as expressions of the labels and the network's outputs.

An expression is a number, several, "labels", one of the outputs by its number, {"output": 1}, or [row, operand, ...] of
the table below. In CNTK a criterion is a total over the minibatch. Here it is each sample's contribution; a function of
the total, such as its root, is spread evenly over them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from convolve.errors import UnsupportedError
from convolve.records import Objective, TargetKind

# Legend: N samples, M numbers of all outputs, D numbers of a value, K classes.

_LEAST = 1e-37  # limit for numbers whose logarithm CNTK takes: its EPS_IN_LOG


@dataclass(frozen=True)
class Total:
    """`each_N` is the contribution of each sample."""

    each_N: Tensor

    def through(self, function: Callable[..., Tensor], *others: Tensor) -> Total:
        """A function of the total itself."""
        whole = function(self.each_N.sum(), *others)
        return Total((whole / len(self.each_N)).expand(len(self.each_N)))


Value = Tensor | Total  # numbers_ND, or a value without a batch axis


def node_values(objective: Objective, outputs_NM: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The contribution of each sample to each node. `labels` are classes, or numbers_NK."""
    outputs = outputs_NM.split(objective.sizes, dim=1)
    numbers_NK = F.one_hot(labels, objective.sizes[0]).to(outputs_NM) if labels.ndim == 1 else labels.to(outputs_NM)
    return {name: _each(_evaluated(e, outputs, numbers_NK), name) for name, e in objective.nodes.items()}


def only(objective: Objective, *names: str) -> Objective:
    return replace(objective, nodes={name: objective.nodes[name] for name in names})


def answers(objective: Objective, outputs_NM: Tensor, kind: TargetKind) -> Tensor:
    """Probabilities of classes, or numbers, from the first of the outputs."""
    first_NK = outputs_NM[:, : objective.sizes[0]]
    return first_NK if kind == TargetKind.NUMBER or objective.gives_probabilities else first_NK.softmax(1)


def require_defined(objective: Objective, label_size: int) -> None:
    """Raise UnsupportedError for a node that is not one number per sample, or whose operands do not fit together."""
    outputs_NM, labels_NK = torch.full((2, sum(objective.sizes)), 0.5), torch.zeros(2, label_size)
    for name, expression in objective.nodes.items():
        try:
            _each(_evaluated(expression, outputs_NM.split(objective.sizes, dim=1), labels_NK), name)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise UnsupportedError(
                f"{name}: its operands do not fit together ({reason}); correct their sizes"
            ) from None


def _each(value: Value, name: str) -> Tensor:
    if isinstance(value, Total):
        return value.each_N
    if value.shape[1] != 1:
        raise UnsupportedError(f"{name} has {value.shape[1]} numbers per sample, but a criterion needs one; sum them")
    return value[:, 0]


def _evaluated(expression: Any, outputs: tuple[Tensor, ...], labels_NK: Tensor) -> Value:
    if expression == "labels":
        return labels_NK
    if isinstance(expression, dict):
        return outputs[expression["output"]].flatten(1)
    if not isinstance(expression, list | tuple) or not isinstance(expression[0], str):
        return labels_NK.new_tensor(expression).reshape(1, -1).expand(len(labels_NK), -1)
    row = ROWS[expression[0]]
    return row(*[_evaluated(operand, outputs, labels_NK) for operand in expression[1:]])


# -- rows -------------------------------------------------------------------------------------------------------------

Row = Callable[..., Value]


def _samples(*values: Value) -> list[Tensor]:
    if any(isinstance(value, Total) for value in values):
        raise UnsupportedError("a criterion of a criterion is not supported; use the inner one")
    return [value for value in values if isinstance(value, Tensor)]


def _criterion(of_each: Callable[..., Tensor]) -> Row:
    """A total over the minibatch."""
    return lambda *values: Total(of_each(*_samples(*values)))


def _function(function: Callable[[Tensor], Tensor]) -> Row:
    return lambda x: x.through(function) if isinstance(x, Total) else function(x)


def _along(function: Callable[[Tensor], Tensor]) -> Row:
    """A function of all numbers of a sample."""
    return lambda x: function(*_samples(x))


def _linear(x: Value, y: Value, sign: float) -> Value:
    """x + sign * y. A number beside a total is added once, not for each sample."""
    if not isinstance(x, Total) and not isinstance(y, Total):
        return x + sign * y
    parts = [value.each_N if isinstance(value, Total) else value[:, 0] / len(value) for value in (x, y)]
    return Total(parts[0] + sign * parts[1])


def _times(x: Value, y: Value) -> Value:
    if isinstance(x, Total) and isinstance(y, Total):
        return x.through(lambda whole, other: whole * other, y.each_N.sum())
    if isinstance(x, Total) or isinstance(y, Total):
        total, factor = (x, y) if isinstance(x, Total) else (y, x)
        assert isinstance(total, Total) and isinstance(factor, Tensor)  # since there is only one of each
        return Total(total.each_N * factor[:, 0])
    return x * y


def _is_wrong(labels_NK: Tensor, scores_NK: Tensor, top_N1: Tensor | None = None) -> Tensor:
    """Whether the class with the largest label is not among the `top` most probable."""
    top = 1 if top_N1 is None else min(int(top_N1[0, 0]), scores_NK.shape[1])
    likely_NT = scores_NK.topk(top, dim=1).indices
    return (likely_NT != labels_NK.argmax(1, keepdim=True)).all(1).to(scores_NK)


def _log(x: Tensor) -> Tensor:
    return x.clamp_min(_LEAST).log()


def _logistic(labels_NK: Tensor, p_NK: Tensor, weight_NK: Tensor | None = None) -> Tensor:
    """With weights, CNTK's gradient is that of the weighted sum, and its value is divided by their mean (as observed
    with CNTK 2.7)."""
    loss_NK = -(labels_NK * _log(p_NK) + (1 - labels_NK) * _log(1 - p_NK))
    if weight_NK is None:
        return loss_NK.sum(1)
    weighted_N = (loss_NK * weight_NK).sum(1)
    return weighted_N + (weighted_N / weight_NK.mean() - weighted_N).detach()


# CNTK's name of an operation -> its function of numbers_ND
ROWS: dict[str, Row] = {
    "CrossEntropyWithSoftmax": _criterion(lambda labels, z: -(labels * z.log_softmax(1)).sum(1)),
    "CrossEntropy": _criterion(lambda labels, p: -(labels * _log(p)).sum(1)),
    "SquareError": _criterion(lambda x, y: (x - y).square().sum(1)),
    "Logistic": _criterion(_logistic),
    "WeightedLogistic": _criterion(_logistic),
    "ClassificationError": _criterion(_is_wrong),
    "SumElements": _criterion(lambda x: x.sum(1)),
    "Plus": lambda x, y: _linear(x, y, 1.0),
    "Minus": lambda x, y: _linear(x, y, -1.0),
    "ElementTimes": _times,
    "Negate": _function(torch.neg),
    "Sqrt": _function(torch.sqrt),
    "Exp": _function(torch.exp),
    "Log": _function(_log),
    "Abs": _function(torch.abs),
    "Reciprocal": _function(torch.reciprocal),
    "Sigmoid": _function(torch.sigmoid),
    "Tanh": _function(torch.tanh),
    "ReLU": _function(torch.relu),
    "Pass": lambda x: x,
    "Reshape": lambda x: x,
    "StopGradient": _function(torch.detach),
    "Softmax": _along(lambda x: x.softmax(1)),
    "LogSoftmax": _along(lambda x: x.log_softmax(1)),
    "Greater": lambda x, y: (x > y).to(x),
    "GreaterEqual": lambda x, y: (x >= y).to(x),
    "Less": lambda x, y: (x < y).to(x),
    "LessEqual": lambda x, y: (x <= y).to(x),
    "Equal": lambda x, y: (x == y).to(x),
    "NotEqual": lambda x, y: (x != y).to(x),
    "ReduceSum": _along(lambda x: x.sum(1, keepdim=True)),
    "ReduceMean": _along(lambda x: x.mean(1, keepdim=True)),
    "ReduceMax": _along(lambda x: x.amax(1, keepdim=True)),
    "ReduceMin": _along(lambda x: x.amin(1, keepdim=True)),
    "ReduceLogSum": _along(lambda x: x.logsumexp(1, keepdim=True)),
}
