"""Images that are identical, or look the same: one pass over sorted numbers, not a comparison of all pairs.

Similarity is decided in two steps. Locality-sensitive hashing finds candidates: 16 of the lowest frequencies of a
perceptual hash, each quantized to cells, give one number; images with the same number are neighbors after sorting.
Eight such tables, with different frequencies and cells, miss almost nothing. Candidates are then
decoded again and compared at 143 frequencies. For N images both take a time in proportion to N log N.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from convolve.checking.looks import UNIT, Looks, frequencies, thumbnail
from convolve.checking.part import Part

# Legend: N images, F frequencies, P pairs of images.

# Above the similarity of any two of MNIST's 70,000 digits, and below that of copies that were saved again or halved in
# size: both are tests (tests/checking: the real sets, the planted faults).
SAME = 0.9975
_CANDIDATE = 0.995  # at 63 frequencies in 8 bits
_TABLES, _KEYS, _FROM = 8, 16, 24  # frequencies of a number, out of the lowest ones
_CELL_BITS = 5  # cells of 32 / 127 of the vectors' length
_WINDOW = 16  # neighbors that an image is compared with: what bounds the time where very many images share a cell
_PIECE = 1 << 17  # pairs that are compared at once


@dataclass(frozen=True)
class Pair:
    """`one` and `other` look the same; each is (number of the part, index). `exact`: byte for byte."""

    one: tuple[int, int]
    other: tuple[int, int]
    likeness: float
    exact: bool


@dataclass(eq=False)
class _Partners:
    """For each image, the most similar earlier one, and how similar it is; -1: none."""

    image_N: NDArray[np.int64]
    likeness_N: NDArray[np.float32]

    @classmethod
    def none(cls, count: int) -> Self:
        return cls(np.full(count, -1), np.full(count, _CANDIDATE, np.float32))

    def offer(self, earlier_P: NDArray[np.int64], later_P: NDArray[np.int64], likeness_P: NDArray[np.float32]) -> None:
        better_P = likeness_P > self.likeness_N[later_P]
        earlier_P, later_P, likeness_P = earlier_P[better_P], later_P[better_P], likeness_P[better_P]
        order = np.argsort(likeness_P)  # if an image occurs several times, the last assignment counts
        self.image_N[later_P[order]] = earlier_P[order]
        self.likeness_N[later_P[order]] = likeness_P[order]


def alike(parts: list[Part], looks: list[Looks]) -> Iterator[Pair]:
    """For each image with an earlier copy: its pair with one in the first part, otherwise with one in its own.

    `other` is the earlier image. At most one pair for each image, in their order.
    """
    starts = np.cumsum([0, *(len(look.seen_N) for look in looks)])
    seen_N = np.concatenate([look.seen_N for look in looks])
    shapes_NF = np.concatenate([look.shapes_NF for look in looks])
    first_N = _first_of_each(np.concatenate([look.digests_N for look in looks]), seen_N)
    unique_U = np.flatnonzero((first_N == np.arange(len(first_N))) & seen_N & shapes_NF.any(axis=1))
    in_first, in_own = _candidates(shapes_NF, unique_U, int(starts[1]))

    def at(number: int) -> tuple[int, int]:
        part = int(np.searchsorted(starts, number, side="right")) - 1
        return part, number - int(starts[part])

    for number in np.flatnonzero(seen_N).tolist():
        if first_N[number] != number:
            yield Pair(at(number), at(int(first_N[number])), 1.0, True)
            continue
        for partners in (in_first, in_own):
            other = int(partners.image_N[number])
            likeness = _likeness(parts, at(number), at(other)) if other >= 0 else 0.0
            if likeness >= SAME:
                yield Pair(at(number), at(other), likeness, False)
                break


def _first_of_each(digests_N: NDArray[np.uint64], seen_N: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The first image with the same bytes; for images that could not be read, themselves."""
    first_N = np.arange(len(digests_N))
    seen_S = np.flatnonzero(seen_N)
    _, place_U, which_S = np.unique(digests_N[seen_S], return_index=True, return_inverse=True)
    first_N[seen_S] = seen_S[place_U[which_S]]
    return first_N


def _candidates(shapes_NF: NDArray[np.int8], unique_U: NDArray[np.int64], boundary: int) -> tuple[_Partners, _Partners]:
    """The likely partners of each image from `boundary` on, among those before it and on its own side."""
    in_first, in_own = _Partners.none(len(shapes_NF)), _Partners.none(len(shapes_NF))
    rng = np.random.default_rng(0)
    for _ in range(_TABLES):
        for ends_2P in _neighbors(_keys(shapes_NF, unique_U, rng), unique_U):
            likeness_P = _cosine(shapes_NF[ends_2P[0]], shapes_NF[ends_2P[1]])
            crosses_P = (ends_2P[0] < boundary) & (ends_2P[1] >= boundary)
            for partners, chosen_P in ((in_first, crosses_P), (in_own, ~crosses_P)):
                partners.offer(ends_2P[0, chosen_P], ends_2P[1, chosen_P], likeness_P[chosen_P])
    return in_first, in_own


def _neighbors(keys_U: NDArray[np.uint64], unique_U: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Pairs (2, P) of images, the earlier first, that share a cell and are near each other in the order of the keys."""
    order_U = np.argsort(keys_U)
    cells_U, sorted_U = keys_U[order_U] >> 16, unique_U[order_U]
    for step in range(1, _WINDOW + 1):
        same = np.flatnonzero(cells_U[step:] == cells_U[:-step])
        for some in np.split(same, range(_PIECE, len(same), _PIECE)):
            yield np.sort([sorted_U[some], sorted_U[some + step]], axis=0)


def _keys(shapes_NF: NDArray[np.int8], unique_U: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.uint64]:
    """48 bits of cells, then 16 that order the images of a cell along some direction."""
    lowest = np.argsort(np.add.outer(range(8), range(8)).ravel()[1:], kind="stable")[:_FROM]
    keys_U: NDArray[np.uint64] = np.zeros(len(unique_U), np.uint64)
    for frequency in rng.choice(lowest, _KEYS, replace=False):
        offset = 128 + int(rng.integers(1 << _CELL_BITS))
        cell_U = (shapes_NF[unique_U, frequency].astype(np.int16) + offset) >> _CELL_BITS
        keys_U = keys_U << np.uint64(3) | np.minimum(cell_U, 7).astype(np.uint64)
    along_U = np.zeros(len(unique_U), np.float32)
    for frequency in lowest:
        along_U += rng.standard_normal(dtype=np.float32) * shapes_NF[unique_U, frequency]
    rank_U = np.clip(along_U * (2**15 / (4 * UNIT)) + 2**15, 0, 2**16 - 1).astype(np.uint64)
    full_U: NDArray[np.uint64] = keys_U << np.uint64(16) | rank_U
    return full_U


def _cosine(one_PF: NDArray[np.int8], other_PF: NDArray[np.int8]) -> NDArray[np.float32]:
    one_PF, other_PF = one_PF.astype(np.float32), other_PF.astype(np.float32)
    products_P = np.einsum("pf,pf->p", one_PF, other_PF)
    lengths_P = np.sqrt(np.einsum("pf,pf->p", one_PF, one_PF) * np.einsum("pf,pf->p", other_PF, other_PF))
    cosine_P: NDArray[np.float32] = products_P / lengths_P
    return cosine_P


def _likeness(parts: list[Part], one: tuple[int, int], other: tuple[int, int]) -> float:
    """The similarity of two images at 143 frequencies, in -1..1."""
    small = [thumbnail(parts[part], index, parts[part].source.read(index)) for part, index in (one, other)]
    one_F, other_F = frequencies(np.stack(small), 12)
    return float(one_F @ other_F)
