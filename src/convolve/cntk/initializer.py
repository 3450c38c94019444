"""Initial values of parameters: CNTK's random numbers, bit for bit."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from convolve.cntk import seeds
from convolve.cntk_random import UNSET, Distribution

Shape = tuple[int, ...]
Initial = Callable[[Shape, Any], NDArray[np.floating]]  # from a shape and a type


@dataclass(frozen=True)
class Initializer(Distribution):
    """A `seed` of None means the next one of CNTK's count."""

    seed: int | None = None

    def taken(self) -> Initial:
        """The initial values for another parameter, from a seed of its own."""
        if self.scale <= 0:
            raise ValueError(f"CreateInitializer: the scale of {self.kind} must be above 0, not {self.scale}")
        seed = seeds.taken(self.seed)
        return lambda shape, dtype: self.drawn(shape, seed, dtype)

    def with_ranks(self, output_rank: int, filter_rank: int) -> Self:
        """The ranks that a layer knows and the program did not state."""
        output = output_rank if self.output_rank in (None, UNSET) else self.output_rank
        filters = filter_rank if self.filter_rank in (None, UNSET) else self.filter_rank
        return replace(self, output_rank=output, filter_rank=filters)


def uniform(scale: float, seed: int | None = None) -> Initializer:
    """Between -scale and scale."""
    return Initializer("uniform", scale, seed=seed)


def normal(scale: float, output_rank: Any = None, filter_rank: Any = None, seed: int | None = None) -> Initializer:
    return Initializer("normal", scale, seed=seed)


def truncated_normal(stdev: float, seed: int | None = None) -> Initializer:
    """Normal numbers; those beyond twice the standard deviation are drawn again."""
    return Initializer("truncated_normal", stdev, seed=seed)


def xavier(scale: float = 1, output_rank: Any = None, filter_rank: Any = None, seed: Any = None) -> Initializer:
    return Initializer("uniform", scale, "xavier", output_rank, filter_rank, seed=seed)


def glorot_uniform(scale: float = 1, output_rank: Any = None, filter_rank: Any = None, seed: Any = None) -> Initializer:
    return Initializer("uniform", scale, "glorot", output_rank, filter_rank, seed=seed)


def glorot_normal(scale: float = 1, output_rank: Any = None, filter_rank: Any = None, seed: Any = None) -> Initializer:
    return Initializer("normal", scale, "glorot", output_rank, filter_rank, seed=seed)


def he_uniform(scale: float = 1, output_rank: Any = None, filter_rank: Any = None, seed: Any = None) -> Initializer:
    return Initializer("uniform", scale, "he", output_rank, filter_rank, seed=seed)


def he_normal(scale: float = 1, output_rank: Any = None, filter_rank: Any = None, seed: Any = None) -> Initializer:
    return Initializer("normal", scale, "he", output_rank, filter_rank, seed=seed)


@dataclass(frozen=True)
class _Bilinear(Initializer):
    size: tuple[int, int] = (1, 1)

    def drawn(self, shape: Shape, seed: int, dtype: DTypeLike = np.float32) -> NDArray[np.floating]:
        rows, columns = (_tent(size) for size in self.size[::-1])
        kernel, result = np.outer(rows, columns), np.zeros(shape)
        for channel in range(min(shape[:2])):
            result[channel, channel] = kernel
        return result


def _tent(size: int) -> NDArray[np.floating]:
    factor = (size + 1) // 2
    center = factor - 1 if size % 2 else factor - 0.5
    return np.asarray(1 - np.abs(np.arange(size) - center) / factor)


def bilinear(kernel_width: int, kernel_height: int) -> Initializer:
    """For a transposed convolution that enlarges its maps."""
    return _Bilinear("bilinear", 1.0, size=(kernel_width, kernel_height))


def initializer_with_rank(initializer: Any, output_rank: int | None = None, filter_rank: int | None = None) -> Any:
    """`initializer` with the ranks that a layer knows; numbers and arrays stay as they are."""
    if isinstance(initializer, Initializer):
        return initializer.with_ranks(1 if output_rank is None else output_rank, filter_rank or 0)
    return initializer
