"""Losses: most give one number per sample."""

from typing import Any

from convolve.cntk import refused
from convolve.cntk.axis import Axis
from convolve.cntk.ops.elementwise import element_divide, element_times, log, minus, negate, plus, square
from convolve.cntk.ops.functions import Function
from convolve.cntk.ops.making import block, primitive
from convolve.cntk.ops.shaping import reduce_log_sum_exp, reduce_sum
from convolve.cntk.ops.windows import times_transpose


def cross_entropy_with_softmax(output_vector: Any, target_vector: Any, axis: Any = -1, name: str = "") -> Function:
    """log(sum of exp(z)) - labels . z, which is the cross entropy if the labels sum to 1.

    Along the last axis of a matrix, CNTK multiplies matrices; along another axis, elements.
    """
    along = axis if isinstance(axis, Axis) else Axis(axis)

    def made(z: Any, labels: Any) -> Function:
        if along == Axis(-1):
            return minus(reduce_log_sum_exp(z, along), times_transpose(labels, z))
        return minus(reduce_log_sum_exp(z, along), reduce_sum(element_times(labels, z), along))

    return block("CrossEntropyWithSoftmax", made, output_vector, target_vector, name=name)


def _log_likelihood(p: Any, t: Any) -> Function:
    return plus(element_times(t, log(p)), element_times(minus(1.0, t), log(minus(1.0, p))))


def binary_cross_entropy(output: Any, target: Any, name: str = "") -> Function:
    """The binary cross entropy of each element."""
    return block("BinaryCrossEntropy", lambda p, t: negate(_log_likelihood(p, t)), output, target, name=name)


def weighted_binary_cross_entropy(output: Any, target: Any, weight: Any, name: str = "") -> Function:
    def made(p: Any, t: Any, w: Any) -> Function:
        return negate(element_times(w, _log_likelihood(p, t)))

    return block("WeightedBinaryCrossEntropy", made, output, target, weight, name=name)


def squared_error(output: Any, target: Any, name: str = "") -> Function:
    return block("SquaredError", lambda x, y: reduce_sum(square(minus(x, y))), output, target, name=name)


def cosine_distance(x: Any, y: Any, name: str = "") -> Function:
    """x . y / (|x| |y|)."""
    return primitive("CosDistance", x, y, name=name)


def fmeasure(output: Any, target: Any, beta: float = 1) -> Function:
    """1 - F1, which is one minus the Dice coefficient of two masks."""

    def made(output: Any, target: Any) -> Function:
        hits, weight = reduce_sum(element_times(output, target)), beta**2
        precision, recall = element_divide(hits, reduce_sum(output)), element_divide(hits, reduce_sum(target))
        top = element_times(1.0 + weight, element_times(precision, recall))
        return minus(1.0, element_divide(top, plus(element_times(float(weight), precision), recall)))

    return block("fmeasure", made, output, target)


__getattr__ = refused.attribute(__name__)
