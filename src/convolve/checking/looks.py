"""What the check stores for each image: a hash of its bytes, a perceptual hash, its size, and its exposure.

The perceptual hash is made of the lowest frequencies (a cosine transform) of the image in gray, scaled to 32x32
whatever its proportions: 63 of them, without the mean, as a vector of length 1 in 8-bit numbers. It hardly changes when
an image is saved again as JPEG, scaled, or made slightly brighter.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from convolve.checking.finding import Findings
from convolve.checking.part import Part
from convolve.data.ordered_map import ordered_map
from convolve.data.sources.source import UNLABELED
from convolve.data.team import ALONE, Team
from convolve.errors import DataError, MissingDataError
from convolve.formats.decode import Decoding
from convolve.formats.image_header import UPRIGHT

# Legend: N images, F frequencies, H rows, W columns.

SIDE = 32  # of the images that are compared
SHARP_SIDE = 96  # from this shorter side on, sharpness is measured, on the image brought near that size
FREQUENCIES = 8  # in each direction, of the perceptual hash
UNIT = 127  # the length of the vectors in 8 bits

_FLAT = 2.0  # gray levels; images that deviate less from their mean show nothing that could be compared
_CHUNK = 64  # images that a thread takes at a time: one by one, handing over would take longer than the work
_SAMPLED = (SIDE // 2) ** 2  # pixels of a thumbnail, one in four, whose levels are put in order
_LOW, _HIGH = _SAMPLED * 5 // 100, _SAMPLED * 99 // 100  # places in that order
_MOST = 16  # frequencies in each direction
_ROWS_KX = np.cos(np.pi / SIDE * np.outer(np.arange(_MOST), np.arange(SIDE) + 0.5)).astype(np.float32)

Progress = Callable[[str, int, int], None]  # name of the part, images that were looked at, images in all


@dataclass(frozen=True, eq=False)
class Looks:
    """91 bytes an image.

    `seen_N`: whether it could be decoded; `shapes_NF` is 0 if there is nothing to compare. `size_N2` is (rows,
    columns), upright, `turned_N` whether EXIF rotates it, `alpha_N` whether parts may be transparent. `low_N` and
    `high_N` are the 5th and 99th percentiles of the gray levels, `spread_N` their standard deviation. `sharpness_N` is
    infinite for images that are too small.
    """

    digests_N: NDArray[np.uint64]
    shapes_NF: NDArray[np.int8]
    seen_N: NDArray[np.bool_]
    size_N2: NDArray[np.int32]
    low_N: NDArray[np.uint8]
    high_N: NDArray[np.uint8]
    spread_N: NDArray[np.float32]
    sharpness_N: NDArray[np.float32]
    turned_N: NDArray[np.bool_]
    alpha_N: NDArray[np.bool_]

    @classmethod
    def none(cls, count: int) -> Self:
        return cls(
            digests_N=np.zeros(count, np.uint64), shapes_NF=np.zeros((count, FREQUENCIES**2 - 1), np.int8),
            seen_N=np.zeros(count, bool), size_N2=np.zeros((count, 2), np.int32), low_N=np.zeros(count, np.uint8),
            high_N=np.zeros(count, np.uint8), spread_N=np.zeros(count, np.float32),
            sharpness_N=np.full(count, np.inf, np.float32), turned_N=np.zeros(count, bool),
            alpha_N=np.zeros(count, bool),
        )  # fmt: skip


def look_at(part: Part, findings: Findings, threads: int, progress: Progress, team: Team = ALONE) -> Looks:
    """The looks of all images of `part`; missing or damaged ones become findings."""
    looks, mine = Looks.none(len(part)), Looks.none(len(part))

    def compute(numbers: range) -> Iterator[tuple[list[Any], list[tuple[int, bool, str]]]]:
        """(the looks of a chunk, what cannot be read of it)"""
        starts = numbers[::_CHUNK]
        chunks = ordered_map(
            lambda start: _look_at_chunk(part, start, mine), starts, threads, ahead=4 * threads, images=_CHUNK
        )
        with closing(chunks):
            for start, faults in zip(starts, chunks, strict=True):
                progress(part.name, min(start + _CHUNK, len(part)), len(part))
                yield [each[start : start + _CHUNK] for each in vars(mine).values()], faults

    for start, (values, faults) in zip(
        range(0, len(part), _CHUNK), team.blocks(f"{part.name} images read", len(part), _CHUNK, compute), strict=True
    ):
        for name, each in zip(vars(looks), values, strict=True):
            getattr(looks, name)[start : start + _CHUNK] = each
        for index, is_missing, text in faults:
            _add(findings, part, index, is_missing, text)
    return looks


def thumbnail(part: Part, index: int, content: bytes) -> NDArray[np.uint8]:
    """The image in gray, (H, W) of `SIDE`."""
    return _thumbnail(_gray(part, index, content, part.header(index, content).turned_size)[1])


def _thumbnail(gray_HW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    interpolation = cv2.INTER_AREA if min(gray_HW.shape) >= SIDE else cv2.INTER_LINEAR
    return cv2.resize(gray_HW, (SIDE, SIDE), interpolation=interpolation).astype(np.uint8, copy=False)


def _gray(part: Part, index: int, content: bytes, size: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The image of that `size` in gray (H, W), no larger than needed; and half as large, unless it is small."""
    side = SHARP_SIDE if min(size) >= SHARP_SIDE else SIDE
    gray_HW = brought_near(part.decode(index, content, Decoding(gray=True, min_size=(side, side)))[:, :, 0], SHARP_SIDE)
    return gray_HW, brought_near(gray_HW, min(gray_HW.shape) // 2) if side == SHARP_SIDE else gray_HW


def brought_near(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """`image`, (H, W) or (H, W, C), divided by a whole number so that its shorter side is in `side` .. 2 `side`."""
    height, width = image.shape[:2]
    divisor = min(height, width) // side
    if divisor < 2:
        return image
    smaller = cv2.resize(image, (width // divisor, height // divisor), interpolation=cv2.INTER_AREA)
    return smaller.astype(np.uint8, copy=False)


def _sharpness(gray_HW: NDArray[np.uint8], half_HW: NDArray[np.uint8]) -> float:
    """How much neighboring pixels differ, relative to the same at half the size, where a blur is half as wide.

    A ratio of standard deviations, so that contrast does not matter. The 1 is the largest effect of rounding to gray
    levels.
    """
    return float(np.sqrt(_fine(gray_HW) / (_fine(half_HW) + 1)))


def _fine(gray_HW: NDArray[np.uint8]) -> float:
    return cv2.norm(gray_HW, cv2.blur(gray_HW, (3, 3)), cv2.NORM_L2SQR) / gray_HW.size


def frequencies(thumbnails_NHW: NDArray[np.uint8], count: int) -> NDArray[np.float32]:
    """The lowest `count` x `count` frequencies of each image except its mean, (N, F) of length 1; 0 for flat images.

    Frequencies are weighted by the square root of their sum: all images are similar in the lowest ones.
    """
    rows_KX = _ROWS_KX[:count].copy()
    rows_KX[0] /= np.sqrt(2)
    weights_KL = np.sqrt(1 + np.add.outer(np.arange(count), np.arange(count)))
    spectra_NKL = weights_KL * (rows_KX @ thumbnails_NHW.astype(np.float32) @ rows_KX.T)
    vectors_NF: NDArray[np.float32] = spectra_NKL.reshape(-1, count * count)[:, 1:].astype(np.float32)
    lengths_N = np.linalg.norm(vectors_NF, axis=1)
    flat_N = thumbnails_NHW.std(axis=(1, 2)) < _FLAT
    lengths_N[flat_N] = np.inf
    vectors_NF /= lengths_N[:, None]
    return vectors_NF


def _look_at_chunk(part: Part, start: int, looks: Looks) -> list[tuple[int, bool, str]]:
    """Fill in the looks of the images from `start` on; returns (index, is missing, error) of unreadable ones."""
    faults: list[tuple[int, bool, str]] = []
    thumbnails_NHW = np.zeros((min(_CHUNK, len(part) - start), SIDE, SIDE), np.uint8)
    for place, index in enumerate(range(start, start + len(thumbnails_NHW))):
        if part.labels_N[index] == UNLABELED:
            continue
        try:
            content = part.source.read(index)
            header = part.header(index, content)
            gray_HW, half_HW = _gray(part, index, content, header.turned_size)
        except DataError as error:
            faults.append((index, isinstance(error, MissingDataError), str(error)))
            continue
        thumbnails_NHW[place] = _thumbnail(half_HW)
        if half_HW is not gray_HW:
            looks.sharpness_N[index] = _sharpness(gray_HW, half_HW)
        looks.digests_N[index] = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest())
        looks.size_N2[index], looks.seen_N[index] = header.turned_size, True
        looks.turned_N[index], looks.alpha_N[index] = header.orientation != UPRIGHT, header.has_alpha
    here = slice(start, start + len(thumbnails_NHW))
    looks.shapes_NF[here] = np.rint(UNIT * frequencies(thumbnails_NHW, FREQUENCIES)).astype(np.int8)
    looks.spread_N[here] = thumbnails_NHW.std(axis=(1, 2))
    ordered_NP = np.partition(thumbnails_NHW[:, ::2, ::2].reshape(-1, _SAMPLED), (_LOW, _HIGH), axis=1)
    looks.low_N[here], looks.high_N[here] = ordered_NP[:, _LOW], ordered_NP[:, _HIGH]
    return faults


def _add(findings: Findings, part: Part, index: int, is_missing: bool, text: str) -> None:
    place = part.source.location(index)
    what = text.removeprefix(f"{place}: ")
    if is_missing:
        what = f"{part.source.file(index)} is not there" if part.source.file(index) in text else what
        mend = "put the file there, or correct or remove the line"
        if place != part.source.file(index):
            mend = "put the file there, name its present folder with --root DIR, or correct or remove the line"
        findings.add("missing image", place, what, mend, part.at(index))
    else:
        findings.add("damaged image", place, what, "replace the file, or leave it out", part.at(index))
