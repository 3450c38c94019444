"""Images that show the same: re-shots, crops, copies that were saved again. They must stay on one side of every split.

For each image a small gray version is stored, without its low and highest frequencies: the rest hardly changes with
exposure, JPEG and scale, and two different pictures have little of it in common (of the
flowers in docs/experiments.md at most 0.8, where slightly shifted, brightened and re-encoded copies have 0.91 and
more). Candidates are found by 8x8 pixels, which a shift hardly changes either: all pairs of 20,000 take seconds. They
are then compared with shifts of up to an eighth.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from convolve.data.ordered_map import ordered_map
from convolve.errors import DataError
from convolve.formats.decode import Decoding, decode_image

# Legend: N images, H rows, W columns, F numbers of a small image, P pairs of images.

ALIKE = 0.9

_SIDE, _SHIFT = 48, 6  # pixels of the small image, and how far it is moved
_COARSE = 8
_DECODING = Decoding(gray=True, min_size=(_SIDE, _SIDE))
_FINE_SIGMA, _COARSE_SIGMA = 0.8, 3.0  # of the grain and the brightness that are taken away
_FLAT = 2.0  # gray levels; images that deviate less from their mean show nothing that could be compared
_CONTRAST = 32.0  # gray levels of one standard deviation, so that four of them fit into a byte
_LEAST_INSIDE = 4.0  # the same of the part that is moved; OpenCV takes one without any for like everything
_CANDIDATE = 0.3  # likeness of 8x8 pixels
_NEIGHBORS = 16  # that an image is compared with: what bounds the time where very many look alike
_BLOCK = 256  # images that are compared with all others at once
_PAIRS = 64  # that a thread takes at a time


@dataclass(frozen=True, eq=False)
class Look:
    """`shapes_HW` is compared in the end; `coarse_F`, a vector of length 1, finds candidates."""

    shapes_HW: NDArray[np.uint8]
    coarse_F: NDArray[np.float32]


def look_at(encoded: bytes, name: object) -> Look | None:
    """The look of an image; None if it is damaged, or shows nothing that could be compared."""
    try:
        gray_HW = decode_image(encoded, name, _DECODING)[:, :, 0]
    except DataError:
        return None
    interpolation = cv2.INTER_AREA if min(gray_HW.shape) >= _SIDE else cv2.INTER_LINEAR
    small_HW = cv2.resize(gray_HW, (_SIDE, _SIDE), interpolation=interpolation).astype(np.float32)
    shapes_HW = cv2.GaussianBlur(small_HW, (0, 0), _FINE_SIGMA) - cv2.GaussianBlur(small_HW, (0, 0), _COARSE_SIGMA)
    coarse_F = cv2.resize(small_HW, (_COARSE, _COARSE), interpolation=cv2.INTER_AREA).ravel()
    coarse_F = coarse_F - coarse_F.mean()
    if small_HW.std() < _FLAT or not coarse_F.any():
        return None
    scaled_HW = 128 + _CONTRAST / max(float(shapes_HW.std()), 1e-3) * shapes_HW
    shapes_HW = np.clip(np.rint(scaled_HW), 0, 255).astype(np.uint8)
    if shapes_HW[_SHIFT:-_SHIFT, _SHIFT:-_SHIFT].std() < _LEAST_INSIDE:
        return None
    return Look(shapes_HW, coarse_F / np.linalg.norm(coarse_F))


def near_copies(looks: list[Look | None], threads: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(pairs_P2 of images that look alike, the earlier one first; their likeness_P, from `ALIKE` to 1)."""
    seen_N = np.array([number for number, look in enumerate(looks) if look is not None], np.int64)
    seen = [look for look in looks if look is not None]
    if len(seen) < 2:
        return np.zeros((0, 2), np.int64), np.zeros(0)
    pairs_P2 = np.unique(np.concatenate([*_candidates(np.stack([look.coarse_F for look in seen]))]), axis=0)

    def likeness(start: int) -> list[float]:
        pairs = pairs_P2[start : start + _PAIRS].tolist()
        return [_likeness(seen[one].shapes_HW, seen[other].shapes_HW) for one, other in pairs]

    starts = range(0, len(pairs_P2), _PAIRS)
    with closing(ordered_map(likeness, starts, threads, ahead=16 * threads, images=_PAIRS)) as found:
        likeness_P = np.array([each for piece in found for each in piece])
    alike_P = np.flatnonzero(likeness_P >= ALIKE)
    return seen_N[pairs_P2[alike_P]], likeness_P[alike_P]


def _candidates(coarse_NF: NDArray[np.float32]) -> Iterator[NDArray[np.int64]]:
    """Pairs (P, 2) of each image with those most similar at 8x8 pixels, the earlier first."""
    count = min(_NEIGHBORS, len(coarse_NF) - 1)
    for start in range(0, len(coarse_NF), _BLOCK):
        cosine_BN = coarse_NF[start : start + _BLOCK] @ coarse_NF.T
        rows_B = np.arange(len(cosine_BN))
        cosine_BN[rows_B, start + rows_B] = -1
        nearest_BK = np.argpartition(-cosine_BN, count - 1, axis=1)[:, :count]
        one_P, place_P = np.nonzero(np.take_along_axis(cosine_BN, nearest_BK, axis=1) >= _CANDIDATE)
        yield np.sort(np.stack([start + one_P, nearest_BK[one_P, place_P]], axis=1), axis=1)


def _likeness(one_HW: NDArray[np.uint8], other_HW: NDArray[np.uint8]) -> float:
    """The largest correlation of two looks under small shifts."""
    inner_HW = other_HW[_SHIFT:-_SHIFT, _SHIFT:-_SHIFT]
    found_HW = cv2.matchTemplate(one_HW, inner_HW, cv2.TM_CCOEFF_NORMED)
    row, column = np.unravel_index(int(found_HW.argmax()), found_HW.shape)
    gains = (_peak(found_HW[:, column], int(row)), _peak(found_HW[row], int(column)))
    return min(float(found_HW[row, column]) + sum(gains), 1.0)


def _peak(values: np.ndarray, at: int) -> float:
    """How much higher than the largest value the parabola through it and its neighbors peaks."""
    if not 0 < at < len(values) - 1:
        return 0.0
    left, middle, right = map(float, values[at - 1 : at + 2])
    bend = 2 * middle - left - right
    return (left - right) ** 2 / (8 * bend) if bend > 0 else 0.0


def clusters(
    count: int, pairs_P2: NDArray[np.int64], likeness_P: NDArray[np.float64], is_too_large: Callable[[list[int]], bool]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(for each of `count` images the smallest number in its cluster; the pairs that connect them). A cluster that
    `is_too_large`, as among digits and X-rays, which all look similar, is split by requiring more and more similarity.
    """
    cluster_N = _joined(count, pairs_P2)
    for least in (0.97, 0.99, 1.0, 2.0):
        members: dict[int, list[int]] = {}
        for number in np.unique(pairs_P2).tolist():
            members.setdefault(int(cluster_N[number]), []).append(number)
        large = [cluster for cluster, numbers in members.items() if is_too_large(numbers)]
        if not large:
            break
        kept_P = ~np.isin(cluster_N[pairs_P2[:, 0]], large) | (likeness_P >= least)
        pairs_P2, likeness_P = pairs_P2[kept_P], likeness_P[kept_P]
        cluster_N = _joined(count, pairs_P2)
    return cluster_N, pairs_P2


def _joined(count: int, pairs_P2: NDArray[np.int64]) -> NDArray[np.int64]:
    """The connected components of a graph: for each node the smallest number in its component."""
    smallest_N = np.arange(count)
    while len(pairs_P2):
        one_P, other_P = smallest_N[pairs_P2[:, 0]], smallest_N[pairs_P2[:, 1]]
        apart_P = one_P != other_P
        if not apart_P.any():
            break
        low_P, high_P = np.minimum(one_P, other_P)[apart_P], np.maximum(one_P, other_P)[apart_P]
        np.minimum.at(smallest_N, high_P, low_P)
        while (next_N := smallest_N[smallest_N]).tolist() != smallest_N.tolist():
            smallest_N = next_N
    return smallest_N
