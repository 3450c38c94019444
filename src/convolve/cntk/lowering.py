"""Functions -> the neutral graph -> one torch module, whose parameters are those of the functions themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from convolve.cntk.gradients import WITH_GRADIENTS
from convolve.cntk.nodes import Node, resolved
from convolve.cntk.pools import MaxPool
from convolve.cntk.randomness import Dropout
from convolve.cntk.rules import DRAWN, RULES
from convolve.cntk.variables import TORCH_TYPES, Constant, Input, Output, Shape, Stored, Variable
from convolve.errors import ConvolveError
from convolve.graph.build import build
from convolve.graph.draft import Draft
from convolve.graph.emit import Emitter
from convolve.graph.graph import Graph, Parameter
from convolve.graph.shapes import GraphError
from convolve.importers.cntk.call import Call
from convolve.importers.cntk.model import Attributes
from convolve.training.memory import keep_freed_memory


@dataclass(eq=False)
class Module:
    """`module` takes the `inputs`, in their order, and gives a tuple of the outputs."""

    module: fx.GraphModule
    inputs: list[Variable]
    draws: list[tuple[Node, Variable]]  # random nodes, and the input or the buffer that takes their numbers
    assigned: list[tuple[Stored, int]]  # variables that take the value of an output, by its place
    batch: int | None = None  # the number of samples that it is made for, where a shape depends on it


def compiled(outputs: Sequence[Variable], sizes: Mapping[Variable, Shape], batch: int = 1) -> Module:
    """`sizes`: the shapes of the inputs whose own leave something open."""
    keep_freed_memory()
    return _Lowering(sizes, batch).module(outputs)


class _Lowering:
    def __init__(self, sizes: Mapping[Variable, Shape], batch: int) -> None:
        self.sizes, self.batch, self.draft = sizes, batch, Draft()
        self.is_of_one_batch = False
        self.done: dict[Variable, str] = {}
        self.tensors: dict[int, torch.Tensor] = {}  # address of a parameter's numbers -> the tensor that holds them
        self.inputs: list[Variable] = []
        self.dropouts: dict[str, Node] = {}
        self.draws: list[tuple[Node, Variable]] = []
        self.assigned: dict[Stored, Variable] = {}

    def module(self, outputs: Sequence[Variable]) -> Module:
        keys = [self.value(output) for output in outputs]
        assigned = [(target, self.value(source)) for target, source in self.assigned.items()]
        graph = self.draft.finish([*keys, *(key for _, key in assigned)], "a program for CNTK")
        names = {alias: found[0] for alias, found in graph.aliases.items()}
        dropouts = {names[uid]: node for uid, node in self.dropouts.items() if uid in names}
        dtype = TORCH_TYPES[resolved(outputs[0]).data_type]
        module = build(graph, SharingEmitter(graph, self.tensors, dropouts, dtype))
        by_name = {names.get(variable.uid): variable for variable in self.inputs}
        inputs = [by_name[value.name] for value in graph.inputs]
        places = [(target, len(keys) + at) for at, (target, _) in enumerate(assigned)]
        return Module(module, inputs, self.draws, places, self.batch if self.is_of_one_batch else None)

    def value(self, wanted: Variable) -> str:
        wanted = resolved(wanted)
        stack = [wanted]
        while stack:
            variable = resolved(stack[-1])
            if variable in self.done:
                stack.pop()
            elif not isinstance(variable, Output):
                self.done[variable] = self.leaf(variable)
            else:
                missing = [v for v in map(resolved, self.operands(variable)) if v not in self.done]
                if not missing:
                    self.node(variable)
                stack += missing
        return self.done[wanted]

    def operands(self, output: Output) -> Sequence[Variable]:
        """What a value is computed from; a block's is that inside of it."""
        block = output.node.block
        return [block.root.outputs[output.index]] if block else output.node.inputs

    def leaf(self, variable: Variable) -> str:
        if isinstance(variable, Stored):
            array = variable.data.detach().numpy()
            self.tensors[array.__array_interface__["data"][0]] = variable.data
            key = self.draft.parameter(array, float(variable.is_trainable), variable.name)
        elif variable.is_placeholder:
            raise ValueError(f"the placeholder {variable} stands for nothing yet; apply the function to a variable")
        else:
            shape = self.sizes.get(variable, variable.shape)
            key = self.draft.input(shape, variable.name)
            self.inputs.append(variable)
        self.draft.call(key, "", variable.uid)
        return key

    def node(self, output: Output) -> None:
        node = output.node
        operands = self.operands(output)
        if node.block:
            self.done[output] = self.done[resolved(operands[0])]
            return
        if node.op in DRAWN:
            self.done[output] = self.drawn(node, output)
            return
        keys = tuple(self.done[resolved(variable)] for variable in operands)
        self.is_of_one_batch |= node.op == "UnpackBatch"
        try:
            attributes = Attributes(node.attributes | {"batchSize": self.batch})
            result = RULES[node.op](Call(self.draft, keys, attributes))
        except (GraphError, ConvolveError) as error:
            refusal = ValueError if self.sizes else RuntimeError  # what was fed does not fit
            raise refusal(f"{node.op}: {error}") from None
        found = (result,) if isinstance(result, str) else result
        for made, key in zip(node.outputs, found, strict=True):
            self.done[made] = key
            self.draft.call(key, node.name, made.uid)
        if node.op == "Dropout":
            self.dropouts[output.uid] = node
        if node.op == "Assign":
            self.assigned[resolved(node.inputs[0])] = node.inputs[1]  # type: ignore[index]

    def drawn(self, node: Node, output: Output) -> str:
        """What the module is fed, or finds in a buffer, in each pass: numbers drawn for it."""
        like = resolved(node.inputs[0]) if node.inputs and node.op == "RandomDistribution" else None
        if like is not None and like.has_batch_axis:
            numbers: Variable = Input(
                self.draft.shape(self.done[like]), dtype=like.data_type, dynamic_axes=like.dynamic_axes
            )
        else:
            numbers = Constant(0, output.shape, output.data_type)
        self.draws.append((node, numbers))
        return self.leaf(numbers)


class SharingEmitter(Emitter):
    """Writes code whose parameters are the tensors that they come from: no layer takes them over."""

    def __init__(
        self, graph: Graph, tensors: Mapping[int, torch.Tensor], dropouts: Mapping[str, Node], dtype: torch.dtype
    ) -> None:
        super().__init__(graph)
        self.tensors, self.dropouts, self.dtype = tensors, dropouts, dtype

    shares = True

    def own(self, *names: str) -> list[Parameter] | None:
        return None

    def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        return super().call(name, WITH_GRADIENTS.get(function, function), *args, **kwargs)

    def layer(self, name: str, layer: nn.Module, *args: fx.Node) -> fx.Node:
        if isinstance(layer, nn.Dropout):
            layer = Dropout(self.dropouts[name])
        elif isinstance(layer, nn.MaxPool2d):
            layer = MaxPool(layer)
        return super().layer(name, layer, *args)

    def _free_parameter(self, value: Any) -> fx.Node:
        tensor = self.tensors.get(value.array.__array_interface__["data"][0]) if value.array.size else None
        attribute = self._attribute(value.name)
        if tensor is None or tensor.numel() != value.array.size:
            constant = torch.from_numpy(np.array(value.array, order="C")).to(self.dtype)
            self.root.register_buffer(attribute, constant)
        elif isinstance(tensor, nn.Parameter):
            self.root.register_parameter(attribute, tensor)
        else:
            self.root.register_buffer(attribute, tensor)
        found = self.code.create_node("get_attr", attribute, name=value.name)
        is_whole = tensor is None or tensor.shape == value.array.shape
        return found if is_whole else self.call("", torch.reshape, found, value.array.shape)
