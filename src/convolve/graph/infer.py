"""Late inference of sizes: a parameter may leave sizes open until it is used in a computation."""

from collections.abc import Callable, Hashable
from math import prod
from typing import Generic, TypeVar

from convolve.graph.shapes import MAX_ELEMENTS, Shape, require

# Values in all parameters together: 2 GiB, four times a VGG-16.
MAX_PARAMETERS = 2**29
Owner = TypeVar("Owner", bound=Hashable)


class OpenParameters(Generic[Owner]):
    """The parameters that an importer has declared, by its own keys. A size of 0 is open.

    `make(owner, shape)` adds a parameter to the draft, once its shape is known, and returns its key. The order of the
    axes is the importer's. Raises GraphError for parameters too large for any network.
    """

    def __init__(self, make: Callable[[Owner, Shape], str]) -> None:
        self._make, self._elements = make, 0
        self._open: dict[Owner, Shape] = {}

    def declare(self, owner: Owner, shape: Shape) -> str | None:
        """The key of a parameter of known shape; None for one with open sizes."""
        require(min(shape, default=1) >= 0 and len(shape) <= 32, f"a parameter of the shape {shape}")
        if all(shape):
            return self._made(owner, shape)
        self._open[owner] = shape
        return None

    def close(self, owner: Owner, name: str, wanted: Shape, whole: bool = False) -> str:
        """The key of a parameter with open sizes, which are taken from `wanted`; `whole`: that is its entire shape.

        The first operation that uses it gives these sizes; none means that it cannot.
        """
        shape = self._open.pop(owner)
        require(bool(wanted), f"the size of {name} cannot be inferred; write it out")
        if not whole:
            require(len(shape) <= len(wanted), f"{name} has {len(shape)} axes, but {len(wanted)} are needed")
            wanted = tuple(size or found for size, found in zip(shape, wanted, strict=False))
        return self._made(owner, wanted)

    def _made(self, owner: Owner, shape: Shape) -> str:
        self._elements += prod(shape)
        most = max(prod(shape) / MAX_ELEMENTS, self._elements / MAX_PARAMETERS)
        require(most <= 1, f"a parameter of the shape {shape}; the network becomes too large")
        return self._make(owner, shape)
