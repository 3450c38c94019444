"""Functions -> the neutral graph -> one torch module, which shares the functions' parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import fx, nn

from convolve.cntk import along
from convolve.cntk import device as devices
from convolve.cntk.axis import Axis
from convolve.cntk.gradients import WITH_GRADIENTS
from convolve.cntk.nodes import Node, resolved
from convolve.cntk.pools import MaxPool, pool_first
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
    """`module` takes the `inputs` in this order, and returns a tuple of the outputs."""

    module: fx.GraphModule
    inputs: list[Variable]
    draws: list[tuple[Node, Variable]]  # random nodes, and the input or the buffer that takes their numbers
    assigned: list[tuple[Stored, int]]  # variables that take the value of an output, by its place
    lengths: dict[Variable, Axis]  # inputs that take the lengths of an axis
    made: dict[Axis, int]  # axes of sequences that it makes: the place of the output that is their lengths
    batch: Batch | None = None  # what it is made for, where a shape depends on it


class Batch(NamedTuple):
    """The number of samples, and the length of the longest sequence along each axis that is fed."""

    samples: int
    longest: tuple[tuple[Axis, int], ...] = ()


def compiled(outputs: Sequence[Variable], sizes: Mapping[Variable, Shape], batch: Batch | None = None) -> Module:
    """`sizes`: the shapes of inputs that leave sizes open."""
    keep_freed_memory()
    return _Lowering(sizes, batch or Batch(1)).module(outputs)


class _Lowering:
    def __init__(self, sizes: Mapping[Variable, Shape], batch: Batch) -> None:
        self.sizes, self.batch, self.draft = sizes, batch, Draft()
        self.lengths: dict[Axis, str] = {}
        self.fed_lengths: dict[Variable, Axis] = {}
        self.made: list[Axis] = []
        self.is_of_one_batch = False
        self.done: dict[Variable, str] = {}
        self.tensors: dict[int, torch.Tensor] = {}  # address of a parameter's memory -> the tensor that owns it
        self.inputs: list[Variable] = []
        self.dropouts: dict[str, Node] = {}
        self.draws: list[tuple[Node, Variable]] = []
        self.assigned: dict[Stored, Variable] = {}

    def module(self, outputs: Sequence[Variable]) -> Module:
        keys = [self.value(output) for output in outputs]
        assigned = [(target, self.value(source)) for target, source in self.assigned.items()]
        extra = [*(key for _, key in assigned), *(self.lengths[axis] for axis in self.made)]
        graph = self.draft.finish([*keys, *extra], "a program for CNTK")
        names = {alias: found[0] for alias, found in graph.aliases.items()}
        dropouts = {names[uid]: node for uid, node in self.dropouts.items() if uid in names}
        dtype = TORCH_TYPES[resolved(outputs[0]).data_type]
        module = build(graph, SharingEmitter(graph, self.tensors, dropouts, dtype))
        pool_first(module)
        by_name = {names.get(variable.uid): variable for variable in self.inputs}
        inputs = [by_name[value.name] for value in graph.inputs]
        places = [(target, len(keys) + at) for at, (target, _) in enumerate(assigned)]
        made = {axis: len(keys) + len(assigned) + at for at, axis in enumerate(self.made)}
        batch = self.batch if self.is_of_one_batch else None
        return Module(module, inputs, self.draws, places, lengths=self.fed_lengths, made=made, batch=batch)

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
        """What a value is computed from; for a block, the value inside it."""
        block = output.node.block
        return [block.root.outputs[output.index]] if block else output.node.inputs

    def leaf(self, variable: Variable) -> str:
        if isinstance(variable, Stored):
            array = variable.data.detach().cpu().numpy()
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
        self.is_of_one_batch |= node.op in ("UnpackBatch", "UnpackSequenceOp")
        try:
            result = RULES[node.op](self.call(node, output, [resolved(variable) for variable in operands]))
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

    def call(self, node: Node, output: Output, inputs: Sequence[Variable]) -> Call:
        """What a rule gets. Operations along sequences also get the lengths; those of a new axis are recorded."""
        keys = [self.done[variable] for variable in inputs]
        found = {"batchSize": self.batch.samples}
        if node.op not in along.RULES:
            if output.is_sequence:
                keys = [self.of_each_sample(*each, output) for each in zip(keys, inputs, strict=True)]
            return Call(self.draft, tuple(keys), Attributes(node.attributes | found))
        axis = along.axis_of(node, inputs)
        if axis is not None:
            keys.append(self.lengths_of(axis))
            found |= {"longest": self.longest(axis) if node.op == "UnpackSequenceOp" else 0}
        found |= {"isAsItIs": node.op == "ReconcileDynamicAxis" and inputs[0].dynamic_axes == inputs[1].dynamic_axes}
        call = Call(self.draft, tuple(keys), Attributes(node.attributes | found))
        made = output.dynamic_axes[1] if output.is_sequence else Axis(node.uid)  # without any: one sample each
        if (rule := along.RULES[node.op].lengths) and made not in (axis, *self.lengths):
            self.lengths[made] = str(rule(call))
            if node.op == "ToSequenceOp" and len(keys) == 1:  # rows that are whole sequences
                self.batch = self.batch._replace(longest=(*self.batch.longest, (made, call.shape()[0])))
            self.made.append(made)
        return call

    def of_each_sample(self, key: str, variable: Variable, output: Output) -> str:
        """A value with a batch axis only, repeated along the sequences of the others."""
        if not variable.has_batch_axis or variable.is_sequence:
            return key
        return self.draft.add("sequence_repeat", [key, self.lengths_of(output.dynamic_axes[1])])

    def lengths_of(self, axis: Axis) -> str:
        if axis not in self.lengths:
            fed = Input((), name=f"lengths of {axis.name}", dynamic_axes=(Axis.default_batch_axis(),))
            self.fed_lengths[fed] = axis
            self.lengths[axis] = self.leaf(fed)
        return self.lengths[axis]

    def longest(self, axis: Axis) -> int:
        known = dict(self.batch.longest)
        if axis not in known:
            raise NotImplementedError(
                f"sequence.unpack: the network itself makes the axis {axis}, so its longest sequence is not known in "
                f"advance; unpack an input"
            )
        return known[axis]

    def drawn(self, node: Node, output: Output) -> str:
        """What the module is fed, or reads from a buffer, in each pass: numbers drawn for it."""
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
    """Writes code whose parameters are the given tensors; no layer copies them."""

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
            constant = torch.from_numpy(np.array(value.array, order="C")).to(devices.used(), self.dtype)
            self.root.register_buffer(attribute, constant)
        elif isinstance(tensor, nn.Parameter):
            self.root.register_parameter(attribute, tensor)
        else:
            self.root.register_buffer(attribute, tensor)
        found = self.code.create_node("get_attr", attribute, name=value.name)
        is_whole = tensor is None or tensor.shape == value.array.shape
        return found if is_whole else self.call("", torch.reshape, found, value.array.shape)
