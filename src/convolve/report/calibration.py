"""Whether the model's confidence is justified: the reliability diagram and the expected calibration error."""

import numpy as np

from convolve.report.plot import Axis, Plot, dots
from convolve.templates import NARROW_SPACE, count, percent
from convolve.training.calibration import BINS, Reliability, reliability, wilson_interval


def _whole(value: float) -> str:
    return f"{value:.0f}{NARROW_SPACE}%"


__all__ = ["BINS", "bin_table", "diagram", "histogram", "reliability"]
PERCENT = Axis(0, 100, write=_whole)
TABLE_HEAD = ("confidence", "images", "mean confidence", "accuracy", "gap")


def diagram(found: Reliability) -> Plot:
    """Each bin as a dot at its mean confidence and accuracy, with its 95 % interval; on the diagonal they agree."""
    whiskers, points = [], []
    for b in np.flatnonzero(found.images_B):
        x = PERCENT.from_left(100 * found.confidence_B[b])
        low, high = wilson_interval(found.accuracy_B[b], int(found.images_B[b]))
        whiskers.append(f"M{x} {PERCENT.from_top(100 * low)}V{PERCENT.from_top(100 * high)}")
        points.append(f"{x} {PERCENT.from_top(100 * found.accuracy_B[b])}")
    gap = percent(found.expected_error)
    return Plot(
        title="Accuracy by confidence",
        keys=[
            ("published", "confidence = accuracy", ""),
            ("test", f"a bin, with its 95{NARROW_SPACE}% interval", ""),
        ],
        paths=[("published", "M0 100L100 0"), ("whisker", "".join(whiskers)), dots(points, "test")],
        x_axis=PERCENT,
        y_axis=PERCENT,
        spoken=f"Accuracy by confidence. {len(points)} bins, {gap} off the diagonal on average",
        shape="square",
    )


def histogram(found: Reliability) -> Plot:
    """The fraction of the images in each bin."""
    fraction_B = 100 * found.images_B / found.images_B.sum()
    width, fractions = 100 / BINS, Axis(0, 1.08 * float(fraction_B.max()), write=_whole)
    bars = [
        f"M{b * width + 0.6:.2f} 100V{fractions.from_top(fraction)}H{(b + 1) * width - 0.6:.2f}V100Z"
        for b, fraction in enumerate(fraction_B)
        if fraction
    ]
    spoken = f"Images by confidence. {_whole(fraction_B[-1])} of them above {_whole(100 - width)}"
    paths = [("bars", "".join(bars))]
    return Plot("Images by confidence", [], paths, x_axis=PERCENT, y_axis=fractions, spoken=spoken, shape="low")


def bin_table(found: Reliability) -> tuple[tuple[str, ...], list[list[str]]]:
    """The header of the table, and a row for each bin that holds images."""
    rows = []
    for b in np.flatnonzero(found.images_B):
        confidence, accuracy = found.confidence_B[b], found.accuracy_B[b]
        width = f"{100 * b / BINS:.0f}–{100 * (b + 1) / BINS:.0f}{NARROW_SPACE}%"
        gap = f"{100 * (confidence - accuracy):+.2f}"
        rows.append([width, count(int(found.images_B[b])), percent(confidence), percent(accuracy), gap])
    return TABLE_HEAD, rows
