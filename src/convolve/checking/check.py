"""Checks labeled images of any form and collects what is wrong with them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from convolve.checking.alike import Pair, alike
from convolve.checking.classes import check_classes
from convolve.checking.finding import Findings
from convolve.checking.labels import Judging, check_labels
from convolve.checking.looks import Progress, look_at
from convolve.checking.mean_layout import check_mean, mean_files
from convolve.checking.part import Part
from convolve.checking.quality import check_quality
from convolve.checking.unlisted import check_unlisted
from convolve.data.open import open_to_check
from convolve.data.options import AS_FOUND, DataOptions
from convolve.data.relations import across_parts
from convolve.data.sources.files import FileSource
from convolve.data.team import ALONE, Team
from convolve.environment import usable_cores
from convolve.errors import UsageError
from convolve.model import Model
from convolve.names import folded


@dataclass(frozen=True)
class Checked:
    """What was checked, and the findings."""

    parts: tuple[Part, ...]
    findings: Findings

    @property
    def passed_over(self) -> str:
        """Which other files lie among the images, in words."""
        passed = [part.source.passed_over for part in self.parts if isinstance(part.source, FileSource)]
        return "; ".join(filter(None, dict.fromkeys(passed)))

    @property
    def images(self) -> dict[str, int]:
        """How many images each part has."""
        return {part.name: len(part) for part in self.parts}


def check_data(
    source: Path,
    test: Path | None = None,
    mean: Path | None = None,
    threads: int = 0,
    progress: Progress = lambda name, done, count: None,
    *,
    options: DataOptions = AS_FOUND,
    model: Model | None = None,
    team: Team = ALONE,
) -> Checked:
    """Check the images at `source`, anything that `train` takes, and the test part at `test` or the set's own.

    `mean` is a mean file; others are found beside a list of images. `threads` 0: every core. With a `model`, a trained
    network, labels are judged by its features. All workers of a `team` get the same findings. Memory: what the
    lists take, about 180 bytes an image, and the features of a `model`; images in arrays, such as MNIST's, are in
    memory as for training. Raises `MissingDataError` if there is nothing to check, `FormatError` for a file that is
    neither a list nor a data set; any other fault becomes a finding.
    """
    findings = Findings()
    if model and options.target != "class":
        raise UsageError(f"--from judges labels of one class per image; leave it out with --target {options.target}")
    parts = _open(source, test, findings, options)
    _check_lists(parts, options, findings)
    threads = threads or usable_cores()
    known = {"--from": model.digest() if model else "", "--target": options.target}
    team.begin(lambda: known | {f"{part.name} images": part.source.digest().hex() for part in parts})
    looks = [look_at(part, findings, threads, progress, team) for part in parts]
    for part, look in zip(parts, looks, strict=True):
        check_quality(part, look, findings, threads, team)
    if parts:
        pairs = list(alike(parts[::-1], looks[::-1]))  # test first: in both parts: leave it out of training
        for pair in pairs:
            _add_pair(pair, parts[::-1], findings)
        if model:
            check_labels(parts[::-1], looks[::-1], pairs, Judging(model, threads, progress, team), findings)
        for path in [mean] if mean else mean_files(source if source.is_dir() else source.parent):
            check_mean(path, parts[0], findings)
    return Checked(tuple(parts), findings)


def _open(source: Path, test: Path | None, findings: Findings, options: DataOptions) -> list[Part]:
    """The parts at `source`; `test` replaces its test part. What cannot be read at all becomes a finding."""
    found = open_to_check(source.expanduser(), None, findings.add, options)
    parts = [Part(name, part, options.target) for name, part in found]
    if test:
        known = parts[0].source.class_names if parts else None
        tested = open_to_check(test.expanduser(), known, findings.add, options)
        others = [part for part in parts if part.name != "test"] or [replace(part, name="training") for part in parts]
        parts = [*others, *(Part("test", part, options.target) for _, part in tested[-1:])]
    return parts


def _check_lists(parts: Sequence[Part], options: DataOptions, findings: Findings) -> None:
    """Check what shows without decoding the images."""
    for part in parts if options.target == "class" else []:
        check_classes(part, parts[0], findings)
    check_unlisted(parts, findings)
    _check_groups(parts, findings)
    _check_file_names(parts, findings)


def _check_groups(parts: Sequence[Part], findings: Findings) -> None:
    """Groups that the user names, such as patients, with images in several parts."""
    listed = [part for part in parts if isinstance(part.source, FileSource)]
    sources = [part.source for part in listed if isinstance(part.source, FileSource)]
    for name, (first, one), (second, other) in across_parts(sources):
        part, other_part = listed[first], listed[second]
        what = f"group {name} is in the {other_part.name} part too: {other_part.full_location(other)}"
        images = (*part.at(one), *other_part.at(other))
        findings.add(
            "torn group", part.full_location(one), what, "put all of its images into one part", images, about=0
        )


def _check_file_names(parts: Sequence[Part], findings: Findings) -> None:
    """Files that are the same file on Windows and macOS. Memory: 8 bytes per image."""
    for part in parts:
        if not isinstance(part.source, FileSource):
            continue
        names_N = np.array([hash(folded(part.source.file(index))) for index in range(len(part))], np.int64)
        order_N = np.argsort(names_N, kind="stable")
        for at in np.flatnonzero(np.diff(names_N[order_N]) == 0).tolist():
            one, other = order_N[at : at + 2].tolist()
            name = part.source.file(one)
            if name != part.source.file(other):  # the same file under two labels is another kind of finding
                what = f"differs from {name} only in capitals or the Unicode form: "
                what += "on Windows or macOS, one of them would be lost"
                images = (*part.at(other), *part.at(one))
                findings.add("near file names", part.full_location(other), what, "rename one", images)


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
    what = f"{like} {other_part.full_location(other)}{labels}"
    about = 2 if kind == "two labels" else 1  # it is unknown which of them is right
    images = (*part.at(index), *other_part.at(other))
    findings.add(kind, part.full_location(index), what, mend, images, about=about)
