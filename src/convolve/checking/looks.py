"""What is kept of each image to find it again: a hash of its bytes, and a perceptual hash of its shapes.

The perceptual hash is made of the lowest frequencies (a cosine transform) of the image in gray, scaled to 32x32
whatever its form: 63 of them, without the mean, as one vector of length 1 in 8-bit numbers. It hardly changes when an
image is saved anew as JPEG, scaled, or made a little brighter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from convolve.checking.finding import Findings
from convolve.checking.part import Part
from convolve.data.ordered_map import ordered_map
from convolve.data.sources.source import UNLABELED
from convolve.errors import DataError, MissingDataError
from convolve.formats.decode import Decoding

# Legend: N images, F frequencies, H rows, W columns.

SIDE = 32  # of the images that are compared
FREQUENCIES = 8  # in each direction, of the perceptual hash
UNIT = 127  # the length of the vectors in 8 bits

_FLAT = 2.0  # gray levels; images that deviate less from their mean show nothing that could be compared
_CHUNK = 64  # images that a thread takes at a time: one by one, handing over would take longer than the work
_MOST = 16  # frequencies in each direction
_ROWS_KX = np.cos(np.pi / SIDE * np.outer(np.arange(_MOST), np.arange(SIDE) + 0.5)).astype(np.float32)

Progress = Callable[[str, int, int], None]  # name of the part, images that were looked at, images in all


@dataclass(frozen=True, eq=False)
class Looks:
    """71 bytes an image. `seen_N`: it could be decoded; `shapes_NF` is 0 where there is nothing to compare."""

    digests_N: NDArray[np.uint64]
    shapes_NF: NDArray[np.int8]
    seen_N: NDArray[np.bool_]


def look_at(part: Part, findings: Findings, threads: int, progress: Progress) -> Looks:
    """The looks of all images of `part`; those that are missing or damaged become findings."""
    count = len(part)
    looks = Looks(np.zeros(count, np.uint64), np.zeros((count, FREQUENCIES**2 - 1), np.int8), np.zeros(count, bool))
    starts = range(0, count, _CHUNK)
    chunks = ordered_map(
        lambda start: _look_at_chunk(part, start, looks), starts, threads, ahead=4 * threads, images=_CHUNK
    )
    with closing(chunks):
        for start, faults in zip(starts, chunks, strict=True):
            for index, error in faults:
                _add(findings, part, index, error)
            progress(part.name, min(start + _CHUNK, count), count)
    return looks


def thumbnail(part: Part, index: int, content: bytes) -> NDArray[np.uint8]:
    """The image in gray, (H, W) of `SIDE`."""
    gray_HW = part.decode(index, content, Decoding(gray=True, min_size=(SIDE, SIDE)))[:, :, 0]
    interpolation = cv2.INTER_AREA if min(gray_HW.shape) >= SIDE else cv2.INTER_LINEAR
    return cv2.resize(gray_HW, (SIDE, SIDE), interpolation=interpolation).astype(np.uint8, copy=False)


def frequencies(thumbnails_NHW: NDArray[np.uint8], count: int) -> NDArray[np.float32]:
    """The lowest `count` x `count` frequencies of each but its mean, (N, F) of length 1; 0 for flat images.

    Higher ones weigh more, as the square root of their sum: all images are alike in the lowest.
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


def _look_at_chunk(part: Part, start: int, looks: Looks) -> list[tuple[int, DataError]]:
    """Fill in the looks of the images from `start` on; (index, error) of those that cannot be decoded."""
    faults: list[tuple[int, DataError]] = []
    thumbnails_NHW = np.zeros((min(_CHUNK, len(part) - start), SIDE, SIDE), np.uint8)
    for place, index in enumerate(range(start, start + len(thumbnails_NHW))):
        if part.labels_N[index] == UNLABELED:
            continue
        try:
            content = part.source.read(index)
            thumbnails_NHW[place] = thumbnail(part, index, content)
        except DataError as error:
            faults.append((index, error))
            continue
        looks.digests_N[index] = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest())
        looks.seen_N[index] = True
    shapes_NF = np.rint(UNIT * frequencies(thumbnails_NHW, FREQUENCIES))
    looks.shapes_NF[start : start + len(thumbnails_NHW)] = shapes_NF.astype(np.int8)
    return faults


def _add(findings: Findings, part: Part, index: int, error: DataError) -> None:
    place, text = part.source.location(index), str(error)
    what = text.removeprefix(f"{place}: ")
    if isinstance(error, MissingDataError):
        what = f"{part.source.file(index)} is not there" if part.source.file(index) in text else what
        mend = "put the file there, or correct or remove the line"
        if place != part.source.file(index):
            mend = "put the file there, say with --root DIR where it lies now, or correct or remove the line"
        findings.add("missing image", place, what, mend)
    else:
        findings.add("damaged image", place, what, "replace the file, or leave it out")
