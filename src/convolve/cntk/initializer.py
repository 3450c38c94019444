"""Initial values of parameters: CNTK's numbers, bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convolve.cntk import seeds
from convolve.cntk_random import Draws

UNSET = 2**31 - 1  # CNTK's SentinelValueForInferParamInitRank
Shape = tuple[int, ...]
Initial = Callable[[Shape], NDArray[np.floating]]


@dataclass(frozen=True)
class Initializer:
    """`kind` of distribution; `scale` and `mode` say how wide it is.

    Of a parameter's axes the last `output_rank` ones in CNTK's order lead to outputs and the first `filter_rank` ones
    are those of a filter; fans are counted from these (Glorot and Bengio 2010, He et al. 2015).
    """

    kind: str
    scale: float
    mode: str = ""
    output_rank: int | None = None
    filter_rank: int | None = None
    seed: int | None = None

    def taken(self) -> Initial:
        """The initial values of one more parameter, from a seed of its own."""
        if self.scale <= 0:
            raise ValueError(f"CreateInitializer: the scale of {self.kind} must be above 0, not {self.scale}")
        seed = seeds.taken(self.seed)
        return lambda shape: self.drawn(shape, seed)

    def with_ranks(self, output_rank: int, filter_rank: int) -> Initializer:
        """What a layer knows of its parameter, where the program does not say it."""
        output = output_rank if self.output_rank in (None, UNSET) else self.output_rank
        filters = filter_rank if self.filter_rank in (None, UNSET) else self.filter_rank
        return replace(self, output_rank=output, filter_rank=filters)

    def drawn(self, shape: Shape, seed: int) -> NDArray[np.floating]:
        count, width, draws = math.prod(shape), self.scale * self._unit(shape), Draws(seed)
        if self.kind == "uniform":
            return draws.uniform(-width, width, count).reshape(shape)
        numbers = draws.normal(count) if self.kind == "normal" else draws.truncated_normal(count)
        return (numbers * width).reshape(shape)

    def _unit(self, shape: Shape) -> float:
        if not self.mode:
            return 1.0
        fan_in, fan_out = fans(shape, self.output_rank, self.filter_rank)
        if self.mode == "xavier":
            return math.sqrt(3 / fan_in)
        spread = 2 / fan_in if self.mode == "he" else 2 / (fan_in + fan_out)
        return math.sqrt(3 * spread) if self.kind == "uniform" else math.sqrt(spread)


def fans(shape: Shape, output_rank: int | None, filter_rank: int | None) -> tuple[float, float]:
    """(fan in, fan out), by CNTK's count: `shape` in numpy's order."""
    output_rank = 1 if output_rank in (None, UNSET) else output_rank
    filter_rank = 0 if filter_rank in (None, UNSET) else filter_rank
    dims = shape[::-1]
    assert output_rank is not None and filter_rank is not None
    outputs = math.prod(dims[output_rank:] if output_rank < 0 else dims[:output_rank])
    filters = math.prod(dims[:filter_rank])
    return math.prod(dims) / outputs, outputs * filters


def uniform(scale: float, seed: int | None = None) -> Initializer:
    """Between -scale and scale."""
    return Initializer("uniform", scale, seed=seed)


def normal(scale: float, output_rank: Any = None, filter_rank: Any = None, seed: int | None = None) -> Initializer:
    return Initializer("normal", scale, seed=seed)


def truncated_normal(scale: float, seed: int | None = None) -> Initializer:
    """Numbers beyond twice the scale are drawn again."""
    return Initializer("truncated_normal", scale, seed=seed)


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

    def drawn(self, shape: Shape, seed: int) -> NDArray[np.floating]:
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
    """For a transposed convolution that scales its maps up."""
    return _Bilinear("bilinear", 1.0, size=(kernel_width, kernel_height))


def initializer_with_rank(init: Any, output_rank: int | None = None, filter_rank: int | None = None) -> Any:
    """`init` with the ranks of the layer that asks; numbers and arrays stay as they are."""
    if isinstance(init, Initializer):
        return init.with_ranks(1 if output_rank is None else output_rank, filter_rank or 0)
    return init
