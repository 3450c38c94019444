"""HTML composed from escaped pieces, and numbers as people read them.

Only `tag` and `join` make `Html`, and `tag` escapes every child and attribute that is not `Html` yet:
what comes from data (class names, file names) cannot become markup.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape

Writer = Callable[[float], str]  # makes a value readable

NARROW_SPACE = "\u202f"  # no-break, between a number and its unit


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def tag(name: str, *children: str, **attributes: object) -> Html:
    """`tag("td", "a < b", class_="n")` -> `<td class="n">a &lt; b</td>`. `_` in an attribute's name stands for `-`."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"' for key, value in attributes.items()
    )
    inside = join(children)
    return Html(f"<{name}{written}>" if name == "img" else f"<{name}{written}>{inside}</{name}>")


def join(children: Iterable[str]) -> Html:
    return Html("".join(child if isinstance(child, Html) else escape(child) for child in children))


def percent(fraction: float, digits: int = 2) -> str:
    return f"{100 * fraction:.{digits}f}{NARROW_SPACE}%"


def count(value: float) -> str:
    return f"{value:,.0f}"


def number(value: float) -> str:
    """Four significant digits, thousands apart: 12,345, 0.0312, 5e-5."""
    return count(value) if abs(value) >= 1000 else f"{value:.4g}".replace("e-0", "e-")


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f}{NARROW_SPACE}s"
    minutes, rest_seconds = divmod(round(seconds), 60)
    hours, rest_minutes = divmod(minutes, 60)
    if not hours:
        return f"{minutes}{NARROW_SPACE}min {rest_seconds}{NARROW_SPACE}s"
    return f"{count(hours)}{NARROW_SPACE}h {rest_minutes}{NARROW_SPACE}min"
