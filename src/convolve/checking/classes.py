"""Classes without images, or with few."""

from itertools import islice

import numpy as np
from numpy.typing import NDArray

from convolve.checking.finding import Findings
from convolve.checking.part import Part
from convolve.data.balance import RARE
from convolve.data.sources.source import UNLABELED

_NAMED = 10  # classes that are named of many
_FEW, _FEW_OF_LARGEST = 10, 4  # also few: fewer than 10 images, of which two are held out, and not a quarter
_SHOWN = 6  # images of a class that has few


def check_classes(part: Part, training: Part, findings: Findings) -> None:
    """Find classes with no or few training images, and classes that only the test part has."""
    used = np.unique(part.labels_N[part.labels_N != UNLABELED])
    if part is not training:
        for number in np.setdiff1d(used, training.labels_N):
            first = int(np.flatnonzero(part.labels_N == number)[0])
            what = f"class {part.label(first)} is in the {part.name} part only"
            mend = "add training images of it, or correct the label"
            findings.add("gap", part.source.location(first), what, mend, part.at(first), about=0)
        return
    _check_few(part, findings)
    if len(used) and not findings.counts["unreadable"]:  # otherwise they may be among the unreadable images
        _check_gaps(part, used, findings)


def _check_gaps(part: Part, used: NDArray[np.int64], findings: Findings) -> None:
    names, largest = part.source.class_names or (), int(used[-1])
    count, taken = max(len(names), largest + 1), {*used.tolist()}
    missing = max(count, 2) - len(used)
    if missing <= findings.counts["bad line"]:  # their images may be on lines that cannot be read
        return
    place = part.source.location(int(np.flatnonzero(part.labels_N == largest)[0]))
    if count == 1:
        what = "all images are of one class, where a classifier needs two"
        findings.add("gap", place, what, "add images of another class, or give the folder above")
        return
    unused = list(islice((number for number in range(count) if number not in taken), _NAMED))
    named = ", ".join(names[number] if number < len(names) else str(number) for number in unused)
    more = f" and {missing - len(unused):,} more" if missing > len(unused) else ""
    what = f"{len(used)} of {count:,} classes have images, not {named}{more} (the largest label, {largest}, is here)"
    findings.add("gap", place, what, "number the classes from 0 without gaps, or add images")


def _check_few(part: Part, findings: Findings) -> None:
    numbers_K, counts_K = np.unique(part.labels_N[part.labels_N != UNLABELED], return_counts=True)
    largest = int(counts_K.max(initial=0))
    few_K = (counts_K < _FEW) & (_FEW_OF_LARGEST * counts_K < largest) | (RARE * counts_K < largest)
    for number, count in zip(numbers_K[few_K].tolist(), counts_K[few_K].tolist(), strict=True):
        members = np.flatnonzero(part.labels_N == number)[:_SHOWN].tolist()
        what = (
            f"{count:,} image{'s' * (count > 1)} of class {part.label(members[0])}; the largest class has {largest:,}"
        )
        mend = "add images of it, or leave the class out: it can hardly be learned, and its error cannot be measured"
        images = tuple(image for index in members for image in part.at(index))
        findings.add("few images", part.source.location(members[0]), what, mend, images, about=0)
