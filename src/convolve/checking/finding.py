"""What a check of data finds: where, what, and what to do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

MOST_KEPT = 1000  # findings of one kind; the rest is counted: a list of a million missing images fits in memory

# kind -> what a person calls it; in the order in which they are shown
KINDS = {
    "unreadable": "files that cannot be read",
    "bad line": "lines that cannot be read",
    "blanks for tabs": "blanks where tabs belong",
    "missing image": "labels without an image",
    "damaged image": "images that are damaged or cut off",
    "passed over": "files that are no images that can be read",
    "unlabeled": "images without a label",
    "left out": "folders that are in no part",
    "gap": "classes without images",
    "near names": "classes whose names are nearly the same",
    "leak": "training images that are in the test part too",
    "two labels": "the same image under two labels",
    "duplicate": "images that are there twice",
    "mean layout": "mean images in another layout than CNTK reads",
}


@dataclass(frozen=True)
class Finding:
    """`place` names file and line, or the image; `mend` says what to do."""

    kind: str
    place: str
    what: str
    mend: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}; {self.mend}"


@dataclass
class Findings:
    """Everything found so far: `counts` is complete, `kept` has at most `MOST_KEPT` of each kind."""

    kept: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, place: str, what: str, mend: str) -> None:
        assert kind in KINDS
        self.counts[kind] += 1
        if self.counts[kind] <= MOST_KEPT:
            self.kept.append(Finding(kind, place, what, mend))

    def by_kind(self) -> Iterator[tuple[str, list[Finding]]]:
        """Kinds that were found, in the order of `KINDS`, with what was kept of each."""
        for kind in KINDS:
            if self.counts[kind]:
                yield kind, [finding for finding in self.kept if finding.kind == kind]
