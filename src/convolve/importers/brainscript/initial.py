"""The initial values of parameters, by CNTK's initializers."""

from collections.abc import Callable, Mapping, Sequence
from math import prod, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch

from convolve.atomic import read_ordinary
from convolve.cntk_random import Distribution
from convolve.errors import brief, unknown_name
from convolve.graph.graph import Array
from convolve.graph.shapes import Shape
from convolve.importers.brainscript.network import Operation
from convolve.names import own_slashes

# initializer -> ("uniform", its bound) or ("normal", its standard deviation), from the fans. Source: CNTK's own table.
_SPREADS: dict[str, tuple[str, Callable[[float, float], float]]] = {
    "uniform": ("uniform", lambda fan_in, fan_out: 0.05),
    "gaussian": ("normal", lambda fan_in, fan_out: 0.2 / sqrt(fan_in)),
    "normal": ("normal", lambda fan_in, fan_out: 1.0),
    "xavier": ("uniform", lambda fan_in, fan_out: sqrt(3 / fan_in)),
    "glorotUniform": ("uniform", lambda fan_in, fan_out: sqrt(6 / (fan_in + fan_out))),
    "glorotNormal": ("normal", lambda fan_in, fan_out: sqrt(2 / (fan_in + fan_out))),
    "heUniform": ("uniform", lambda fan_in, fan_out: sqrt(6 / fan_in)),
    "heNormal": ("normal", lambda fan_in, fan_out: sqrt(2 / fan_in)),
}


class CntkSeeds:
    """CNTK's random numbers, in place of a generator.

    CNTK's binary gives each random parameter a seed of its own, counting from 1. It creates the operands of an
    operation when the operation asks for them, from the criterion on: the last layer comes first.
    """

    def __init__(self, offset: int) -> None:
        self._next, self._seeds = offset + 1, dict[Operation, int]()

    def count(self, operations: Sequence[Operation]) -> None:
        """Give the random parameters among `operations`, operands first, their seeds; some state a randomSeed."""
        for operation in operations:
            if operation.kind == "Parameter" and _is_random(operation.settings):
                self.seed(operation)

    def seed(self, parameter: Operation) -> int:
        if parameter not in self._seeds:
            own = int(_number(parameter, parameter.settings.get("seed", -1.0)))
            self._seeds[parameter] = self._next if own < 0 else own
            self._next += own < 0
        return self._seeds[parameter]


def _is_random(settings: Mapping[str, Any]) -> bool:
    how, is_given = str(settings.get("how")), settings.get("file") or settings.get("stored")
    return isinstance(settings.get("constant"), str) and how not in (*_GIVEN, "zero", "fixedValue") and not is_given


Numbers = torch.Generator | CntkSeeds


def initial_values(parameter: Operation, dims: Shape, generator: Numbers | None) -> Array:
    """The initial values of a parameter of shape `dims`, the fastest axis first; the array has the slowest first.

    Without `generator`, random values stay 0 and, like all constants, take no memory. Raises FormatError.
    """
    settings = parameter.settings
    how, constant, shape = str(settings["how"]), settings["constant"], dims[::-1]
    if how in _GIVEN or (settings["file"] and not how):
        given = _GIVEN[how or "fromFile"]
        is_away = generator is None and given is _from_file  # values are not wanted, so no file is needed
        return np.broadcast_to(np.float32(0), shape) if is_away else given(parameter, dims)
    if isinstance(constant, str) and how in ("zero", "fixedValue"):
        constant = 0.0 if how == "zero" else settings["fixed"]
    if not isinstance(constant, str):
        return np.broadcast_to(np.float32(_number(parameter, constant)), shape)
    kinds = {name.lower(): name for name in _SPREADS}
    if how.lower() not in kinds and how:
        raise parameter.error(unknown_name("initializer", how, [*_SPREADS, *_GIVEN, "zero"]))
    if generator is None:
        return np.broadcast_to(np.float32(0), shape)
    distribution, spread = _SPREADS[kinds[how.lower() or "uniform"]]
    unit, scale = spread(*_fans(parameter, dims)), _number(parameter, settings["scale"])
    if isinstance(generator, CntkSeeds):
        width = abs(float(np.float32(unit) * np.float32(scale)))
        return Distribution(distribution, width).drawn(shape, generator.seed(parameter))
    width = unit * scale
    # The outputs slowest, as in torch's layers, so that nothing has to be moved when a layer is built.
    outputs = max(0, int(_number(parameter, settings["outputRank"])))
    values = torch.empty(dims[:outputs][::-1] + dims[outputs:][::-1])
    if distribution == "normal":
        values.normal_(0, abs(width), generator=generator)
    else:
        values.uniform_(-abs(width), abs(width), generator=generator)
    order = [*range(outputs, len(dims)), *range(outputs)]
    drawn: Array = values.permute(order).numpy()
    return drawn


def _from_file(parameter: Operation, dims: Shape) -> Array:
    path = Path(own_slashes(str(parameter.settings["file"])))
    try:
        text = read_ordinary(path, _LETTERS * (prod(dims) + 1_000)).decode("utf-8")
        return _matrix(parameter, text, dims)
    except (OSError, UnicodeDecodeError) as error:
        raise parameter.error(f"cannot read {path} ({error}); correct initFromFilePath") from None


def _matrix(parameter: Operation, text: str, dims: Shape) -> Array:
    """The numbers of a text file with one row of a matrix per line. CNTK stores matrices column by column."""
    try:
        rows = [[float(word) for word in line.split()] for line in text.splitlines() if line.strip()]
        matrix = np.array(rows, np.float32)
    except ValueError:
        raise parameter.error("the rows of its initial values must have the same number of values") from None
    if matrix.size != prod(dims):
        raise parameter.error(f"{matrix.size:,} initial values for a parameter of {prod(dims):,} numbers")
    values: Array = matrix.T.reshape(dims[::-1])
    return values


def _bilinear(parameter: Operation, dims: Shape) -> Array:
    """Each map enlarges the map of the same index, by weights that fall off linearly from the middle of the window."""
    if len(dims) != 4 or dims[0] != dims[1] or dims[2] != dims[3]:
        raise parameter.error(f"bilinear initial values need a square window and as many maps out as in, not {dims}")
    distance = np.abs(np.arange(dims[0]) - (dims[0] - 1) / 2) / ((dims[0] + 1) // 2)
    window = np.outer(1 - distance, 1 - distance)
    values: Array = (np.eye(dims[2])[:, :, None, None] * window).astype(np.float32)
    return values


# Initializers that are not random.
_GIVEN: dict[str, Callable[[Operation, Shape], Array]] = {
    "fromFile": _from_file,
    "fromLiteral": lambda parameter, dims: _matrix(parameter, str(parameter.settings["literal"]), dims),
    "bilinear": _bilinear,
}
_LETTERS = 40  # of one number in a file


def _fans(parameter: Operation, dims: Shape) -> tuple[float, float]:
    """How many inputs reach one output, and how many outputs one input reaches; each place of a filter counts.

    `initOutputRank` says how many of the first axes are the output's or, if negative, how many of the last ones.
    """
    output_rank, filter_rank = (int(_number(parameter, parameter.settings[k])) for k in ("outputRank", "filterRank"))
    if not 0 <= filter_rank <= len(dims) or not -len(dims) <= output_rank <= len(dims):
        raise parameter.error(
            f"initFilterRank {filter_rank} and initOutputRank {output_rank} do not fit {len(dims)} axes"
        )
    outputs = prod(dims[output_rank:] if output_rank < 0 else dims[:output_rank])
    places = prod(dims[:filter_rank])
    return prod(dims) / outputs, outputs * places


def _number(parameter: Operation, value: object) -> float:
    if type(value) is not float:
        raise parameter.error(f"a number is expected among its initial values, not {brief(value)}")
    return value
