"""What a lowering rule sees of one CNTK function, and how CNTK's axes become ours."""

from dataclasses import dataclass

from convolve.errors import UnsupportedError, legible
from convolve.graph.draft import Operands
from convolve.graph.shapes import GraphError, require
from convolve.importers.cntk.model import ALL_AXES, ALL_STATIC_AXES, END_AXIS, Attributes
from convolve.importers.cntk.wire import Axis


@dataclass(frozen=True)
class Call(Operands):
    """One function."""

    attributes: Attributes

    def refuse_batched(self, indices: range, what: str) -> None:
        """The operands at `indices` must not depend on the network's input."""
        if any(self.draft.batched(self.operand(index)) for index in indices):
            raise UnsupportedError(f"{what} that depend on the input")


def static_axis(axis: Axis, rank: int) -> int:
    """A CNTK axis (0 is the fastest, -1 the slowest) -> ours, 0 .. rank - 1 (0 is the slowest)."""
    index = axis.index + rank if axis.index < 0 else axis.index
    if index >= ALL_AXES:
        raise UnsupportedError(
            f"it works along the axis {legible(axis.name) or axis.index}, which is not an axis of one sample"
        )
    if not 0 <= index < rank:
        raise GraphError(f"axis {axis.index} of a value with {rank} axes")
    return rank - 1 - index


def static_axes(axes: list[Axis], rank: int) -> tuple[int, ...]:
    if len(axes) == 1 and axes[0].index == ALL_STATIC_AXES:
        return tuple(range(rank))
    return tuple(static_axis(axis, rank) for axis in axes)


def axis_position(axis: Axis, rank: int) -> int:
    """A position between CNTK axes: 0 before the fastest, `rank` behind the slowest."""
    if axis.index == END_AXIS:
        return rank
    position = axis.index + rank if axis.index < 0 else axis.index
    require(0 <= position <= rank, f"axis {axis.index} of a value with {rank} axes")
    return position
