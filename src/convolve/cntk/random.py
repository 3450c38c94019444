"""Random numbers in a network: drawn anew in each pass; on a CPU, CNTK's bit for bit."""

from typing import Any

import numpy as np

from convolve.cntk import seeds
from convolve.cntk.ops.functions import Function
from convolve.cntk.ops.making import primitive
from convolve.cntk.variables import as_shape


def _fresh(kind: str, shape: Any, dtype: Any, arguments: list[float], seed: Any, name: str) -> Function:
    return primitive(
        "RandomDistribution", name=name, newShape=as_shape(shape)[::-1], randomDistributionType=kind,
        randomDistributionArgs=[float(value) for value in arguments], rngSeed=seeds.taken(seed), rngOffset=0,
        newDataType={np.float64: 2}.get(dtype, 1),
    )  # fmt: skip


def _alike(kind: str, x: Any, arguments: list[float], seed: Any, name: str) -> Function:
    return primitive(
        "RandomDistribution", x, name=name, randomDistributionType=kind,
        randomDistributionArgs=[float(value) for value in arguments], rngSeed=seeds.taken(seed), rngOffset=0,
    )  # fmt: skip


def uniform(
    shape: Any, dtype: Any = np.float32, low: float = 0.0, high: float = 1.0, seed: int = seeds.SENTINEL, name: str = ""
) -> Function:
    return _fresh("uniform", shape, dtype, [low, high], seed=seed, name=name)


def uniform_like(x: Any, low: float = 0.0, high: float = 1.0, seed: int = seeds.SENTINEL, name: str = "") -> Function:
    return _alike("uniform", x, [low, high], seed, name)


def normal(
    shape: Any, dtype: Any = np.float32, mean: float = 0.0, scale: float = 1.0, seed: int = seeds.SENTINEL,
    name: str = "",
) -> Function:  # fmt: skip
    return _fresh("normal", shape, dtype, [mean, scale], seed=seed, name=name)


def normal_like(x: Any, mean: float = 0.0, scale: float = 1.0, seed: int = seeds.SENTINEL, name: str = "") -> Function:
    return _alike("normal", x, [mean, scale], seed, name)


def gumbel(
    shape: Any, dtype: Any = np.float32, loc: float = 0.0, scale: float = 1.0, seed: int = seeds.SENTINEL,
    name: str = "",
) -> Function:  # fmt: skip
    return _fresh("gumbel", shape, dtype, [loc, scale], seed=seed, name=name)


def gumbel_like(x: Any, loc: float = 0.0, scale: float = 1.0, seed: int = seeds.SENTINEL, name: str = "") -> Function:
    return _alike("gumbel", x, [loc, scale], seed, name)


def bernoulli(
    shape: Any, dtype: Any = np.float32, mean: float = 0.5, seed: int = seeds.SENTINEL, name: str = ""
) -> Function:
    return _fresh("bernoulli", shape, dtype, [mean], seed=seed, name=name)


def bernoulli_like(x: Any, mean: float = 0.5, seed: int = seeds.SENTINEL, name: str = "") -> Function:
    return _alike("bernoulli", x, [mean], seed, name)
