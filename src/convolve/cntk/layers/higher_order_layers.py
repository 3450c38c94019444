"""Layers made from other layers."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from convolve.cntk.layers.blocks import activation_of, identity
from convolve.cntk.ops import elementwise
from convolve.cntk.ops.functions import BlockFunction, Function, function_of


def Sequential(layers: Any, name: str = "") -> Function:
    """The layers one after the other; lists inside the list are sequences, too. The functions of a tuple are applied
    side by side, and the next layer gets all their results."""
    steps = [_step(layer) for layer in (layers if isinstance(layers, list | tuple) else [layers])]

    def sequential(x: Any) -> Any:
        values = (x,)
        for step in steps:
            made = [each(*values) for each in (step if isinstance(step, tuple) else (step,))]
            is_several = isinstance(made[0], Function) and len(made[0].outputs) > 1
            values = made[0].outputs if is_several and len(made) == 1 else tuple(made)
        return values if len(values) > 1 else values[0]

    def applied(keep: Any) -> Any:
        return sequential(identity(keep)) if steps else elementwise.alias(keep)

    return _named(applied, name)


def _named(definition: Callable[..., Any], name: str) -> Function:
    """A Python function as a function of CNTK. With a name, its result has that name; it is not a block, so that a
    search by name finds what is inside."""

    def labeled(keep: Any) -> Any:
        return elementwise.alias(definition(keep), name)

    return function_of(labeled if name else definition)


def _step(layer: Any) -> Any:
    if isinstance(layer, tuple):
        return tuple(map(_step, layer))
    if isinstance(layer, list):
        return Sequential(layer)
    if layer is None:
        return identity
    return layer


def For(what_range: Any, constructor: Callable[..., Any], name: str = "") -> Function:
    """`constructor`, called for each number of a range; the layers follow one after the other."""
    if isinstance(constructor, Function) or not inspect.isroutine(constructor):
        raise TypeError("For() expects a function that makes a layer, such as lambda i: Dense(5)")
    takes = len(inspect.signature(constructor).parameters)
    if takes > 1:
        raise TypeError("For() expects a constructor function with 0 or 1 parameters")
    return Sequential([constructor(i) if takes else constructor() for i in what_range], name)


def SequentialClique(functions: Sequence[Any], name: str = "") -> Function:
    """Each function gets the sum of its input and all earlier outputs."""

    def clique(x: Any) -> Any:
        for function in functions:
            out = function(x)
            x = x + out
        return out

    return _named(clique, name)


def ResNetBlock(f: Any, name: str = "") -> Function:
    """x + f(x)."""

    def skip(x: Any) -> Any:
        return f(x) + x

    return _named(skip, name)


def Activation(activation: Any = None, name: str = "") -> Function:
    from convolve.cntk.default_options import Unset, current

    chosen = activation_of(
        current("activation", None) if activation is None or isinstance(activation, Unset) else activation
    )

    @BlockFunction("Activation", name)
    def activated(x: Any) -> Any:
        made = chosen(x)
        return made if isinstance(made, Function) else elementwise.alias(made)

    return activated


def Label(name: str) -> Function:
    """The unchanged value, under a name."""

    return _named(identity, name)
