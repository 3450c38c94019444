"""Operations that a program computes in Python: classes derived from `UserFunction`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from convolve.cntk.core import Value
from convolve.cntk.device import cpu
from convolve.cntk.nodes import Node
from convolve.cntk.ops.functions import Function, as_variable
from convolve.cntk.variables import Variable


class UserFunction(Function):
    """A program derives from it and defines `infer_outputs`, `forward` and `backward`. `as_numpy`: these get arrays
    whose first axis is the batch; otherwise Values."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return object.__new__(cls)

    def __init__(self, inputs: Sequence[Any], as_numpy: bool = True, attributes: Any = None, name: str = "") -> None:
        self.as_numpy, self._given = as_numpy, [as_variable(value) for value in inputs]
        node = Node("UserFunction", self._given, {"function": self}, name, output_count=len(self.infer_outputs()))
        super().__init__(node, is_composite=False)

    @property
    def inputs(self) -> tuple[Variable, ...]:
        return tuple(self._given)

    @property
    def op_name(self) -> str:
        return f"{type(self).__module__}.{type(self).__name__}"

    def infer_outputs(self) -> list[Variable]:
        raise NotImplementedError("infer_outputs has to be overwritten")

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """(state, result) for one output; for several, the state, and results in the dictionary that it gets."""
        raise NotImplementedError("forward has to be overwritten")

    def backward(self, *args: Any, **kwargs: Any) -> Any:
        """The gradient of one input; those of several go into the dictionary that it gets."""
        raise NotImplementedError("backward has to be overwritten")

    def clone(self, cloned_inputs: Sequence[Any], *_: Any) -> Function:
        """A copy on other inputs. Overridden if the constructor takes other arguments."""
        derived: Any = type(self)
        return derived(*cloned_inputs, name=self.name)  # type: ignore[no-any-return]

    def serialize(self) -> dict[str, Any]:
        return {}

    def result(self, tensors: Sequence[Tensor], is_kept: bool) -> tuple[Any, list[Tensor]]:
        """(state for the backward pass, the outputs)"""
        given = tuple(self._shown(tensor) for tensor in tensors)
        args = given if len(given) > 1 else given[0]
        outputs: dict[Variable, Any] = dict.fromkeys(self.outputs)
        kept = list(outputs) if is_kept else []
        if len(outputs) == 1:
            state, found = self.forward(args, cpu(), kept)
            outputs[next(iter(outputs))] = found
        else:
            state = self.forward(args, outputs, cpu(), kept)
        if any(value is None for value in outputs.values()):
            raise ValueError("not all outputs have been provided")
        count = len(tensors[0])
        return state, [self._tensor(value, self._shape(output, count), output) for output, value in outputs.items()]

    def gradients(self, state: Any, tops: Sequence[Tensor | None], shapes: Sequence[Any]) -> list[Tensor | None]:
        """Gradients of each input, from those of the outputs; `shapes` of the inputs' tensors, None if not wanted."""
        roots: Any = {v: self._shown(top) for v, top in zip(self.outputs, tops, strict=True) if top is not None}
        roots = next(iter(roots.values())) if len(roots) == 1 else roots
        asked = zip(self.inputs, shapes, strict=True)
        wanted: dict[Variable, Any] = {variable: None for variable, shape in asked if shape is not None}
        if len(self._given) > 1:
            self.backward(state, roots, wanted)
        else:
            wanted[self._given[0]] = self.backward(state, roots)
        found = [wanted.get(variable) for variable in self._given]
        return [
            None if value is None or shape is None else self._tensor(value, shape, variable)
            for variable, value, shape in zip(self._given, found, shapes, strict=True)
        ]

    def _shown(self, tensor: Tensor) -> Any:
        array = tensor.detach().numpy().copy()
        return array if self.as_numpy else Value(array)

    def _shape(self, output: Variable, count: int) -> tuple[int, ...]:
        return (count, *output.shape) if output.has_batch_axis else output.shape

    def _tensor(self, value: Any, shape: tuple[int, ...], variable: Variable) -> Tensor:
        array = np.asarray(getattr(value, "array", value), variable.data_type)
        if array.size != int(np.prod(shape)):
            raise ValueError(
                f"{self.op_name} returned values of shape {array.shape} for {variable}, not {tuple(shape)}"
            )
        return torch.from_numpy(np.ascontiguousarray(array.reshape(shape)))


class UserLayer(nn.Module):
    """The function as a layer of a compiled module."""

    def __init__(self, function: UserFunction) -> None:
        super().__init__()
        self.function = function

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = _Computed.apply(self.function, *tensors)  # type: ignore[no-untyped-call]
        return found


class _Computed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: UserFunction, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.function, ctx.shapes = function, [tensor.shape for tensor in tensors]
        ctx.state, found = function.result(tensors, is_kept=any(ctx.needs_input_grad))
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *tops: Tensor | None) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[1:]
        shapes = [shape if is_needed else None for shape, is_needed in zip(ctx.shapes, needed, strict=True)]
        return (None, *ctx.function.gradients(ctx.state, tops, shapes))


def user_function(user_func: UserFunction) -> Function:
    """The function as an operand of other operations."""
    return Function(user_func.node)
