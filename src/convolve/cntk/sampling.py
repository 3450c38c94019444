"""Random samples of classes, drawn as CNTK does: by weights, with or without repetition."""

from typing import Any

from convolve.cntk import seeds
from convolve.cntk.ops.functions import Function, as_variable
from convolve.cntk.ops.making import primitive
from convolve.cntk.variables import Stored


def random_sample(
    weights: Any, num_samples: int, allow_duplicates: bool, seed: int = seeds.SENTINEL, name: str = ""
) -> Function:
    """`num_samples` classes as sparse vectors, drawn anew in each pass."""
    return _sampled("RandomSample", weights, num_samples, allow_duplicates, seed=seed, name=name)


def random_sample_inclusion_frequency(
    weights: Any, num_samples: int, allow_duplicates: bool, seed: int = seeds.SENTINEL, name: str = ""
) -> Function:
    """How often each class is expected in a sample; without repetition, an estimate."""
    return _sampled("RandomSampleInclusionFrequency", weights, num_samples, allow_duplicates, seed=seed, name=name)


def _sampled(op: str, weights: Any, count: int, repeat: bool, seed: int, name: str) -> Function:
    found = as_variable(weights)
    if not isinstance(found, Stored):
        raise ValueError(f"{op}: the weights must be numbers, a parameter or a constant, not {found}")
    numbers = found.data
    if count < 1 or bool((numbers < 0).any()) or (not repeat and count > int((numbers > 0).sum())):
        raise ValueError(f"{op}: cannot draw {count} samples of {numbers.numel()} classes; weights must be 0 or "
            f"more, and without "
                         "repetition enough of them above 0")  # fmt: skip
    return primitive(op, found, name=name, numSamples=int(count), allowDuplicates=bool(repeat),
                     rngSeed=seeds.taken(seed), rngOffset=0)  # fmt: skip
