"""The page of a data check: every kind of finding with its pictures."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from convolve.atomic import replacing
from convolve.checking.check import Checked
from convolve.checking.finding import KINDS, Finding, ImageAt, Level
from convolve.data.sources.files import FileSource
from convolve.data.sources.source import UNLABELED
from convolve.errors import DataError
from convolve.formats.decode import Decoding
from convolve.pictures import Picture, picture
from convolve.templates import render

MOST_PICTURES, MOST_OF_A_KIND = 600, 48  # in all: the page stays below 10 MB
MOST_LINES = 200  # of one kind, of findings without a picture
MOST_CLASSES = 30
_SMALL = 2  # pictures
_LONGEST_SIDE = 208  # pixels: a blur shows, and a picture takes 10 kB or so

_LEVELS = {Level.FAULT: "to mend", Level.DOUBT: "to look at", Level.NOTE: "good to know"}


@dataclass(frozen=True)
class Shown:
    """An image on the page; without a `picture` if it cannot be read."""

    name: str
    place: str
    label: str
    part: str
    picture: Picture | None


@dataclass(frozen=True)
class Group:
    """The findings of one kind: `cards` have pictures, `lines` have none, `more` counts those not shown. `mend`: the
    advice, if there is one for all."""

    kind: str
    title: str
    level: str
    count: int
    mend: str
    cards: list[tuple[Finding, list[Shown]]]
    lines: list[Finding]

    @property
    def is_fault(self) -> bool:
        return KINDS[self.kind].level is Level.FAULT

    @property
    def is_small(self) -> bool:
        """Whether two such groups fit side by side."""
        return bool(self.cards) and not self.lines and sum(len(images) for _, images in self.cards) <= _SMALL

    @property
    def more(self) -> int:
        return self.count - len(self.cards) - len(self.lines)


def write_data_page(checked: Checked, source: Path, path: Path) -> None:
    """Write the self-contained page `path` about the images at `source`."""
    folder = source if source.is_dir() else source.parent
    page = render(
        "report/data_page.html",
        name=source.resolve().name,
        root=f"{folder}{os.sep}",  # the prefix of most places; it is not shown with them
        checked=checked,
        groups=_groups(checked),
        classes=class_rows(checked),
        left_out=sum(bool(checked.findings.kinds_of(image, Level.FAULT)) for image in checked.findings.by_image),
        has_files=all(isinstance(part.source, FileSource) for part in checked.parts),
        most_classes=MOST_CLASSES,
    )
    with replacing(path) as temporary:
        temporary.write_bytes(page.encode(errors="backslashreplace"))  # a name may not be valid text


def class_rows(checked: Checked) -> list[dict[str, object]]:
    """Images of each class in each part, and how many of them have findings; the classes with most findings first.

    None if the labels are numbers.
    """
    if any(part.target == "number" for part in checked.parts):
        return []
    images, found = [Counter[str]() for _ in checked.parts], Counter[str]()
    parts = {part.name: part for part in checked.parts}
    for part, counts in zip(checked.parts, images, strict=True):
        numbers, firsts, each = np.unique(part.labels_N, return_index=True, return_counts=True)
        for number, first, count in zip(numbers.tolist(), firsts.tolist(), each.tolist(), strict=True):
            if number != UNLABELED:
                counts[part.label(first)] += count
    for name, index in checked.findings.by_image:
        if parts[name].labels_N[index] != UNLABELED:
            found[parts[name].label(index)] += 1
    names = sorted({label for counts in images for label in counts}, key=lambda label: (-found[label], label))
    return [{"name": label, "images": [counts[label] for counts in images], "found": found[label]} for label in names]


def _groups(checked: Checked) -> list[Group]:
    by_kind = list(checked.findings.by_kind())
    most = min(MOST_OF_A_KIND, MOST_PICTURES // max(len(by_kind), 1))
    return [_group(checked, kind, found, most) for kind, found in by_kind]


def _group(checked: Checked, kind: str, found: list[Finding], most: int) -> Group:
    mends = {finding.mend for finding in found}
    cards = list(_cards(checked, found, most))
    lines = found[len(cards) :][:MOST_LINES]
    mend = mends.pop() if len(mends) == 1 else ""
    row = KINDS[kind]
    return Group(kind, row.title, _LEVELS[row.level], checked.findings.counts[kind], mend, cards=cards, lines=lines)


def _cards(checked: Checked, found: list[Finding], most: int) -> Iterator[tuple[Finding, list[Shown]]]:
    """The first findings that have images."""
    pictures = 0
    for finding in found:
        pictures += len(finding.images)
        if not finding.images or pictures > most:
            return
        yield finding, [_shown(checked, image) for image in finding.images]


def _shown(checked: Checked, image: ImageAt) -> Shown:
    name, index = image
    part = next(part for part in checked.parts if part.name == name)
    file = part.source.file(index)
    try:
        content = part.source.read(index)
        image_HWC = part.decode(index, content, Decoding(min_size=(_LONGEST_SIDE, _LONGEST_SIDE)))
        small = picture(np.ascontiguousarray(image_HWC[:, :, ::-1]), _LONGEST_SIDE)
    except DataError:
        small = None
    label = part.label(index) if part.labels_N[index] != UNLABELED else "no label"
    return Shown(PurePath(file).name, part.full_location(index), label, part=name, picture=small)
