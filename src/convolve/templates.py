"""Jinja2 templates, with filters that format numbers and names for people.

HTML is always escaped: text from data (class names, file names) cannot become markup. In Markdown the filter `plain`
ensures this.
"""

import re
from collections.abc import Callable

from jinja2 import Environment, PackageLoader, StrictUndefined

Writer = Callable[[float], str]  # formats a value for people

NARROW_SPACE = "\u202f"  # non-breaking, between a number and its unit


def render(template: str, **values: object) -> str:
    """The template `template`, a path below the package, such as "report/page.html"."""
    environment = Environment(
        loader=PackageLoader("convolve", "."), autoescape=template.endswith(".html"), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    filters = (percent, hundredths, percent_text, count, number, duration, plain)
    environment.filters |= {write.__name__: write for write in filters}
    return environment.get_template(template).render(values)


def percent(fraction: float, digits: int = 2) -> str:
    return f"{100 * fraction:.{digits}f}{NARROW_SPACE}%"


def hundredths(fraction: float) -> str:
    """A percentage with two decimals, in characters that any terminal shows."""
    return f"{100 * fraction:.2f} %"


def percent_text(fraction: float) -> str:
    """A percentage with three significant digits."""
    return f"{100 * fraction:.3g}{NARROW_SPACE}%"


def count(value: float) -> str:
    return f"{value:,.0f}"


def number(value: float) -> str:
    """Four significant digits, with thousands separators: 12,345, 0.0312, 5e-5."""
    return count(value) if abs(value) >= 1000 else f"{value:.4g}".replace("e-0", "e-")


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f}{NARROW_SPACE}s"
    minutes, rest_seconds = divmod(round(seconds), 60)
    hours, rest_minutes = divmod(minutes, 60)
    if not hours:
        return f"{minutes}{NARROW_SPACE}min {rest_seconds}{NARROW_SPACE}s"
    return f"{count(hours)}{NARROW_SPACE}h {rest_minutes}{NARROW_SPACE}min"


def plain(text: object) -> str:
    """One line that Markdown shows unchanged."""
    return re.sub(r"([\\`*_{}\[\]<>|#~&$])", r"\\\1", " ".join(str(text).split()))
