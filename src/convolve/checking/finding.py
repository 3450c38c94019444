"""A finding of a check: where, what, and what to do about it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

MOST_KEPT = 1000  # findings of one kind; the rest is counted: a list of a million missing images fits in memory

ImageAt = tuple[str, int]  # name of the part, index within it


class Level(Enum):
    """How serious a finding is."""

    FAULT = "fault"  # wrong: a clean table leaves the image out
    DOUBT = "doubt"  # to be looked at: the image stays in a clean table
    NOTE = "note"  # good to know; nothing to mend


@dataclass(frozen=True)
class Kind:
    """`title`: the heading of these findings."""

    title: str
    level: Level = Level.FAULT


# In the order of display.
KINDS = {
    "unreadable": Kind("files that cannot be read"),
    "bad line": Kind("lines that cannot be read"),
    "blanks for tabs": Kind("blanks instead of tabs"),
    "missing image": Kind("labels without an image"),
    "damaged image": Kind("images that are damaged or cut off"),
    "passed over": Kind("files that are not readable images"),
    "unlabeled": Kind("images without a label"),
    "gap": Kind("classes without images"),
    "near names": Kind("classes with nearly the same name"),
    "leak": Kind("images that are in two parts"),
    "two labels": Kind("the same image under two labels"),
    "duplicate": Kind("duplicate images"),
    "mean layout": Kind("mean images in another layout than CNTK reads"),
    "left out": Kind("images that are in no part", Level.DOUBT),
    "near file names": Kind("files whose names differ only in capitals or the Unicode form", Level.DOUBT),
    "torn group": Kind("groups that lie in several parts", Level.DOUBT),
    "few images": Kind("classes with few images", Level.DOUBT),
    "wrong label": Kind("labels that are probably wrong", Level.DOUBT),
    "stranger": Kind("images that belong to no class", Level.DOUBT),
    "few bits": Kind("16-bit images that use an eighth of the range or less", Level.DOUBT),
    "transparent": Kind("images with transparent parts", Level.DOUBT),
    "dark": Kind("dark images", Level.DOUBT),
    "bright": Kind("overexposed images", Level.DOUBT),
    "empty": Kind("nearly empty images", Level.DOUBT),
    "blurred": Kind("blurred images", Level.DOUBT),
    "odd shape": Kind("images with unusual proportions", Level.DOUBT),
    "odd size": Kind("images of an unusual size", Level.DOUBT),
    "turned": Kind("images with an EXIF orientation", Level.NOTE),
    "layout": Kind("folders that were opened automatically", Level.NOTE),
}


@dataclass(frozen=True)
class Finding:
    """`place` is the file and line, or the image; `mend` says what to do; `images` are shown, the one to fix first."""

    kind: str
    place: str
    what: str
    mend: str
    images: tuple[ImageAt, ...] = ()

    def __str__(self) -> str:
        return f"{self.place}: {self.what}; {self.mend}"


@dataclass
class Findings:
    """Everything found so far: `counts` is complete, `kept` has at most `MOST_KEPT` of each kind.

    `by_image` is also complete: the kinds of findings for each image that has any.
    """

    kept: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    by_image: dict[ImageAt, set[str]] = field(default_factory=dict)

    def add(
        self, kind: str, place: str, what: str, mend: str, images: tuple[ImageAt, ...] = (), about: int = 1
    ) -> None:
        """Add a finding. `about`: how many of `images` it is about; the others are shown for comparison."""
        assert kind in KINDS
        self.counts[kind] += 1
        for image in images[:about]:
            self.by_image.setdefault(image, set()).add(kind)
        if self.counts[kind] <= MOST_KEPT:
            self.kept.append(Finding(kind, place, what, mend, images))

    @property
    def total(self) -> int:
        """The number of findings to look at or to fix."""
        return sum(number for kind, number in self.counts.items() if KINDS[kind].level is not Level.NOTE)

    def by_kind(self) -> Iterator[tuple[str, list[Finding]]]:
        """The kinds that were found, in the order of `KINDS`, with the kept findings."""
        for kind in KINDS:
            if self.counts[kind]:
                yield kind, [finding for finding in self.kept if finding.kind == kind]

    def kinds_of(self, image: ImageAt, level: Level) -> list[str]:
        """The findings about `image` of this level."""
        found = self.by_image.get(image, ())
        return [kind for kind, row in KINDS.items() if kind in found and row.level is level]
