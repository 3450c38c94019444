"""Types in signatures: Tensor[3, 4], SparseTensor[3], Sequence[Tensor[3]]."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from convolve.cntk.axis import Axis
from convolve.cntk.variables import Variable


class VariableType(NamedTuple):
    """Also keywords: `input_variable(**Tensor[3])`."""

    shape: tuple[int, ...]
    axes: tuple[Axis, ...] | None  # None: not known
    is_sparse: bool = False

    def keys(self) -> tuple[str, ...]:
        return "shape", "dynamic_axes", "is_sparse"

    def __getitem__(self, key: Any) -> Any:
        return tuple(self)[self.keys().index(key) if isinstance(key, str) else key]

    def __repr__(self) -> str:
        if self.axes is None:
            return "tensor"
        like = Variable(() if self.shape == (-2,) else self.shape, dynamic_axes=self.axes)
        like.is_sparse = self.is_sparse
        return like.type if self.shape != (-2,) else like.type.replace("np.float32", "tensor")


class _Made:
    """Makes `Tensor[3]`: a type of this kind."""

    is_sparse = False
    axes: tuple[Axis, ...] = (Axis.default_batch_axis(),)

    def __class_getitem__(cls, shape: Any) -> VariableType:
        return VariableType(_shape(shape), cls.axes, cls.is_sparse)


class Tensor(_Made): ...


class SparseTensor(_Made):
    is_sparse = True


class ParameterTensor(_Made):
    axes = ()


class _Along:
    """Sequences along one axis."""

    def __init__(self, axis: Axis) -> None:
        self.axis = axis

    def __getitem__(self, item: Any) -> VariableType:
        return as_variable_type(item)._replace(axes=(Axis.default_batch_axis(), self.axis))


class SequenceOver:
    def __class_getitem__(cls, axis: Axis) -> _Along:
        return _Along(axis)


Sequence = _Along(Axis.default_dynamic_axis())


def _shape(shape: Any) -> tuple[int, ...]:
    return shape if isinstance(shape, tuple) else (shape,)


tensor = VariableType((-2,), None)


def as_variable_type(kind: Any) -> VariableType:
    """A type from what programs write: a type, a shape, a number."""
    if isinstance(kind, VariableType):
        return kind
    if kind is not float and not all(isinstance(size, int) for size in _shape(kind)):
        raise TypeError(f"a type must be a shape, a number or Tensor[...], not {kind!r}")
    return VariableType(() if kind is float else _shape(kind), (Axis.default_batch_axis(),))


def Signature(*args: Any, **kwargs: Any) -> Callable[[Any], Any]:
    """A decorator that states the types of a function's arguments."""

    def decorated(definition: Any) -> Any:
        names = list(inspect.signature(definition).parameters)
        if args and len(args) != len(names):
            raise TypeError(
                f"{len(args)} annotations provided for function to be decorated, but function has {len(names)} "
                "parameters"
            )
        for name in kwargs:
            if name not in names:
                raise TypeError(f"got an unexpected keyword argument '{name}'")
        definition.__annotations__ = dict(zip(names, args, strict=False)) | kwargs
        return definition

    return decorated


from convolve.cntk import refused as _refused  # noqa: E402

__getattr__ = _refused.attribute(__name__)
