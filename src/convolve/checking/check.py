"""Goes through labeled images of any form and gathers what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convolve.checking.alike import Pair, alike
from convolve.checking.finding import Findings
from convolve.checking.looks import Progress, look_at
from convolve.checking.mean_layout import check_mean, mean_files
from convolve.checking.part import Part
from convolve.checking.unlisted import check_unlisted
from convolve.data.open import open_to_check
from convolve.data.options import AS_FOUND, DataOptions
from convolve.data.sources.files import FileSource
from convolve.data.sources.source import UNLABELED
from convolve.environment import usable_cores

_NAMED = 10  # classes that are named of many


@dataclass(frozen=True)
class Checked:
    """`images`: how many each part has; `passed_over`: what lies among them, in words."""

    images: dict[str, int]
    findings: Findings
    passed_over: str = ""


def check_data(
    source: Path,
    test: Path | None = None,
    mean: Path | None = None,
    threads: int = 0,
    progress: Progress = lambda name, done, count: None,
    *,
    options: DataOptions = AS_FOUND,
) -> Checked:
    """Check the images at `source`, anything that `train` takes, and the test part at `test` or the one it has itself.

    `mean` is a mean file; others are found beside a list of images. `threads` 0: every core. Memory: what the lists
    take and about 150 bytes an image; images in tables, such as MNIST's, are in memory as for training.
    Raises `MissingDataError` where there is nothing to check, `FormatError` for a file that is neither a list nor a
    data set; everything else that is wrong becomes a finding.
    """
    findings = Findings()
    parts = _open(source, test, findings, options)
    for part in parts:
        _check_classes(part, parts[0], findings)
    check_unlisted(parts, findings)
    looks = [look_at(part, findings, threads or usable_cores(), progress) for part in parts]
    if parts:
        for pair in alike(parts[::-1], looks[::-1]):  # test first: what is in both is to leave the training part
            _add_pair(pair, parts[::-1], findings)
        for path in [mean] if mean else mean_files(source if source.is_dir() else source.parent):
            check_mean(path, parts[0], findings)
    passed = [part.source.passed_over for part in parts if isinstance(part.source, FileSource)]
    return Checked({part.name: len(part) for part in parts}, findings, "; ".join(filter(None, passed)))


def _open(source: Path, test: Path | None, findings: Findings, options: DataOptions) -> list[Part]:
    """The training part, and the test part if there is one; what cannot be read at all is a finding."""
    parts = [Part(name, part) for name, part in open_to_check(source.expanduser(), None, findings.add, options)]
    if test:
        known = parts[0].source.class_names if parts else None
        tested = open_to_check(test.expanduser(), known, findings.add, options)
        parts = [*parts[:1], *(Part("test", part) for _, part in tested[-1:])]
    return parts


def _check_classes(part: Part, training: Part, findings: Findings) -> None:
    """Numbers that no training image has; classes that only the test part has."""
    used = np.unique(part.labels_N[part.labels_N != UNLABELED])
    if part is not training:
        for number in np.setdiff1d(used, training.labels_N):
            first = int(np.flatnonzero(part.labels_N == number)[0])
            what = f"class {part.label(first)} is in the test part only"
            findings.add("gap", part.source.location(first), what, "add training images of it, or correct the label")
    elif len(used) and not findings.counts["unreadable"]:  # else the classes may be in what could not be read
        _check_gaps(part, used, findings)


def _check_gaps(part: Part, used: NDArray[np.int64], findings: Findings) -> None:
    names, largest = part.source.class_names or (), int(used[-1])
    count, taken = max(len(names), largest + 1), {*used.tolist()}
    missing = max(count, 2) - len(used)
    if missing <= findings.counts["bad line"]:  # their images may stand in lines that cannot be read
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


def _add_pair(pair: Pair, parts: Sequence[Part], findings: Findings) -> None:
    part, other_part = parts[pair.one[0]], parts[pair.other[0]]
    index, other = pair.one[1], pair.other[1]
    label, other_label = part.label(index), other_part.label(other)
    if part is not other_part:
        kind, mend = "leak", f"take it out of the {part.name} part"
    elif label != other_label:
        kind, mend = "two labels", "look at it, and remove the one with the wrong label"
    else:
        kind, mend = "duplicate", "remove one of them"
    like = "is the same as" if pair.exact else f"looks the same ({pair.likeness:.2%}) as"
    labels = f"; labels: here {label}, there {other_label}" if label != other_label else ""
    findings.add(kind, part.full_location(index), f"{like} {other_part.full_location(other)}{labels}", mend)
