"""What parameters are filled with before the training: CNTK's initializers."""

from __future__ import annotations

from collections.abc import Callable
from math import prod, sqrt

import numpy as np
import torch

from convolve.errors import unknown_name
from convolve.importers.brainscript.network import Operation
from convolve.importers.graph import Array
from convolve.importers.shapes import Shape

# initializer -> ("uniform", its largest number) or ("normal", its deviation), from the fans. Source: CNTK's own table.
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


def initial_values(parameter: Operation, dims: Shape, generator: torch.Generator | None) -> Array:
    """The numbers of a parameter with the shape `dims`, the fastest axis first; the array has the slowest first.

    Without `generator`, random ones stay 0 and take no memory, as all constants do. Raises FormatError.
    """
    settings = parameter.settings
    how, constant, shape = str(settings["how"]), settings["constant"], dims[::-1]
    if settings["file"] or how in ("fromFile", "fromLiteral", "bilinear"):
        raise parameter.unsupported("the initialization " + (how or "from a file"))
    if isinstance(constant, str) and how in ("zero", "fixedValue"):
        constant = 0.0 if how == "zero" else settings["fixed"]
    if not isinstance(constant, str):
        return np.broadcast_to(np.float32(_number(parameter, constant)), shape)
    kinds = {name.lower(): name for name in _SPREADS}
    if how.lower() not in kinds and how:
        raise parameter.error(unknown_name("initializer", how, [*_SPREADS, "zero"]))
    if generator is None:
        return np.broadcast_to(np.float32(0), shape)
    distribution, spread = _SPREADS[kinds[how.lower() or "uniform"]]
    width = spread(*_fans(parameter, dims)) * _number(parameter, settings["scale"])
    # The outputs slowest, as torch's layers have them: then nothing has to be moved when one is built.
    outputs = max(0, int(_number(parameter, settings["outputRank"])))
    values = torch.empty(dims[:outputs][::-1] + dims[outputs:][::-1])
    if distribution == "normal":
        values.normal_(0, abs(width), generator=generator)
    else:
        values.uniform_(-abs(width), abs(width), generator=generator)
    order = [*range(outputs, len(dims)), *range(outputs)]
    drawn: Array = values.permute(order).numpy()
    return drawn


def _fans(parameter: Operation, dims: Shape) -> tuple[float, float]:
    """How many inputs reach one output, and how many outputs one input; each place of a filter counts.

    `initOutputRank` says how many of the first axes are the output's, or, if negative, how many of the last ones.
    """
    output_rank, filter_rank = (int(_number(parameter, parameter.settings[k])) for k in ("outputRank", "filterRank"))
    if not 0 <= filter_rank <= len(dims) or not -len(dims) <= output_rank <= len(dims):
        raise parameter.error(f"initFilterRank {filter_rank} and initOutputRank {output_rank} of {len(dims)} axes")
    outputs = prod(dims[output_rank:] if output_rank < 0 else dims[:output_rank])
    places = prod(dims[:filter_rank])
    return prod(dims) / outputs, outputs * places


def _number(parameter: Operation, value: object) -> float:
    if type(value) is not float:
        raise parameter.error(f"a number is expected among its initial values, not {value!r}")
    return value
