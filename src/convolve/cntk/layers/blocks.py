"""Building blocks of layers."""

from typing import Any

import numpy as np

from convolve.cntk.ops import element_times, elementwise
from convolve.cntk.ops.functions import BlockFunction
from convolve.cntk.variables import Parameter


def identity(keep: Any) -> Any:
    return keep


def activation_of(activation: Any) -> Any:
    """None means the identity; the functions of a list are applied one after the other."""
    from convolve.cntk.layers.higher_order_layers import Sequential

    if activation is None:
        return identity
    return Sequential(activation) if isinstance(activation, list | tuple) else activation


def Stabilizer(steepness: float = 4, enable_self_stabilization: bool = True, name: str = "") -> Any:
    """A learned scale: softplus of one parameter, 1 at the start."""
    if not enable_self_stabilization:
        return identity
    param = Parameter((), init=np.log(np.exp(steepness) - 1) / steepness, name="alpha")
    beta = elementwise.softplus(param, steepness=steepness)

    @BlockFunction("Stabilizer", name)
    def stabilize(x: Any) -> Any:
        return element_times(beta, x)

    return stabilize
