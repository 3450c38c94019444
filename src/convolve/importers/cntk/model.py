"""What a CNTK file says, before it is lowered: v1 and v2 files both become these values.

Everything keeps CNTK's own conventions: shapes and axes with the fastest dimension first, operands in the order of v2
files, attributes under their v2 names.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from convolve.errors import FormatError, brief, legible
from convolve.graph.graph import Array
from convolve.graph.shapes import GraphError, Shape
from convolve.importers.cntk.wire import Axis

# Indices that are not one axis of a sample. 2**31 - 3, unknown axes, never appears in a usable file.
DYNAMIC_AXIS = 2**31 - 1
ALL_STATIC_AXES = 2**31 - 2
END_AXIS = 2**31 - 4
ALL_AXES = 2**31 - 5

# How often a value may be passed on from block to block; each block around it does so twice.
MAX_ALIASES = 200


ELEMENTWISE = frozenset({"Plus", "Minus", "ElementTimes"})
T = TypeVar("T")


def vectors_among(columns: set[T], operations: Iterable[tuple[str, Iterable[T]]]) -> set[T]:
    """Those of `columns` (parameters stored as matrices of one column) that only elementwise `operations` (name,
    operands) read.

    BrainScript and NDL write vectors this way, and CNTK carries the second axis through every sum with them. Such a
    column is read as a vector, so that sums keep their rank and layers are recognized.
    """
    return columns.difference(*(operands for op, operands in operations if op not in ELEMENTWISE))


@dataclass(frozen=True)
class Attributes:
    """The attributes of one function, read with their types. A missing one without a default raises GraphError."""

    values: Mapping[str, Any] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def get(self, name: str, kind: type[T], default: T | None = None) -> T:
        value = self.values.get(name)
        if value is None:
            value = default
        if type(value) is _TAKEN_TOO.get(kind):
            value = kind(value)  # type: ignore[call-arg]
        if type(value) is not kind:  # exactly: to isinstance, a bool is an int
            raise GraphError(f"attribute {name!r} must be {_KINDS[kind]}, got {brief(value)}")
        return value

    def items(self, name: str, kind: type[T], default: Sequence[T] | None = None) -> list[T]:
        """A list of values of one `kind`."""
        values = self.get(name, list, None if default is None else [*default])
        for value in values:
            if type(value) is not kind:
                raise GraphError(f"attribute {name!r} must hold values of type {kind.__name__}, got {brief(value)}")
        return values


_TAKEN_TOO = {float: int, list: tuple}
_KINDS: dict[type, str] = {
    bool: "true or false", int: "a whole number", float: "a number", str: "a text", tuple: "a shape", list: "a list",
    Axis: "an axis",
}  # fmt: skip


@dataclass(frozen=True)
class Variable:
    """A leaf: an input, or a parameter with its `array` (numpy's axis order, the slowest first)."""

    uid: str
    name: str
    shape: Shape
    offset: int
    array: Array | None = None
    learning_rate_multiplier: float = 1.0


@dataclass(frozen=True)
class Function:
    """One primitive operation. `outputs` are the uids of its values; `block` is the path of named blocks around it."""

    uid: str
    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Attributes
    offset: int
    block: str = ""

    def __str__(self) -> str:
        """How messages name it: conv1/Convolution233."""
        return "/".join(legible(part) for part in dict.fromkeys((self.block, self.name, self.uid)) if part)


@dataclass(frozen=True)
class CntkModel:
    """`variables` go by their uid, `functions` by the uids of their outputs. `aliases` maps a uid (of a block's output
    or argument) to the uid that it stands for, `names` maps the author's names of blocks to uids. `roles` says
    what the root nodes of a v1 file are for: `CriterionNodes`, `LabelNodes`, ..."""

    path: object
    origin: str
    variables: Mapping[str, Variable]
    functions: Mapping[str, Function]
    outputs: tuple[str, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)
    names: Sequence[tuple[str, str]] = ()
    notes: tuple[str, ...] = ()
    roles: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def resolve(self, uid: str, offset: int = 0) -> str:
        """The uid of the variable or the function's output that `uid`, used at the byte `offset`, stands for."""
        seen = {uid}
        while uid in self.aliases:
            uid = self.aliases[uid]
            if uid in seen or len(seen) > MAX_ALIASES:
                raise FormatError(
                    self.path, f"byte {offset}", f"{brief(uid)} stands for itself, or for a value too many blocks away"
                )
            seen.add(uid)
        if uid not in self.variables and uid not in self.functions:
            raise FormatError(self.path, f"byte {offset}", f"{brief(uid)} is used but not defined in the file")
        return uid
