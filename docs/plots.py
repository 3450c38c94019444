"""Plots of the pages as SVG files that are the same wherever they are written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from convolve.report.plot import Axis

COLORS = ("#1f77b4", "#d95f02", "#2a9d5c", "#7570b3", "#c2255c", "#8a6d00", "#0b7285", "#666666")
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 720, 360, 64, 16, 200, 44  # pixels, of the whole and of its margins
GRAY = "#808080"  # reads on white and on black


@dataclass(frozen=True)
class Line:
    """(x, y) in ascending x; `dashed` for what somebody else computed."""

    name: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


@dataclass(frozen=True)
class Labels:
    x: str
    y: str
    write_y: Callable[[float], str]
    write_x: Callable[[float], str] = "{:g}".format
    logarithmic: bool = False


def svg(lines: Sequence[Line], labels: Labels) -> str:
    """One plot of all lines, their names beside it."""
    values = [[point[axis] for line in lines for point in line.points] for axis in (0, 1)]
    lows = [min(found) for found in values] if labels.logarithmic else [0.0, 0.0]
    x_axis, y_axis = (
        Axis(low, max(*found, low * 1.01 or 1e-9), labels.logarithmic) for low, found in zip(lows, values, strict=True)
    )

    def across(x: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * x_axis.position(x)

    def down(y: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - y_axis.position(y))

    parts = []
    for tick in y_axis.ticks():
        parts.append(f'<path d="M{LEFT} {down(tick):.1f}H{WIDTH - RIGHT}" stroke="{GRAY}" stroke-opacity=".3"/>')
        parts.append(_text(LEFT - 8, down(tick) + 4, labels.write_y(tick), "end"))
    for tick in x_axis.ticks(whole=True):
        parts.append(_text(across(tick), HEIGHT - BOTTOM + 18, labels.write_x(tick), "middle"))
    parts.append(_text(LEFT + (WIDTH - LEFT - RIGHT) / 2, HEIGHT - 6, labels.x, "middle"))
    parts.append(_text(LEFT, TOP - 4, labels.y, "start"))
    for number, line in enumerate(lines):
        color = COLORS[number % len(COLORS)]
        path = "L".join(f"{across(x):.1f} {down(y):.1f}" for x, y in line.points)
        dash = ' stroke-dasharray="5 4"' if line.dashed else ""
        parts.append(f'<path d="M{path}" fill="none" stroke="{color}" stroke-width="1.8"{dash}/>')
        parts.append(_text(WIDTH - RIGHT + 12, TOP + 14 + 18 * number, line.name, "start", color))
    style = 'font-family="system-ui,sans-serif" font-size="12"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {style}>'
    return "\n".join((head, *parts, "</svg>", ""))


def _text(x: float, y: float, text: str, anchor: str, color: str = GRAY) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}">{escape(text)}</text>'
