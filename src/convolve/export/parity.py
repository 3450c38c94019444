"""Whether an exported file gives the same outputs as its source, and where they begin to differ."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from convolve.errors import ConvolveError

# Of the largest score, or of 1 if all are smaller: more than a different order of summation explains in float32.
TOLERANCE = 1e-4
# For inputs that no image produces, where saturated functions amplify small differences: a faulty runtime is off by
# more.
EXTREME_TOLERANCE = 1e-2

Runner = Callable[[torch.Tensor], list[np.ndarray]]  # scores_NK first
Values = dict[str, tuple[str, np.ndarray]]  # name of a value -> (layer that it belongs to, numbers)


@dataclass(frozen=True)
class Parity:
    """An exported file and its source agree: how many images were compared, and the largest difference of a score,
    relative to the largest score (to 1, if all are smaller)."""

    images: int
    worst: float
    of_one_class: bool = True
    outputs: int | None = None

    def __str__(self) -> str:
        if self.outputs:
            same = f"compared on {self.images} samples: {self.outputs} output(s)"
            return f"{same}, numbers within {self.worst:.1g} of the largest"
        same = f"compared on {self.images:,} images{': the same first class on each' if self.of_one_class else ''}"
        return f"{same}, scores within {self.worst:.1g} of the largest"


def compare(
    path: Path,
    source: nn.Module,
    run: Runner,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    extremes: Iterable[tuple[torch.Tensor, torch.Tensor]],
    located: Callable[[torch.Tensor], tuple[Values, Values]],
    of_one_class: bool = True,
) -> Parity:
    """Compare on `batches` of (input of `source`, input of the file), and roughly on `extremes`.

    Raises ConvolveError if a score is off by more than `TOLERANCE` or, with `of_one_class`, if another class comes
    first. The message names the first difference in `located`, the intermediate values of the traced source and of the
    file.
    """
    seen, worst = 0, 0.0
    for for_source, for_file in batches:
        with torch.no_grad():
            expected = arrays(source(for_source))
        got = run(for_file)
        if fault := _fault(expected, got, of_one_class):
            where = f"in images {seen + 1} to {seen + len(for_file)}"
            raise _refusal(path, f"{fault} {where}", located(for_file))
        seen += len(for_file)
        worst = max(worst, *(float(distance(*pair).max()) for pair in zip(expected, got, strict=True)))
    for for_source, for_file in extremes:
        with torch.no_grad():
            expected = arrays(source(for_source))
        off = max(distance(*pair).max() for pair in zip(expected, run(for_file), strict=True))
        if off > EXTREME_TOLERANCE:
            fault = f"a score is off by {off:.2g} of the largest for an extreme input"
            raise _refusal(path, fault, located(for_file))
    return Parity(seen, worst, of_one_class)


def _refusal(path: Path, fault: str, values: tuple[Values, Values]) -> ConvolveError:
    return ConvolveError(
        f"{path} was not written, because its outputs differ from its source's: {fault}; "
        f"{first_difference(*values)}. Please report it"
    )


def arrays(outputs: torch.Tensor | tuple[torch.Tensor, ...]) -> list[np.ndarray]:
    """The output of a network, one tensor or several, as arrays."""
    return [each.numpy() for each in (outputs if isinstance(outputs, tuple) else (outputs,))]


def _fault(expected: Sequence[np.ndarray], got: Sequence[np.ndarray], of_one_class: bool) -> str:
    """What is wrong with the outputs `got`, in words; empty if nothing is."""
    if len(expected) != len(got):
        return f"{len(got)} outputs instead of {len(expected)}"
    pairs = [*zip(expected, got, strict=True)]
    if any(one.shape != other.shape or distance(one, other).max() > TOLERANCE for one, other in pairs[1:]):
        return "an output other than the scores is off"
    return disagreement(*pairs[0], of_one_class)


def disagreement(expected_NK: np.ndarray, got_NK: np.ndarray, of_one_class: bool = True) -> str:
    """What is wrong with the scores `got_NK`, in words; empty if nothing is."""
    if expected_NK.shape != got_NK.shape:
        return f"scores of shape {got_NK.shape} instead of {expected_NK.shape}"
    if (worst := distance(expected_NK, got_NK).max()) > TOLERANCE:
        return f"a score is off by {worst:.2g} of the largest"
    other_N = expected_NK.argmax(1) != got_NK.argmax(1)
    return f"another class comes first {other_N.sum()} times" if of_one_class and other_N.any() else ""


def first_difference(expected: Values, got: Values) -> str:
    """The first value that occurs in both and differs, in words."""
    for name, (layer, numbers) in expected.items():
        other = got.get(name, ("", numbers))[1]
        if other.shape == numbers.shape and distance(numbers, other).max(initial=0) > TOLERANCE:
            return f"the first difference is in {name}" + (f" (layer {layer})" if layer else "")
    return "no single operator differs"


def distance(expected: np.ndarray, got: np.ndarray) -> np.ndarray:
    """|expected - got| relative to the largest |expected|, or to 1 if all are smaller.

    0 where both are the same infinity or NaN, infinite where only one of them is.
    """
    expected, got = expected.astype(np.float64), got.astype(np.float64)
    finite = np.abs(expected[np.isfinite(expected)])
    with np.errstate(invalid="ignore"):
        off = np.where(expected == got, 0.0, np.abs(expected - got) / finite.max(initial=1.0))
    off[np.isnan(expected) & np.isnan(got)] = 0.0
    off[np.isnan(expected) != np.isnan(got)] = np.inf
    return off
