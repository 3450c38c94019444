"""Types in signatures: Tensor[3, 4], SparseTensor[3], Sequence[Tensor[3]]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from convolve.cntk.axis import Axis


class VariableType(NamedTuple):
    shape: tuple[int, ...]
    axes: tuple[Axis, ...]
    is_sparse: bool = False


class Tensor:
    def __class_getitem__(cls, shape: Any) -> VariableType:
        return VariableType(_shape(shape), (Axis.default_batch_axis(),))


class SparseTensor:
    def __class_getitem__(cls, shape: Any) -> VariableType:
        return VariableType(_shape(shape), (Axis.default_batch_axis(),), is_sparse=True)


class Sequence:
    def __class_getitem__(cls, item: Any) -> VariableType:
        return as_variable_type(item)._replace(axes=(Axis.default_batch_axis(), Axis.default_dynamic_axis()))


class ParameterTensor:
    def __class_getitem__(cls, shape: Any) -> VariableType:
        return VariableType(_shape(shape), ())


def _shape(shape: Any) -> tuple[int, ...]:
    return shape if isinstance(shape, tuple) else (shape,)


tensor = Tensor[()]


def as_variable_type(kind: Any) -> VariableType:
    """What a program writes as a type: a type, a shape, a number."""
    if isinstance(kind, VariableType):
        return kind
    return VariableType(() if kind is float else _shape(kind), (Axis.default_batch_axis(),))


def Signature(*args: Any, **kwargs: Any) -> Callable[[Any], Any]:
    """A decorator that says of what types a function's arguments are."""

    def decorated(definition: Any) -> Any:
        definition.__annotations__ = {**getattr(definition, "__annotations__", {}), **kwargs}
        definition.cntk_types = args or tuple(kwargs.values())
        return definition

    return decorated


from convolve.cntk import refused as _refused  # noqa: E402

__getattr__ = _refused.attribute(__name__)
