"""Plots as inline SVG under HTML labels: the lines stretch with the page, the text keeps its size.

Colours and line styles are CSS classes (style.css), so dark mode needs no second drawing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from convolve.report.markup import Html, Writer, count, tag

MOST_POINTS = 600  # more cannot be told apart on a screen, and would only make the page larger
FEW_POINTS = 12  # up to here every point gets a dot


@dataclass(frozen=True)
class Curve:
    """`points` are (x, y) in ascending x; `style` is a CSS class: "train", "held-out", "published" or "ahead"."""

    name: str
    style: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Axis:
    low: float
    high: float
    logarithmic: bool = False

    def position(self, value: float) -> float:
        """Where `value` lies: 0 at `low`, 1 at `high`; values outside are moved to the nearest end."""
        value = min(max(value, self.low), self.high)
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, whole: bool = False) -> list[float]:
        """About four round numbers between `low` and `high`; integers if `whole`."""
        return self._log_ticks() if self.logarithmic else self._linear_ticks(whole)

    def _linear_ticks(self, whole: bool) -> list[float]:
        rough = (self.high - self.low) / 4
        power = 10.0 ** math.floor(math.log10(rough))
        steps = [m * power for m in (1, 2, 2.5, 5, 10)]
        step = next(step for step in steps if step >= rough and (step % 1 == 0 or not whole))
        first, last = math.ceil(self.low / step), math.floor(self.high / step + 1e-9)
        return [i * step for i in range(first, last + 1)]

    def _log_ticks(self) -> list[float]:
        decades = math.log10(self.high / self.low)
        mantissas = (1, 2, 5) if decades <= 2 else (1, 3) if decades <= 3 else (1,)
        every = math.ceil(decades / 5)
        exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        values = [m * 10.0**e for e in exponents if e % every == 0 for m in mantissas]
        return [value for value in values if self.low <= value <= self.high]


def plot(title: str, curves: Sequence[Curve], last_epoch: float, write: Writer, log: bool = False) -> Html:
    """A figure of `curves` over epochs 0..`last_epoch`, the values written by `write`.

    `log` allows a logarithmic axis, taken where the values span more than a factor of ten. Points that are
    not finite are left out; zeros lie on the lower edge of a logarithmic axis.
    """
    curves = [Curve(c.name, c.style, _drawable(c.points)) for c in curves]
    curves = [curve for curve in curves if curve.points]
    if not curves:
        return Html("")
    x_axis, y_axis = Axis(0, max(last_epoch, 1)), _value_axis(curves, log)
    keys = [_key(curve, write) for curve in curves]
    spoken = "; ".join(f"{c.name}: {write(c.points[0][1])} to {write(c.points[-1][1])}" for c in curves)
    paths = [path for curve in curves for path in _paths(curve, x_axis, y_axis)]
    canvas = drawn(paths, x_axis, y_axis, count, write, f"{title} by epoch. {spoken}")
    return tag("figure", tag("figcaption", tag("h3", title), *keys), canvas, class_="plot")


def drawn(paths: Sequence[Html], x_axis: Axis, y_axis: Axis, write_x: Writer, write_y: Writer, spoken: str) -> Html:
    """`paths` over a grid, with the axes labelled; `spoken` says in words what is drawn."""
    grid = tag("path", class_="grid", d="".join(f"M0 {down(y_axis, value)}H100" for value in y_axis.ticks()))
    box = {"viewBox": "0 0 100 100", "preserveAspectRatio": "none", "role": "img", "aria_label": spoken}
    drawing = tag("svg", grid, *paths, **box)
    return tag("div", drawing, *_labels(x_axis, y_axis, write_x, write_y), class_="canvas")


def _drawable(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    finite = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    stride = math.ceil(len(finite) / MOST_POINTS) or 1
    return finite[:-1:stride] + finite[-1:]


def _value_axis(curves: Sequence[Curve], log: bool) -> Axis:
    values = [y for curve in curves for _, y in curve.points]
    high, positive = max(values), [value for value in values if value > 0]
    if log and positive and high > 10 * min(positive):
        return Axis(min(positive) / 1.15, high * 1.15, logarithmic=True)
    return Axis(0, 1.08 * high if high > 0 else 1)


def _key(curve: Curve, write: Writer) -> Html:
    return tag("span", tag("i"), f"{curve.name} ", tag("b", write(curve.points[-1][1])), class_=f"key {curve.style}")


def _paths(curve: Curve, x_axis: Axis, y_axis: Axis) -> list[Html]:
    places = [f"{across(x_axis, x)} {down(y_axis, y)}" for x, y in curve.points]
    paths = [tag("path", class_=curve.style, d="M" + "L".join(places))]
    if len(places) <= FEW_POINTS and curve.style not in ("published", "ahead"):
        paths.append(dots(places, curve.style))
    return paths


def dots(places: Sequence[str], style: str) -> Html:
    """A dot at each of `places`, "x y" in the drawing: a line of no length, with round ends."""
    return tag("path", class_=f"{style} dots", d="".join(f"M{place}h0" for place in places))


def _labels(x_axis: Axis, y_axis: Axis, write_x: Writer, write_y: Writer) -> list[Html]:
    labels = []
    for value in y_axis.ticks():
        labels.append(tag("span", write_y(value), class_="y", style=f"top:{down(y_axis, value)}%", aria_hidden="true"))
    for value in x_axis.ticks(whole=True):
        left = f"left:{across(x_axis, value)}%"
        labels.append(tag("span", write_x(value), class_="x", style=left, aria_hidden="true"))
    return labels


def across(axis: Axis, value: float) -> str:
    """Where `value` lies from left to right, 0 to 100."""
    return f"{100 * axis.position(value):.2f}"


def down(axis: Axis, value: float) -> str:
    """Where `value` lies from top to bottom, 0 to 100."""
    return f"{100 - 100 * axis.position(value):.2f}"
