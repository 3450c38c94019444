"""Axes of the report's plots."""

from __future__ import annotations

import math

import pytest

from convolve.report.plot import MOST_POINTS, Axis, Curve, plot


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (Axis(0, 8640), [0, 2500, 5000, 7500]),
        (Axis(0, 0.207), [0, 0.1, 0.2]),
        (Axis(0.002, 0.11, logarithmic=True), [0.002, 0.005, 0.01, 0.02, 0.05, 0.1]),
        (Axis(0.004, 0.9, logarithmic=True), [0.01, 0.03, 0.1, 0.3]),
        (Axis(1e-6, 1.2, logarithmic=True), [1e-6, 1e-4, 1e-2, 1]),
    ],
)
def test_ticks_are_round(axis: Axis, ticks: list[float]) -> None:
    assert axis.ticks() == pytest.approx(ticks)


@pytest.mark.parametrize("last", [1, 2, 3, 5, 9, 10, 40, 112, 1000])
def test_epoch_ticks_are_few_whole_numbers(last: int) -> None:
    ticks = Axis(0, last).ticks(whole=True)
    assert ticks[0] == 0 and all(tick == int(tick) <= last for tick in ticks)
    assert 2 <= len(ticks) <= 6


def test_position_on_a_logarithmic_axis() -> None:
    axis = Axis(0.001, 1, logarithmic=True)
    assert [axis.position(v) for v in (0.001, 0.01, 0.1, 1)] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert axis.position(0) == 0  # a training error of nothing lies on the edge


def test_long_curves_are_thinned_and_keep_their_end() -> None:
    points = [(i / 100, 1.0 + i) for i in range(10_000)]
    drawing = plot("Loss", [Curve("train", "train", points)], 100, str)
    assert drawing
    path = dict(drawing.paths)["train"]

    assert path.count("L") <= MOST_POINTS
    assert "L99.99 " in path


def test_nothing_to_draw_gives_no_figure() -> None:
    assert plot("Loss", [Curve("train", "train", [(1, math.nan)])], 1, str) is None


def test_constant_zero_has_an_axis() -> None:
    drawing = plot("Waiting", [Curve("last", "test", [(0, 0.0), (1, 0.0)])], 1, str)
    assert drawing and drawing.paths[0] == ("test", "M0.00 100.00L100.00 100.00")


def test_over_learning_rates_a_shallow_valley_fills_the_height() -> None:
    curve = Curve("loss", "train", [(0.1, 2.31), (1.0, 2.28), (10.0, 2.30)])
    drawing = plot("Loss", [curve], 0, str, log=True, rates=Axis(0.1, 10, logarithmic=True))
    assert drawing
    assert drawing.y_axis.position(2.31) - drawing.y_axis.position(2.28) > 0.8
