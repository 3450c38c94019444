"""What a training lowers: one number for each sample, of shape (1,)."""

from __future__ import annotations

from typing import Any

from convolve.cntk import refused
from convolve.cntk.axis import Axis
from convolve.cntk.ops.elementwise import element_times, log, minus, negate, plus, reciprocal, sqrt, square
from convolve.cntk.ops.functions import Function
from convolve.cntk.ops.making import block
from convolve.cntk.ops.shaping import reduce_log_sum_exp, reduce_sum, reshape
from convolve.cntk.ops.windows import times_transpose


def cross_entropy_with_softmax(output_vector: Any, target_vector: Any, axis: Any = -1, name: str = "") -> Function:
    """log(sum of exp(z)) - labels . z, which is the cross entropy where the labels sum to 1."""
    along = axis if isinstance(axis, Axis) else Axis(axis)

    def made(z: Any, labels: Any) -> Function:
        if len(output_vector.shape) == 1:
            return minus(reduce_log_sum_exp(z, 0), times_transpose(labels, z))
        return minus(reduce_log_sum_exp(z, along), reduce_sum(element_times(labels, z), along))

    return block("CrossEntropyWithSoftmax", made, output_vector, target_vector, name=name)


def binary_cross_entropy(output: Any, target: Any, name: str = "") -> Function:
    def made(p: Any, t: Any) -> Function:
        total = plus(element_times(t, log(p)), element_times(minus(1.0, t), log(minus(1.0, p))))
        return negate(_sum(total))

    return block("BinaryCrossEntropy", made, output, target, name=name)


def weighted_binary_cross_entropy(output: Any, target: Any, weight: Any, name: str = "") -> Function:
    def made(p: Any, t: Any, w: Any) -> Function:
        total = plus(element_times(t, log(p)), element_times(minus(1.0, t), log(minus(1.0, p))))
        return negate(_sum(element_times(w, total)))

    return block("WeightedBinaryCrossEntropy", made, output, target, weight, name=name)


def squared_error(output: Any, target: Any, name: str = "") -> Function:
    return block("SquaredError", lambda x, y: _sum(square(minus(x, y))), output, target, name=name)


def _sum(x: Any) -> Function:
    return reshape(reduce_sum(x), (1,))


def cosine_distance(x: Any, y: Any, name: str = "") -> Function:
    """x . y / (|x| |y|)."""

    def made(x: Any, y: Any) -> Function:
        product = _sum(element_times(x, y))
        return element_times(product, reciprocal(sqrt(element_times(_sum(square(x)), _sum(square(y))))))

    return block("CosDistance", made, x, y, name=name)


__getattr__ = refused.attribute(__name__)
