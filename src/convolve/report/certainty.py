"""The model's knowledge of its own confidence, and how well it holds on the test set."""

from typing import Any

import numpy as np

from convolve.report.contents import Evaluation
from convolve.report.plot import Axis, Plot
from convolve.templates import percent
from convolve.training.calibration import confidence_figures

_BINS = 30


def figures(evaluation: Evaluation) -> dict[str, Any] | None:
    """See `confidence_figures`; None if the model has not learned its confidence."""
    known, distances_N = evaluation.confidence, evaluation.distances_N
    if known is None or distances_N is None:
        return None
    return confidence_figures(known, evaluation.answers_NK, evaluation.labels_N, distances_N)


def distances(evaluation: Evaluation) -> Plot:
    """The distances of the test images from the training images, and the limit for "none of these"."""
    assert evaluation.distances_N is not None and evaluation.confidence  # the caller has checked this
    farthest = evaluation.confidence.farthest
    high = 1.05 * max(float(evaluation.distances_N.max()), farthest or 0.0, 1e-6)
    counts_B, _ = np.histogram(evaluation.distances_N, bins=_BINS, range=(0, high))
    parts_B = 100 * counts_B / len(evaluation.distances_N)
    of_images, width = Axis(0, 1.08 * float(parts_B.max()), write=lambda value: f"{value:.0f} %"), 100 / _BINS
    bars = [
        f"M{b * width + 0.3:.2f} 100V{of_images.from_top(part)}H{(b + 1) * width - 0.3:.2f}V100Z"
        for b, part in enumerate(parts_B)
        if part
    ]
    from_left = Axis(0, high, write=lambda value: f"{value:.1f}")
    line = [] if farthest is None else [("published", f"M{from_left.from_left(farthest)} 0V100")]
    keys = [] if farthest is None else [("published", "farther ones are none of these", f"{farthest:.2f}")]
    spoken = f"Test images by distance; {percent(float((evaluation.distances_N > (farthest or np.inf)).mean()))} beyond"
    return Plot(
        "Distance from the training images", keys, [("bars", "".join(bars)), *line], x_axis=from_left,
        y_axis=of_images, spoken=spoken, shape="low",
    )  # fmt: skip
