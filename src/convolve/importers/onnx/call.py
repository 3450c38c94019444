"""What a lowering rule sees of one node: its operands, and which of their axes is the batch.

Values of our graph have no batch axis. Values of the file have one, and it need not be the first: networks with
attention move it and merge it with other axes. A `Tensor` says where it is.

Sizes that count samples are multiples of `BATCH`, a number that no image size reaches. Shape arithmetic in the file
therefore stays plain arithmetic, and a result such as N * 196 can be recognized.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, TypeVar

import numpy as np

from convolve.errors import UnsupportedError
from convolve.graph.draft import Draft
from convolve.graph.shapes import Shape, axis_of, bounded, require
from convolve.importers.onnx.model import Constant

BATCH = 1_000_003  # a prime that float32 holds too, in which files compute the sizes of a Resize
T = TypeVar("T")


@dataclass(frozen=True)
class Tensor:
    """A value of the file; `key` is its name in the draft.

    Its axis number `axis` in the file has outer * N * inner entries; the draft's value has the axes `outer` and `inner`
    in that place, unless they are 1. None: the file has no batch axis here, since it was made for one sample.
    """

    key: str
    axis: int | None = 0
    outer: int = 1
    inner: int = 1

    @property
    def parts(self) -> Shape:
        """The sizes of the draft's axes that stand in place of the batch axis."""
        return tuple(size for size in (self.outer, self.inner) if size != 1)


Value = Tensor | Constant


class Parameters:
    """The draft's parameters for the file's constants: one for each constant, however many nodes read it."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._keys: dict[tuple[int, bool], str] = {}
        self._kept: list[Constant] = []  # keeps their ids from being given out again

    def key(self, constant: Constant, learned: bool) -> str:
        if (id(constant), learned) not in self._keys:
            array = _as_float(constant.array)
            rate = 1.0 if learned else 0.0
            self._keys[id(constant), learned] = self._draft.parameter(array, rate, constant.name)
            self._kept.append(constant)
        return self._keys[id(constant), learned]


def _as_float(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "fiubV" and array.dtype.name != "bfloat16":
        raise UnsupportedError(f"its numbers have the type {array.dtype}")
    with np.errstate(over="ignore"):
        return np.asarray(array, np.float64 if array.dtype == np.float64 else np.float32)


@dataclass(frozen=True)
class Call:
    """One node. `samples`: the size of the batch axis, where the file fixes it. `whole`: the first operand has an
    integer type in the file; in the draft, everything is float."""

    draft: Draft
    parameters: Parameters
    op: str
    operands: tuple[Value | None, ...]
    attributes: Mapping[str, Any]
    opset: int
    outputs: int
    samples: int | None
    whole: bool = False

    # -- operands -----------------------------------------------------------------------------------------------------

    def value(self, index: int = 0) -> Value:
        operand = self.operands[index] if index < len(self.operands) else None
        if operand is None:
            raise UnsupportedError(f"operand {index + 1} is missing")
        return operand

    def has(self, index: int) -> bool:
        return index < len(self.operands) and self.operands[index] is not None

    def tensor(self, index: int = 0, learned: bool = False) -> Tensor:
        value = self.value(index)
        if isinstance(value, Tensor):
            return value
        learned = learned and value.learned and value.array.size > 1
        return Tensor(self.parameters.key(value, learned), None)

    def known(self, index: int) -> Constant:
        value = self.value(index)
        if isinstance(value, Tensor):
            raise UnsupportedError(f"operand {index + 1} depends on the image, but must be constant")
        return value

    def constant(self, index: int) -> np.ndarray:
        return self.known(index).array

    def weights(self, index: int, shape: Shape | None = None) -> str:
        """A constant as a trainable parameter, even if it was computed from other constants."""
        key = self.parameters.key(self.known(index), learned=True)
        return key if shape is None else self.reshaped(key, shape)

    def image(self, index: int = 0) -> Tensor:
        """An operand with the batch axis first, as convolutions, poolings and normalizations need it."""
        tensor = self.tensor(index)
        if tensor.axis is None and self.dims(tensor)[:1] == (1,):
            return self.with_batch(tensor)
        if tensor.axis != 0 or tensor.parts:
            raise UnsupportedError("the batch axis of its operand is not the first")
        return tensor

    def with_batch(self, tensor: Tensor) -> Tensor:
        """A tensor without a batch axis gets one in front: in place of a first axis of size 1, or merged with a longer
        one."""
        first, *others = self.dims(tensor)
        return Tensor(self.reshaped(tensor.key, tuple(others)) if first == 1 else tensor.key, inner=first)

    # -- attributes ---------------------------------------------------------------------------------------------------

    def get(self, name: str, kind: type[T], default: T | None = None) -> T:
        value = self.attributes.get(name, default)
        if kind is float and type(value) is int:
            value = float(value)
        if not isinstance(value, kind):
            raise UnsupportedError(f"attribute {name} is {'missing' if value is None else 'of the wrong type'}")
        return value

    def integers(self, name: str, index: int | None = None) -> list[int] | None:
        """The integers of the attribute `name`, or, as newer opsets have it, of the operand at `index`."""
        if index is not None and self.has(index):
            return [int(number) for number in self.constant(index).reshape(-1)]
        values = self.attributes.get(name)
        if values is None:
            return None
        require(isinstance(values, list) and all(type(value) is int for value in values), f"attribute {name}")
        return list(values)

    def number(self, name: str, index: int, default: float | None = None) -> float | None:
        """The number of the operand at `index`, or of the attribute `name`."""
        if self.has(index):
            array = self.constant(index)
            require(array.size == 1, f"operand {index + 1} is not a single number")
            return float(array.reshape(-1)[0])
        value = self.attributes.get(name, default)
        return None if value is None else float(value)

    # -- shapes -------------------------------------------------------------------------------------------------------

    def dims(self, value: Value) -> Shape:
        """The shape in the file, with a multiple of BATCH for the batch axis."""
        if isinstance(value, Constant):
            return value.array.shape
        shape, axis = self.draft.shape(value.key), value.axis
        if axis is None:
            return shape
        return (*shape[:axis], BATCH * value.outer * value.inner, *shape[axis + len(value.parts) :])

    def batched(self, tensor: Tensor) -> bool:
        return self.draft.batched(tensor.key)

    def places(self, tensor: Tensor, axis: int) -> Shape:
        """The draft's axes for one axis of the file: one, or, for the batch axis, none to two."""
        axis = axis_of(axis, len(self.dims(tensor)))
        if tensor.axis is None or axis < tensor.axis:
            return (axis,)
        extra = len(tensor.parts)
        return tuple(range(axis, axis + extra)) if axis == tensor.axis else (axis + extra - 1,)

    def place(self, tensor: Tensor, axis: int) -> int:
        if tensor.axis is not None and axis_of(axis, len(self.dims(tensor))) == tensor.axis:
            raise UnsupportedError("it works along the batch axis")
        return self.places(tensor, axis)[0]

    # -- values -------------------------------------------------------------------------------------------------------

    def add(self, op: str, *keys: str, **attributes: Any) -> str:
        return self.draft.add(op, keys, **attributes)

    def number_key(self, number: float | np.ndarray) -> str:
        return self.draft.parameter(np.asarray(number, np.float32), learning_rate_multiplier=0)

    def reshaped(self, key: str, shape: Shape) -> str:
        return key if self.draft.shape(key) == shape else self.add("reshape", key, shape=bounded(shape))

    def like(self, tensor: Tensor, key: str) -> Tensor:
        return replace(tensor, key=key)

    def aligned(self, tensors: Sequence[Tensor]) -> tuple[list[str], Tensor]:
        """(keys of values that broadcast in the draft as they do in the file, where the batch axis is in the result).

        A value without a batch axis must have size 1 in its place, and loses that axis.
        """
        rank = max(len(self.dims(tensor)) for tensor in tensors)
        places = {
            (tensor.axis + rank - len(self.dims(tensor)), tensor.outer, tensor.inner)
            for tensor in tensors
            if tensor.axis is not None
        }
        if not places:
            return [tensor.key for tensor in tensors], Tensor("", None)
        if len(places) > 1:
            raise UnsupportedError("its operands have different batch axes")
        where = Tensor("", *places.pop())
        return [self._fitted(tensor, where, rank) for tensor in tensors], where

    def _fitted(self, tensor: Tensor, where: Tensor, rank: int) -> str:
        if tensor.axis is not None:
            return tensor.key
        dims = self.dims(tensor)
        place = (where.axis or 0) - (rank - len(dims))
        if place < 0:
            return tensor.key
        if dims[place] != 1:
            raise UnsupportedError(f"one operand has size {dims[place]} along the batch axis of another")
        return self.reshaped(tensor.key, (*dims[:place], *(1,) * len(where.parts), *dims[place + 1 :]))

    def shaped(self, tensor: Tensor, target: Sequence[int]) -> Tensor:
        """`tensor` in another shape of the file, without -1 and 0. A multiple of BATCH marks the batch axis."""
        found = [axis for axis, size in enumerate(target) if size and size % BATCH == 0]
        if not found:
            return Tensor(self.reshaped(tensor.key, tuple(target)), None)
        axis = found[0]
        before = prod(self.dims(tensor)[: tensor.axis]) * tensor.outer
        count, ahead = target[axis] // BATCH, prod(target[:axis])
        outer = before // ahead if ahead else 0
        fits = len(found) == 1 and ahead and before % ahead == 0 and outer and count % outer == 0
        if not fits or prod(target) != prod(self.dims(tensor)):
            raise UnsupportedError("it mixes samples")
        result = Tensor("", axis, outer, count // outer)
        shape = (*target[:axis], *result.parts, *target[axis + 1 :])
        return replace(result, key=self.reshaped(tensor.key, shape))
