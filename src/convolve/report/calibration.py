"""Whether the model's confidence is what it says: the reliability diagram and the expected calibration error."""

from __future__ import annotations

import numpy as np

from convolve.report.contents import Evaluation
from convolve.report.markup import NARROW_SPACE, Html, count, percent, tag
from convolve.report.plot import Axis, across, dots, down, drawn
from convolve.training.calibration import BINS, Reliability, reliability, wilson_interval

PERCENT = Axis(0, 100)


def calibration(evaluation: Evaluation) -> Html:
    """The section; empty where nothing was evaluated."""
    if not len(evaluation.labels_N):
        return Html("")
    found = reliability(evaluation.labels_N, evaluation.probabilities_NK)
    return tag(
        "section",
        tag("h2", "Calibration"),
        tag("p", "Of the images on which the model was 80 % sure, is it right on 80 %?"),
        tag("div", _diagram(found), tag("div", _figure(found), _histogram(found)), class_="pair"),
        _table(found),
    )


def _figure(found: Reliability) -> Html:
    """The one number, what it says, and how it is defined."""
    gap = found.confidence - found.accuracy
    manner = "over-confident" if gap > 0 else "under-confident"
    sure, right = percent(found.confidence), percent(found.accuracy)
    definition = (
        "It is the distance between confidence and accuracy in each of "
        f"{BINS} bins of equal width, weighted by the images in it (Naeini, Cooper and Hauskrecht 2015; "
        "bins as in Guo, Pleiss, Sun and Weinberger 2017)."
    )
    return tag(
        "div",
        tag("strong", f"{100 * found.expected_error:.2f}", tag("small", "%")),
        tag("p", "expected calibration error"),
        tag("p", f"On average {sure} sure and {right} right: {manner} by {100 * abs(gap):.2f} points."),
        tag("p", definition, class_="note"),
        class_="calibration",
    )


def _diagram(found: Reliability) -> Html:
    """Each bin as a dot, at its mean confidence and its accuracy, on its 95 % interval; on the diagonal all is well."""
    whiskers, places = [], []
    for images, confidence, accuracy in _held(found):
        x = across(PERCENT, 100 * confidence)
        low, high = wilson_interval(accuracy, images)
        whiskers.append(f"M{x} {down(PERCENT, 100 * low)}V{down(PERCENT, 100 * high)}")
        places.append(f"{x} {down(PERCENT, 100 * accuracy)}")
    paths = [
        tag("path", class_="published", d="M0 100L100 0"),
        tag("path", class_="whisker", d="".join(whiskers)),
        dots(places, "held-out"),
    ]
    spoken = f"Accuracy by confidence. {len(places)} bins, {percent(found.expected_error)} off the diagonal on average"
    keys = [
        tag("span", tag("i"), "as sure as right", class_="key published"),
        tag("span", tag("i"), f"a bin, with its 95{NARROW_SPACE}% interval", class_="key held-out"),
    ]
    caption = tag("figcaption", tag("h3", "Accuracy by confidence"), *keys)
    return tag("figure", caption, drawn(paths, PERCENT, PERCENT, _whole, _whole, spoken), class_="plot square")


def _histogram(found: Reliability) -> Html:
    share_B = 100 * found.images_B / found.images_B.sum()
    width, shares = 100 / BINS, Axis(0, 1.08 * float(share_B.max()))
    bars = [
        f"M{b * width + 0.6:.2f} 100V{down(shares, share)}H{(b + 1) * width - 0.6:.2f}V100Z"
        for b, share in enumerate(share_B)
        if share
    ]
    spoken = f"Images by confidence. {_whole(share_B[-1])} of them above {_whole(100 - width)}"
    bars_path = tag("path", class_="bars", d="".join(bars))
    canvas = drawn([bars_path], PERCENT, shares, _whole, _whole, spoken)
    return tag("figure", tag("figcaption", tag("h3", "Images by confidence")), canvas, class_="plot low")


def _table(found: Reliability) -> Html:
    heads = ("confidence", "images", "mean confidence", "accuracy", "gap")
    rows = []
    for b in np.flatnonzero(found.images_B):
        images, confidence, accuracy = int(found.images_B[b]), found.confidence_B[b], found.accuracy_B[b]
        cells = (percent(confidence), percent(accuracy), f"{100 * (confidence - accuracy):+.2f}")
        width = f"{100 * b / BINS:.0f}–{100 * (b + 1) / BINS:.0f}{NARROW_SPACE}%"
        rows.append(tag("tr", tag("td", width), tag("td", count(images)), *(tag("td", cell) for cell in cells)))
    head = tag("thead", tag("tr", *(tag("th", text, scope="col") for text in heads)))
    table = tag("table", head, tag("tbody", *rows), class_="numbers")
    box = tag("div", table, class_="scroll", tabindex="0", role="region", aria_label="Every bin in numbers")
    return tag("details", tag("summary", "Every bin in numbers"), box)


def _held(found: Reliability) -> list[tuple[int, float, float]]:
    """(images, mean confidence, accuracy) of the bins that hold any."""
    bins = zip(found.images_B.tolist(), found.confidence_B.tolist(), found.accuracy_B.tolist(), strict=True)
    return [(images, confidence, accuracy) for images, confidence, accuracy in bins if images]


def _whole(value: float) -> str:
    return f"{value:.0f}{NARROW_SPACE}%"
