"""The images without faults, as a table for training."""

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from convolve.cache import cache_folder
from convolve.checking.check import Checked
from convolve.checking.finding import Findings, Level
from convolve.checking.part import Part
from convolve.data.sources.classes import look_alikes
from convolve.data.sources.files import Embedded, FileSource
from convolve.data.sources.source import UNLABELED
from convolve.errors import UsageError

_IN_TABLE = {"training": "train"}  # part -> its name in the column `split`; others keep their name


def clean_rows(checked: Checked, table: Path) -> Iterator[list[str]]:
    """The header and the rows of `table`: the path relative to its folder, the label, the part, and doubts.

    Images with a fault are left out; of copies, the first stays. Raises `UsageError` for images without files.
    """
    for part in filter(len, checked.parts):
        if not isinstance(part.source, FileSource) or isinstance(part.source.listing, Embedded):
            raise UsageError(
                f"--write-table: {part.source.location(0)} is not an image file, so a table cannot name it"
            )
        if Path(part.source.file(0)).is_relative_to(cache_folder("unpacked")):
            raise UsageError(
                "--write-table: a table cannot name images of a temporarily unpacked archive; unpack it permanently, "
                "and give that folder"
            )
    has_parts = len(checked.parts) > 1
    yield ["path", *_heads(checked.parts), *["split"] * has_parts, "look at"]
    folder = os.path.abspath(table.parent)  # noqa: PTH100  links stay as they are
    refused = _rarer_spellings(checked.parts) if checked.findings.counts["near names"] else set()
    for part in checked.parts:
        split = [_IN_TABLE.get(part.name, part.name)] * has_parts
        for index, doubts in _good(part, checked.findings):
            labels = part.labels(index)
            if refused & {*labels}:
                continue
            cells = [json.dumps(labels, ensure_ascii=False)] if part.target == "classes" else labels
            yield [_from(folder, part.source.file(index)), *cells, *split, ", ".join(doubts)]


def _heads(parts: Sequence[Part]) -> Sequence[str]:
    """The label columns."""
    numbers = [part.source.class_names or () for part in parts if part.target == "number"]
    return numbers[0] if numbers else ["labels" if any(part.target == "classes" for part in parts) else "label"]


def _good(part: Part, findings: Findings) -> Iterator[tuple[int, list[str]]]:
    """Each image without a fault, and the doubts about it."""
    for index in range(len(part)):
        (image,) = part.at(index)
        if part.labels_N[index] != UNLABELED and not findings.kinds_of(image, Level.FAULT):
            yield index, findings.kinds_of(image, Level.DOUBT)


def _rarer_spellings(parts: Sequence[Part]) -> set[str]:
    """Names that differ from that of a class with more images in capitals or blanks alone: training refuses both."""
    labeled = ((part, index) for part in parts for index in range(len(part)) if part.labels_N[index] != UNLABELED)
    counts = Counter(label for part, index in labeled for label in part.labels(index))
    return {*look_alikes(sorted(counts, key=lambda name: -counts[name]))}


def _from(folder: str, file: str) -> str:
    """`file` relative to `folder`; absolute if that is impossible, as on another drive."""
    try:
        return os.path.relpath(file, folder).replace(os.sep, "/")
    except ValueError:
        return os.path.abspath(file)  # noqa: PTH100
