"""Variables, which functions take and return: inputs, outputs, parameters, constants, placeholders."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from convolve.cntk import device as devices
from convolve.cntk.axis import Axis
from convolve.cntk.operators import Operators
from convolve.cntk.wire_writer import DATA_TYPES

if TYPE_CHECKING:
    from convolve.cntk.nodes import Node
    from convolve.cntk.ops.functions import Function

InferredDimension = -1
FreeDimension = -3

Shape = tuple[int, ...]
Initial = Callable[[Shape, Any], NDArray[np.floating]]  # from a shape and a type

TORCH_TYPES = {np.dtype("f4"): torch.float32, np.dtype("f8"): torch.float64, np.dtype("f2"): torch.float16}
_WORDS = {np.dtype("f4"): "Float", np.dtype("f8"): "Double", np.dtype("f2"): "Float16"}
_numbers = {"last": 0}  # of variables and functions


def new_uid(kind: str) -> str:
    """A number for a new variable or function, different from all others."""
    _numbers["last"] += 1
    return f"{kind}{_numbers['last']}"


def keep_uids_beyond(uids: Iterable[str]) -> None:
    """Give everything created from now on other numbers than these."""
    found = (re.search(r"[0-9]+$", uid) for uid in uids)
    _numbers["last"] = max([_numbers["last"], *(int(each.group()) for each in found if each)])


def data_type_of(dtype: Any) -> np.dtype[Any]:
    """float32, float64 or float16; any other type that a program names becomes float32, as in CNTK."""
    if isinstance(dtype, int):  # CNTK's numbers for types
        dtype = {2: "f8", 4: "f2"}.get(dtype)
    found = np.dtype("f4") if dtype is None else np.dtype(dtype)
    return found if found in TORCH_TYPES else np.dtype("f4")


def data_type_in_words(dtype: np.dtype[Any]) -> str:
    return _WORDS[dtype]


class Variable(Operators):
    """`shape` is that of one sample, in numpy's order: -1 for a size to be inferred, -3 for one that may vary; None
    while nothing is known."""

    kind = "Variable"

    def __init__(
        self,
        shape: Shape | None,
        *,
        dtype: Any = None,
        name: str = "",
        dynamic_axes: tuple[Axis, ...] | None = (),
        uid: str = "",
    ) -> None:
        self.known_shape, self._name = shape, name
        self.data_type = data_type_of(dtype)
        self.known_axes = dynamic_axes
        self.needs_gradient = self.is_sparse = False
        self.uid = uid or new_uid(self.kind)

    @property
    def name(self) -> str:
        return self._name

    @property
    def shape(self) -> Shape:
        return (-2,) if self.known_shape is None else self.known_shape

    @property
    def dtype(self) -> type | None:
        return self.data_type.type if self.known_axes is not None else None

    @property
    def dynamic_axes(self) -> tuple[Axis, ...]:
        return Axis.unknown_dynamic_axes() if self.known_axes is None else self.known_axes

    @property
    def has_batch_axis(self) -> bool:
        return any(axis.is_batch_axis for axis in self.known_axes or ())

    @property
    def is_sequence(self) -> bool:
        return len(self.known_axes or ()) > 1

    def has_sequence_axis(self) -> bool:
        return self.is_sequence

    def is_initialized(self) -> bool:
        """Whether a variable with its own values has them, or could have them now."""
        return -1 not in self.shape

    def get_data_type(self) -> int:
        return DATA_TYPES[self.data_type]

    def as_parameter(self) -> Variable:
        return self._as("Parameter")

    def as_constant(self) -> Variable:
        return self._as("Constant")

    def _as(self, kind: str) -> Variable:
        if self.kind != kind:
            raise TypeError(f"cannot be converted into a {kind}")
        return self

    def as_string(self) -> str:
        return str(self)

    @property
    def owner(self) -> Function:
        raise RuntimeError("called owner() on a variable that is not an output variable")

    @property
    def output(self) -> Variable:
        return self

    is_input = property(lambda self: self.kind == "Input")
    is_output = property(lambda self: self.kind == "Output")
    is_parameter = property(lambda self: self.kind == "Parameter")
    is_constant = property(lambda self: self.kind == "Constant")
    is_placeholder = property(lambda self: self.kind == "Placeholder")

    def __str__(self) -> str:
        axes = "[???]" if self.known_axes is None else f"[{', '.join(map(axis_word, self.known_axes))}]"
        return f"{self.kind}('{self.name or self.uid}', {axes}, {shape_in_words(self.known_shape)})"

    __repr__ = __str__

    def __bool__(self) -> bool:
        return True

    @property
    def type(self) -> str:
        """As signatures show it: Tensor[3,4], Sequence[Tensor[3]]."""
        if self.known_shape is None:
            return "Sequence[tensor]" if self.known_axes is None else "tensor"
        word = "SparseTensor" if self.is_sparse else "Tensor" if self.known_axes != () else "ParameterTensor"
        number = f"np.{self.data_type.name}"
        sizes = [*([number] if number != "np.float32" else []), *map(str, self.known_shape)]
        inner = f"{word}[{','.join(sizes)}]" if self.known_shape else number
        if not self.is_sequence:
            return inner
        along = self.dynamic_axes[-1]
        return f"Sequence[{inner}]" if along == Axis.default_dynamic_axis() else f"SequenceOver[{along.name}][{inner}]"


def axis_word(axis: Axis) -> str:
    return "#" if axis.is_batch_axis else "*" if axis == Axis.default_dynamic_axis() else axis.name


def shape_in_words(shape: Shape | None) -> str:
    """As CNTK prints it: [3 x ?]."""
    if shape is None:
        return "[???]"
    return f"[{' x '.join({-1: '?', -3: '*'}.get(size, str(size)) for size in shape)}]"


class Input(Variable):
    kind = "Input"


class Placeholder(Variable):
    """`stands_for`: what a block puts in its place."""

    kind = "Placeholder"
    stands_for: Variable | None = None


class Output(Variable):
    kind = "Output"

    def __init__(self, node: Node, index: int) -> None:
        super().__init__(None, name=node.name, dynamic_axes=None, uid=f"{node.uid}_Output_{index}")
        self.node, self.index = node, index

    @property
    def owner(self) -> Function:
        from convolve.cntk.ops.functions import Function

        return Function(self.node, is_composite=False)


class Stored(Variable):
    """A variable with its own values: one storage, shared by every compiled graph, clone and learner.

    The values are created when the shape is known and they are needed. CNTK creates them at the start, but from a seed
    that the variable takes when it is made, so that the order does not matter.
    """

    is_trainable = False

    def __init__(
        self,
        shape: Any = None,
        init: Any = None,
        dtype: Any = None,
        device: Any = None,
        name: str = "",
        uid: str = "",
    ) -> None:
        shape, initial, dtype = _initial(shape, init, dtype)
        super().__init__(shape, dtype=dtype, name=name, uid=uid)
        self._initial: Initial = initial
        self._data: torch.Tensor | None = None
        self.needs_gradient = self.is_trainable

    @property
    def data(self) -> torch.Tensor:
        if self._data is None:
            shape = self.shape
            if any(size < 0 for size in shape):
                raise ValueError(
                    f"Cannot create an NDArrayView using a view shape '{shape_in_words(shape)}' that has unknown "
                    "dimensions for any of its axes."
                )
            array = np.array(
                np.broadcast_to(self._initial(shape, self.data_type), shape), dtype=self.data_type, order="C"
            )
            tensor = (
                torch.from_numpy(array).clone().to(devices.used())
            )  # memory at an address where convolutions are fast
            self._data = torch.nn.Parameter(tensor) if self.is_trainable else tensor
        return self._data

    @property
    def value(self) -> NDArray[np.floating]:
        return self.data.detach().cpu().numpy().copy()

    @value.setter
    def value(self, array: Any) -> None:
        if not isinstance(array, np.ndarray | np.number) and type(array).__name__ != "NDArrayView":
            raise TypeError(f"Unsupported value type: {type(array)}; give a numpy array")
        self.take(np.asarray(getattr(array, "array", array)))

    def set_value(self, view: Any) -> None:
        if type(view).__name__ != "NDArrayView":
            raise TypeError(f"set_value takes an NDArrayView, not {type(view)}; set .value to a numpy array")
        self.value = view

    def get_value(self) -> Any:
        from convolve.cntk.core import NDArrayView

        return NDArrayView.from_dense(self.value)

    def record_value_update(self) -> None:
        """Does nothing: values are looked up whenever they are needed."""

    def take(self, array: NDArray[Any]) -> None:
        """Copy these values; a single number fills the variable."""
        if array.shape != self.shape and array.size != 1:
            raise RuntimeError(
                f"Variable '{self}' SetValue(): 'source' shape '{shape_in_words(array.shape)}' differs 'destination' "
                f"shape '{shape_in_words(self.shape)}'."
            )
        with torch.no_grad():
            self.data.copy_(torch.from_numpy(np.array(np.broadcast_to(array, self.shape), self.data_type)))

    def asarray(self) -> NDArray[np.floating]:
        return self.value


_definitions = {"open": 0}  # definitions of functions that are being run


@contextmanager
def parameters_forbidden() -> Iterator[None]:
    """Inside a definition no parameter can be created: each call of the function would create others."""
    _definitions["open"] += 1
    try:
        yield
    finally:
        _definitions["open"] -= 1


class Parameter(Stored):
    kind = "Parameter"
    is_trainable = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if _definitions["open"]:
            raise TypeError("parameters cannot be created inside a @Function def")
        super().__init__(*args, **kwargs)


class Constant(Stored):
    kind = "Constant"

    def __init__(
        self, value: Any = None, shape: Any = None, dtype: Any = None, device: Any = None, name: str = "", uid: str = ""
    ) -> None:
        super().__init__(shape, 0 if value is None else value, dtype=dtype, name=name, uid=uid)


def as_shape(shape: Any) -> Shape:
    """A shape from what programs write: 3, (3, 4), []."""
    return (int(shape),) if isinstance(shape, int | float | np.number) else tuple(int(size) for size in shape)


def _initial(shape: Any, init: Any, dtype: Any) -> tuple[Shape, Initial, Any]:
    """(shape, function that creates the values for a shape, their type) from a variable's arguments.

    A numpy array keeps its type unless one is given; numbers and lists become float32. An array has its own shape.
    """
    from convolve.cntk.default_options import current
    from convolve.cntk.initializer import Initializer

    dtype = current("dtype", None) if dtype is None else dtype
    init = getattr(init, "array", init)
    if isinstance(init, Initializer):
        return as_shape(shape), init.taken(), dtype
    array = np.asarray(0 if init is None else init)
    if dtype is None and isinstance(init, np.ndarray) and array.dtype in TORCH_TYPES:
        dtype = array.dtype
    return as_shape(array.shape if shape is None or array.ndim else shape), lambda _, __: array, dtype


class Record(dict[str, Any]):
    """Values by name: `Record(x=1).x`."""

    def __init__(self, **values: Any) -> None:
        super().__init__(values)

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(f"record has no attribute '{name}'")
        return self[name]

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("record is immutable")

    def updated_with(self, **values: Any) -> Record:
        return Record(**{**self, **values})
