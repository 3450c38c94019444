"""Writes the code of a module: calls, layers, and the parameters that they take from the graph."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from convolve.errors import UnsupportedError
from convolve.graph.graph import Array, Graph, Input, Node, Parameter
from convolve.graph.shapes import Shape


class Emitter:
    """`code` grows call by call; `root` collects the layers; `values` maps the graph's values to the code's.

    `shares`: the parameters also belong to others, so no layer owns them, and outputs are always a tuple.
    """

    shares = False

    def __init__(self, graph: Graph) -> None:
        self.code = fx.Graph()
        self.root = nn.Module()
        self.values: dict[str, fx.Node] = {}
        self._graph_values = graph.values()
        self._uses = graph.uses()

    def shape(self, name: str) -> Shape:
        return self._graph_values[name].shape

    def batched(self, name: str) -> bool:
        return self._graph_values[name].batched

    # -- code ---------------------------------------------------------------------------------------------------------

    def placeholder(self, value: Input) -> None:
        self.values[value.name] = self.code.create_node("placeholder", value.name, name=value.name)

    def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        """A call of `function`; without a `name`, the variable is named after the function."""
        return self.code.create_node("call_function", function, args, kwargs, name=name or None)

    def layer(self, name: str, layer: nn.Module, *args: fx.Node) -> fx.Node:
        """A call of `layer`, which becomes a submodule called `name`."""
        attribute = self._attribute(name)
        self.root.add_module(attribute, layer)
        return self.code.create_node("call_module", attribute, args, name=name)

    def reshaped(self, name: str, x: fx.Node, shape: Shape, batched: bool) -> fx.Node:
        if batched and len(shape) == 1:
            return self.call(name, torch.flatten, x, 1)
        return self.call(name, torch.reshape, x, (-1, *shape) if batched else shape)

    def value(self, name: str) -> fx.Node:
        """The code's variable for a value; a parameter that no layer owns becomes one of the module itself."""
        if name not in self.values:
            self.values[name] = self._free_parameter(self._graph_values[name])
        return self.values[name]

    def aligned(self, node: Node, literals: bool = False) -> list[fx.Node | float]:
        """The operands of a node, ready for broadcasting: samples get leading axes of 1, up to the result's rank."""
        constants = {name: self._graph_values[name].constant if literals else None for name in node.inputs}
        numbers = {name: n if n is not None and math.isfinite(n) else None for name, n in constants.items()}
        if not any(numbers[name] is None and self.shape(name) == node.shape for name in node.inputs):
            numbers = dict.fromkeys(numbers)  # only the parameters give the result its shape
        return [self._operand(node, name) if (n := numbers[name]) is None else n for name in node.inputs]

    def _operand(self, node: Node, name: str) -> fx.Node:
        missing = len(node.shape) - len(self.shape(name))
        if missing and self.batched(name):
            return self.call("", torch.reshape, self.value(name), (-1, *(1,) * missing, *self.shape(name)))
        return self.value(name)

    @staticmethod
    def padding(node: Node) -> tuple[int, ...]:
        """`lower` and `upper` as `torch.nn.functional.pad` takes them: the last axis first, its ends side by side."""
        ends = zip(node.integers("lower")[::-1], node.integers("upper")[::-1], strict=True)
        return tuple(end for pair in ends for end in pair)

    # -- parameters ---------------------------------------------------------------------------------------------------

    def own(self, *names: str) -> list[Parameter] | None:
        """The parameters called `names`, if all are parameters that nothing else uses: then a layer may own them."""
        values = [self._graph_values[name] for name in names]
        mine = [value for value in values if isinstance(value, Parameter) and self._uses[value.name] == 1]
        return mine if len(mine) == len(names) else None

    def parameter(self, source: Parameter, array: Array | None = None) -> nn.Parameter:
        """A copy of the values of `source`, rearranged to `array` if given."""
        data = tensor(source.array if array is None else array, source.name)
        parameter = nn.Parameter(data, requires_grad=not source.is_frozen)
        if source.learning_rate_multiplier not in (0, 1):
            parameter.learning_rate_multiplier = source.learning_rate_multiplier  # type: ignore[attr-defined]
        return parameter

    def _free_parameter(self, value: Any) -> fx.Node:
        attribute = self._attribute(value.name)
        if value.is_frozen:
            self.root.register_buffer(attribute, tensor(value.array, value.name))
        else:
            self.root.register_parameter(attribute, self.parameter(value))
        return self.code.create_node("get_attr", attribute, name=value.name)

    def _attribute(self, name: str) -> str:
        """`name`, or a similar one if a module already has that attribute."""
        while hasattr(self.root, name) or hasattr(fx.GraphModule, name):
            name += "_"
        return name


def tensor(array: Array, name: str) -> torch.Tensor:
    """A float32 copy in C order."""
    with np.errstate(over="ignore"):
        copy = np.array(array, dtype=np.float32, order="C")
    if array.dtype != np.float32 and not np.array_equal(np.isfinite(copy), np.isfinite(array)):
        raise UnsupportedError(f"parameter {name} holds numbers beyond float32")
    return torch.from_numpy(copy)
