"""Metrics: one number per sample."""

from typing import Any

from convolve.cntk import refused
from convolve.cntk.axis import Axis
from convolve.cntk.ops.elementwise import equal, greater_equal, minus, not_equal
from convolve.cntk.ops.functions import Function
from convolve.cntk.ops.making import block, primitive
from convolve.cntk.ops.shaping import hardmax, reduce_max, reduce_mean, reduce_sum
from convolve.cntk.ops.windows import times_transpose


def classification_error(
    output_vector: Any, target_vector: Any, axis: Any = -1, topN: int = 1, name: str = ""
) -> Function:
    """1 if the target is not the largest element, or not among the `topN` largest."""
    if topN > 1:
        return primitive("ClassificationError", output_vector, target_vector, float(topN), name=name)
    along = axis if isinstance(axis, Axis) else Axis(axis)

    def made(z: Any, labels: Any) -> Function:
        if along == Axis(-1):
            return minus(1.0, times_transpose(labels, hardmax(z)))
        wrong = not_equal(equal(z, reduce_max(z, along)), labels)
        return reduce_mean(greater_equal(reduce_sum(wrong, along), 1.0))

    return block("ClassificationError", made, output_vector, target_vector, name=name)


__getattr__ = refused.attribute(__name__)
