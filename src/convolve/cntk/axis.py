"""CNTK's axes: those of a sample by number, the batch and sequences by name."""

from __future__ import annotations

from itertools import count

from convolve.importers.cntk import model, wire

_SPECIAL = {
    "AllStaticAxes": model.ALL_STATIC_AXES, "AllAxes": model.ALL_AXES, "endStaticAxis": model.END_AXIS,
    "staticAxis_NewLeading": model.END_AXIS,
}  # fmt: skip
_numbers = count(1)


class Axis:
    """`Axis(2)` is an axis of a sample, in numpy's order; `Axis("name")` is one along which samples lie."""

    def __init__(self, which: int | str | Axis, is_ordered: bool = True) -> None:
        if isinstance(which, Axis):
            is_ordered = which.is_ordered
        self._index: int | None = which._index if isinstance(which, Axis) else which if isinstance(which, int) else None
        name = which._name if isinstance(which, Axis) else which
        if not isinstance(name, int | str):
            raise NotImplementedError(f"Axis({which!r}): an axis must be a number or a name")
        self._name: str = f"staticAxisIdx={name}" if isinstance(name, int) else name
        self.is_ordered: bool = is_ordered

    @property
    def name(self) -> str:
        return self._name

    @property
    def is_static_axis(self) -> bool:
        return self._index is not None

    def static_axis_index(self, checked: bool = True) -> int:
        if self._index is None:
            if checked:
                raise ValueError("Cannot query the static axis index for a non-static axis")
            return 2**31 - 1
        return self._index

    @property
    def is_dynamic_axis(self) -> bool:
        return not self.is_static_axis and self._name not in _SPECIAL

    @property
    def is_batch_axis(self) -> bool:
        return self._name == "defaultBatchAxis"

    @property
    def is_sequence_axis(self) -> bool:
        return self._index is None and not self.is_batch_axis and self._name not in _SPECIAL

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Axis) and self._name == other._name

    def __hash__(self) -> int:
        return hash(self._name)

    def __repr__(self) -> str:
        return f"Axis('{self._name}')"

    __str__ = as_string = __repr__

    @staticmethod
    def default_batch_axis() -> Axis:
        return Axis("defaultBatchAxis", False)

    @staticmethod
    def default_dynamic_axis() -> Axis:
        return Axis("defaultDynamicAxis")

    @staticmethod
    def all_static_axes() -> Axis:
        return Axis("AllStaticAxes", False)

    @staticmethod
    def all_axes() -> Axis:
        return Axis("AllAxes", False)

    @staticmethod
    def new_leading_axis() -> Axis:
        return Axis("staticAxis_NewLeading", False)

    @staticmethod
    def end_static_axis() -> Axis:
        return Axis("endStaticAxis", False)

    @staticmethod
    def default_input_variable_dynamic_axes() -> tuple[Axis, ...]:
        return (Axis.default_batch_axis(), Axis.default_dynamic_axis())

    @staticmethod
    def operand_sequence_axis() -> Axis:
        return Axis("__operandSequenceAxis")

    @staticmethod
    def unknown_dynamic_axes() -> tuple[Axis, ...]:
        return (Axis("UnknownAxes"),)

    @staticmethod
    def new_unique_dynamic_axis(name: str) -> Axis:
        return Axis(f"{name}{next(_numbers)}")


def stored(axis: int | Axis, rank: int | None = None) -> wire.Axis:
    """As in model files: the number counted from the fastest axis, or a number that stands for all axes of a kind.

    Without the `rank` of the value, axes from the end are 0, 1, ... and those from the front are negative.
    """
    axis = axis if isinstance(axis, Axis) else Axis(axis)
    if not axis.is_static_axis:
        return wire.Axis(_SPECIAL.get(axis.name, model.DYNAMIC_AXIS), axis.name)
    index = axis.static_axis_index()
    if rank is not None:
        if not -rank <= index < rank:
            raise ValueError(f"there is no axis {index} in a value with {rank} axes")
        index = rank - 1 - index % rank
    else:
        index = -index - 1
    return wire.Axis(index, f"staticAxis_{index}")
