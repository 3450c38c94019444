"""The last evaluation for targets other than one class: independent classes, or numbers."""

from typing import Any

import numpy as np

from convolve.pictures import picture
from convolve.records import TargetKind
from convolve.report.contents import Evaluation
from convolve.report.plot import MOST_POINTS, Axis, Plot, dots
from convolve.templates import count, number, percent
from convolve.training.metrics import NAMES, class_table, number_table, thresholds_of

Table = tuple[list[str], list[list[str]]]

_MOST_PLOTS = 4  # images whose numbers are drawn


def table(evaluation: Evaluation) -> Table:
    """The header of the table, and a row for each class or number."""
    labels_NK, answers_NK = evaluation.labels_N, evaluation.answers_NK
    if evaluation.target.kind == TargetKind.NUMBER:
        rows = number_table(labels_NK, answers_NK)
        body = [
            [name, *("–" if value is None else number(value) for value in row.values())]
            for name, row in zip(evaluation.class_names, rows, strict=True)
        ]
        return ["number", *(NAMES[key][0] for key in rows[0])], body
    classes = class_table(labels_NK, answers_NK, evaluation.target)
    parts = ("average_precision", "precision", "recall", "f1")
    body = [
        [name, count(row["samples"]), *(_part(row[part]) for part in parts), f"{row['threshold']:.3f}"]
        for name, row in zip(evaluation.class_names, classes, strict=True)
    ]
    return ["class", "images", "average precision", *parts[1:], "threshold"], body


def _part(value: float | None) -> str:
    return "–" if value is None else percent(value)


def scatters(evaluation: Evaluation) -> list[Plot]:
    """For each number, predictions over labels; on the diagonal, both are equal."""
    if evaluation.target.kind != TargetKind.NUMBER:
        return []
    columns = zip(evaluation.class_names, evaluation.labels_N.T, evaluation.answers_NK.T, strict=True)
    return [_scatter(name, label_N, said_N) for name, label_N, said_N in list(columns)[:_MOST_PLOTS]]


def _scatter(name: str, label_N: np.ndarray, said_N: np.ndarray) -> Plot:
    shown_M = np.flatnonzero(np.isfinite(said_N))[:: max(1, len(said_N) // MOST_POINTS)]
    both = np.concatenate([label_N, said_N[shown_M]]).astype(np.float64)
    low, high = float(both.min()), float(both.max())
    axis = Axis(low, high if high > low else low + 1, write=number)
    points = [f"{axis.from_left(label_N[n])} {axis.from_top(said_N[n])}" for n in shown_M]
    return Plot(
        title=f"{name}: answer by label",
        keys=[("published", "answer = label", ""), ("test", f"{count(len(shown_M))} images", "")],
        paths=[("published", "M0 100L100 0"), dots(points, "test")], x_axis=axis, y_axis=axis, shape="square",
        spoken=f"{name}: what the model says over the label, of {len(shown_M)} images, {low:g} to {high:g}",
    )  # fmt: skip


def misses(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The images kept as pictures, with label and prediction in words."""
    said = _numbers_of if evaluation.target.kind == TargetKind.NUMBER else _classes_of
    return [
        {
            "index": index,
            "said": said(evaluation, evaluation.answers_NK[index]),
            "truth": said(evaluation, evaluation.labels_N[index]),
            "picture": picture(image),
        }
        for index, image in evaluation.pictures.items()
    ]


def _numbers_of(evaluation: Evaluation, values_K: np.ndarray) -> str:
    return ", ".join(map(number, values_K.tolist()[:_MOST_PLOTS]))


def _classes_of(evaluation: Evaluation, values_K: np.ndarray) -> str:
    limits = thresholds_of(evaluation.target, evaluation.class_count)
    named = zip(evaluation.class_names, values_K.tolist(), limits, strict=True)
    return ", ".join(name for name, value, limit in named if value >= limit) or "none"
