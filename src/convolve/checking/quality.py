"""Images that show little, or differ from the others: dark, overexposed, empty, blurred, of an odd shape or size.

Candidates come from the data that `looks.py` stores for each image. They are then decoded again, larger and in color,
and judged. The limits were chosen on one half of two sets of photographs and tested on the other (docs/experiments.md).
"""

import functools
from collections.abc import Iterator
from itertools import chain, islice

import cv2
import numpy as np
from numpy.typing import NDArray

from convolve.checking.finding import Findings
from convolve.checking.looks import Looks, brought_near
from convolve.checking.part import Part
from convolve.data.ordered_map import ordered_map
from convolve.data.team import ALONE, Team
from convolve.formats.decode import Decoding

# Legend: N images, H rows, W columns, C channels (blue, green, red, or gray), T tiles.

DARK = 90  # of 255; the brightest percent of the image stays below, in its brightest channel
BRIGHT = 242  # of 255; nineteen twentieths are above, in their darkest channel
EMPTY = 3.0  # gray levels that the image, at 32x32, deviates from its mean
BLURRED = 0.75  # the sharpness of its sharpest tile, of those with the strongest contours
FEW_LEVELS = 1 << 13  # of 1 << 16: a camera or scanner of 12 or 13 bits may have filled them
HIDDEN = 0.01  # of the image; rounded corners are less
_LIKELY_BLURRED = 0.64  # of the image as a whole; of sharp photographs one in twenty is below, and is looked at again
_JUDGED_SIDE = 128  # pixels, of the shorter side, at least
_TILE = 16  # pixels
_TILE_NOISE = 4.0  # squared gray levels, twice what JPEG leaves in flat places

LONG = 3.0  # times the shorter side
ODD_SIZE = 4.0  # times the median side, or a fourth of it
_FAR_OUT = 3.0  # times the distance of the quartiles (J. Tukey, Exploratory Data Analysis, 1977)
_MOST_ODD = 0.05  # of the images; what more of them have is usual

_CHUNK = 64  # images that a worker is asked about at a time

_ADVICE = "leave it out if a person could not tell its class"


def check_quality(part: Part, looks: Looks, findings: Findings, threads: int, team: Team = ALONE) -> None:
    """Add doubts about the images of `part`."""
    dim_N = (looks.high_N < DARK) | (looks.low_N > BRIGHT) | (looks.spread_N < EMPTY)
    soft_N = looks.sharpness_N < _LIKELY_BLURRED
    suspects = np.flatnonzero((dim_N | soft_N | looks.alpha_N) & looks.seen_N).tolist()

    def judge(number: int) -> tuple[str, str] | None:
        index = suspects[number]
        content = part.source.read(index)
        if looks.alpha_N[index] and (hidden := part.transparent(content)) > HIDDEN:
            return "transparent", f"{hidden:.0%} of it is transparent, and the hidden colors become visible"
        found = _exposure(part, index, content, float(looks.spread_N[index])) if dim_N[index] else None
        return found or (_blur(part, index, content) if soft_N[index] else None)

    def compute(numbers: range) -> Iterator[list[tuple[str, str] | None]]:
        judged = ordered_map(judge, numbers, threads, ahead=4 * threads)
        while some := list(islice(judged, _CHUNK)):
            yield some

    judged = chain.from_iterable(team.blocks(f"{part.name} images judged", len(suspects), _CHUNK, compute))
    for index, found in zip(suspects, judged, strict=True):
        if found:
            _add(findings, part, index, *found)
    turned = [("turned", index, "it has an EXIF orientation") for index in np.flatnonzero(looks.turned_N).tolist()]
    for kind, index, what in (*_odd_shapes(looks), *_odd_sizes(looks), *turned):
        _add(findings, part, index, kind, what)


def _exposure(part: Part, index: int, content: bytes, spread: float) -> tuple[str, str] | None:
    """(kind, what), if the image in color is as dark, bright or empty as it seems in gray: a red rose is not dark."""
    channels = cv2.split(part.decode(index, content, Decoding(min_size=(_JUDGED_SIDE, _JUDGED_SIDE))))
    high = np.percentile(functools.reduce(cv2.max, channels), 99)
    if high < FEW_LEVELS >> 8 and (largest := part.largest_of_16_bits(content)) is not None and largest < FEW_LEVELS:
        return "few bits", f"its largest value is {largest:,} of 65,535"
    if high < DARK:
        return "dark", f"hardly anything in it is brighter than {high / 255:.0%} of white"
    low = np.percentile(functools.reduce(cv2.min, channels), 5)
    if low > BRIGHT:
        return "bright", f"hardly anything in it is darker than {low / 255:.0%} of white"
    return ("empty", f"its brightness hardly changes ({spread:.1f} of 255 levels)") if spread < EMPTY else None


def _blur(part: Part, index: int, content: bytes) -> tuple[str, str] | None:
    gray_HW = part.decode(index, content, Decoding(gray=True, min_size=(_JUDGED_SIDE, _JUDGED_SIDE)))[:, :, 0]
    sharpest = sharpest_tile(brought_near(gray_HW, _JUDGED_SIDE))
    return (
        ("blurred", f"its sharpest region has sharpness {sharpest:.2f}, below {BLURRED}")
        if sharpest < BLURRED
        else None
    )


def sharpest_tile(gray_HW: NDArray[np.uint8]) -> float:
    """Detail finer than 3 pixels, relative to detail finer than 7: a blur removes the first and keeps the second.

    An image is compared with a blurred copy (F. Crete et al., The blur effect, 2007), as a ratio of standard
    deviations, in the sharpest of the tiles with the strongest contours: a sharp object may have any background.
    Infinite for images smaller than four tiles.
    """
    rows, columns = (side // _TILE for side in gray_HW.shape)
    if rows * columns < 4:
        return float("inf")
    gray_HW = gray_HW[: rows * _TILE, : columns * _TILE]
    fine_HW, coarse_HW = cv2.blur(gray_HW, (3, 3)), cv2.blur(gray_HW, (7, 7))
    finer_T, coarser_T = (
        cv2.resize(cv2.multiply(apart_HW, apart_HW, dtype=cv2.CV_32F), (columns, rows), interpolation=cv2.INTER_AREA)
        for apart_HW in (cv2.absdiff(gray_HW, fine_HW), cv2.absdiff(fine_HW, coarse_HW))
    )
    strong_T = finer_T + coarser_T >= np.quantile(finer_T + coarser_T, 0.75)
    return float(np.sqrt(finer_T / (coarser_T + _TILE_NOISE))[strong_T].max())


def _odd_shapes(looks: Looks) -> Iterator[tuple[str, int, str]]:
    """Elongated images in a set where few are."""
    sides_N2 = np.sort(looks.size_N2, axis=1)
    long_N = looks.seen_N & (sides_N2[:, 1] > LONG * sides_N2[:, 0])
    if long_N.sum() <= _MOST_ODD * looks.seen_N.sum():
        for index in np.flatnonzero(long_N).tolist():
            height, width = looks.size_N2[index]
            times = sides_N2[index, 1] / sides_N2[index, 0]
            yield "odd shape", index, f"{width} x {height} pixels: one side is {times:.1f} times the other"


def _odd_sizes(looks: Looks) -> Iterator[tuple[str, int, str]]:
    """Images much smaller or larger than the others: a thumbnail among photographs."""
    if not looks.seen_N.any():
        return
    side_N = np.log2(np.maximum(looks.size_N2, 1)).mean(axis=1)  # of a square of the same area
    first, middle, third = np.quantile(side_N[looks.seen_N], (0.25, 0.5, 0.75))
    far = max(np.log2(ODD_SIZE), _FAR_OUT * (third - first))
    for index in np.flatnonzero(looks.seen_N & (abs(side_N - middle) > far)).tolist():
        height, width = looks.size_N2[index]
        yield "odd size", index, f"{width} x {height} pixels; the median side is {2**middle:.0f}"


def _add(findings: Findings, part: Part, index: int, kind: str, what: str) -> None:
    mend = _MENDS.get(kind, _ADVICE)
    findings.add(kind, part.full_location(index), what, mend, part.at(index))


_MENDS = {
    "transparent": "put it on a background of one color: the hidden pixels are often black, or noise",
    "few bits": "if its values have 12 bits, multiply them by 16: it is nearly black now",
    "odd shape": "crop it to its subject: resized to the others' shape, it is distorted or loses its ends",
    "turned": "nothing to do: they are rotated, as in every viewer",
    "odd size": "check whether it is a thumbnail, or shows something else",
}
