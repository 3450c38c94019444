"""Types in signatures: Tensor[3, 4], Sequence[Tensor[3]]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from convolve.cntk.axis import Axis


class _Type:
    def __init__(self, shape: tuple[int, ...], axes: tuple[Axis, ...]) -> None:
        self.shape, self.axes = shape, axes


class Tensor:
    def __class_getitem__(cls, shape: Any) -> _Type:
        return _Type(shape if isinstance(shape, tuple) else (shape,), (Axis.default_batch_axis(),))


class Sequence:
    def __class_getitem__(cls, item: Any) -> _Type:
        shape, _ = as_variable_type(item)
        return _Type(shape, (Axis.default_batch_axis(), Axis.default_dynamic_axis()))


class ParameterTensor:
    def __class_getitem__(cls, shape: Any) -> _Type:
        return _Type(shape if isinstance(shape, tuple) else (shape,), ())


tensor = Tensor[()]


def as_variable_type(kind: Any) -> tuple[tuple[int, ...], tuple[Axis, ...]]:
    """(shape, axes) of what a program writes as a type: a type, a shape, a number."""
    if isinstance(kind, _Type):
        return kind.shape, kind.axes
    if kind is float:
        return (), (Axis.default_batch_axis(),)
    return (kind if isinstance(kind, tuple) else (kind,)), (Axis.default_batch_axis(),)


def Signature(*args: Any, **kwargs: Any) -> Callable[[Any], Any]:
    """A decorator that says of what types a function's arguments are."""

    def decorated(definition: Any) -> Any:
        definition.__annotations__ = {**getattr(definition, "__annotations__", {}), **kwargs}
        definition.cntk_types = args or tuple(kwargs.values())
        return definition

    return decorated


from convolve.cntk import refused as _refused  # noqa: E402

__getattr__ = _refused.attribute(__name__)
