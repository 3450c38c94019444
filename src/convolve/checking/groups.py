"""Groups, such as the pictures of one patient, that lie in several parts: every figure is then too good."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from convolve.checking.finding import Findings
from convolve.checking.part import Part
from convolve.data.relations import group_names
from convolve.data.sources.files import FileSource


def check_groups(parts: Sequence[Part], group: str, findings: Findings) -> None:
    """Name the groups that a table says, or else the regular expression `group` finds; see `group_names`."""
    counts: dict[str, Counter[str]] = {}  # group -> images in each part
    firsts: dict[tuple[str, str], tuple[Part, int]] = {}
    for part in parts:
        names = (group_names(part.source, group) if isinstance(part.source, FileSource) else None) or ()
        for index, name in enumerate(names):
            if name is not None:
                counts.setdefault(name, Counter())[part.name] += 1
                firsts.setdefault((name, part.name), (part, index))
    for name, in_part in counts.items():
        if len(in_part) < 2:
            continue
        first = [firsts[name, part] for part in in_part]
        several = (f"{n:,} {part} image{'s' if n > 1 else ''}" for part, n in in_part.items())
        images = tuple(image for part, index in first for image in part.at(index))
        mend = "put all images of a group in one part: what is known of it from training makes the figures too good"
        place = first[0][0].full_location(first[0][1])
        findings.add("torn group", place, f"group {name!r} has {' and '.join(several)}", mend, images, about=0)
