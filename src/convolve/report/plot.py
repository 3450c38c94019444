"""Plots as inline SVG under HTML labels: the lines stretch with the page, the text keeps its size.

The drawing is computed here and written by the macro `plot` of page.html. Colors and line styles are CSS classes
(style.css), so dark mode needs no second drawing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from convolve.templates import Writer, count

MOST_POINTS = 600  # more cannot be told apart on a screen, and would only make the page larger
FEW_POINTS = 12  # up to here every point gets a dot


@dataclass(frozen=True)
class Curve:
    """`points` are (x, y) in ascending x; `style` is a CSS class: "train", "test", "published" or "ahead"."""

    name: str
    style: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Axis:
    low: float
    high: float
    logarithmic: bool = False
    write: Writer = count

    def position(self, value: float) -> float:
        """The position of `value`: 0 at `low`, 1 at `high`; values outside are moved to the nearest end."""
        value = min(max(value, self.low), self.high)
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def from_left(self, value: float) -> str:
        """The position of `value` from left to right, 0 to 100."""
        return f"{100 * self.position(value):.2f}"

    def from_top(self, value: float) -> str:
        """The position of `value` from top to bottom, 0 to 100."""
        return f"{100 - 100 * self.position(value):.2f}"

    def ticks(self, whole: bool = False) -> list[float]:
        """About four round numbers between `low` and `high`; integers if `whole`, unless these would be too close."""
        return self._log_ticks() if self.logarithmic else self._linear_ticks(whole)

    def _linear_ticks(self, whole: bool) -> list[float]:
        rough = (self.high - self.low) / 4
        power = 10.0 ** math.floor(math.log10(rough))
        steps = [m * power for m in (1, 2, 2.5, 5, 10)]
        step = next(step for step in steps if step >= rough and (step % 1 == 0 or not whole or rough < 0.1))
        first, last = math.ceil(self.low / step), math.floor(self.high / step + 1e-9)
        return [i * step for i in range(first, last + 1)]

    def _log_ticks(self) -> list[float]:
        decades = math.log10(self.high / self.low)
        mantissas = (1, 2, 5) if decades <= 2 else (1, 3) if decades <= 3 else (1,)
        every = math.ceil(decades / 5)
        exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        values = [m * 10.0**e for e in exponents if e % every == 0 for m in mantissas]
        return [value for value in values if self.low <= value <= self.high]


@dataclass(frozen=True)
class Plot:
    """A figure. Paths are in a square of 100 by 100; `spoken` describes the drawing in words."""

    title: str
    keys: list[tuple[str, str, str]]  # CSS class, name, last value
    paths: list[tuple[str, str]]  # CSS class, SVG path
    x_axis: Axis
    y_axis: Axis
    spoken: str
    shape: str = ""  # CSS class: "square" or "low"

    @property
    def grid(self) -> str:
        return "".join(f"M0 {self.y_axis.from_top(value)}H100" for value in self.y_axis.ticks())


def plot(
    title: str, curves: Sequence[Curve], last_epoch: float, write: Writer, log: bool = False, rates: Axis | None = None
) -> Plot | None:
    """`curves` over epochs 0..`last_epoch`, with values formatted by `write`; None if there is nothing to draw.

    With `rates` they are over learning rates, and fill the height, so that a shallow valley shows. `log` allows a
    logarithmic axis, used if the values span more than a factor of ten. Points that are not finite are left out; zeros
    are drawn at the lower edge of a logarithmic axis.
    """
    curves = [Curve(c.name, c.style, _drawable(c.points)) for c in curves]
    curves = [curve for curve in curves if curve.points]
    if not curves:
        return None
    x_axis, y_axis = rates or Axis(0, max(last_epoch, 1)), _value_axis(curves, write, log, from_zero=not rates)
    keys = [(c.style, c.name, write(c.points[-1][1])) for c in curves]
    spoken = "; ".join(f"{c.name}: {write(c.points[0][1])} to {write(c.points[-1][1])}" for c in curves)
    paths = [path for curve in curves for path in _paths(curve, x_axis, y_axis)]
    spoken = f"{title} by {'learning rate' if rates else 'epoch'}. {spoken}"
    return Plot(title, keys, paths, x_axis=x_axis, y_axis=y_axis, spoken=spoken)


def _drawable(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    finite = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    stride = math.ceil(len(finite) / MOST_POINTS) or 1
    return finite[:-1:stride] + finite[-1:]


def _value_axis(curves: Sequence[Curve], write: Writer, log: bool, *, from_zero: bool) -> Axis:
    values = [y for curve in curves for _, y in curve.points]
    high, positive = max(values), [value for value in values if value > 0]
    if log and positive and high > 10 * min(positive):
        return Axis(min(positive) / 1.15, high * 1.15, logarithmic=True, write=write)
    margin = 0.08 * (high - min(values))
    if margin and not from_zero:
        return Axis(min(values) - margin, high + margin, write=write)
    return Axis(0, 1.08 * high if high > 0 else 1, write=write)


def _paths(curve: Curve, x_axis: Axis, y_axis: Axis) -> list[tuple[str, str]]:
    points = [f"{x_axis.from_left(x)} {y_axis.from_top(y)}" for x, y in curve.points]
    paths = [(curve.style, "M" + "L".join(points))]
    if len(points) <= FEW_POINTS and curve.style not in ("published", "ahead"):
        paths.append(dots(points, curve.style))
    return paths


def dots(points: Sequence[str], style: str) -> tuple[str, str]:
    """A dot at each of `points`, "x y" in the drawing: a line of length zero with round ends."""
    return f"{style} dots", "".join(f"M{point}h0" for point in points)
