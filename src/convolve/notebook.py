"""How values are displayed in a notebook: small tables and pictures. Text from data is escaped."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convolve.pictures import Picture, picture
from convolve.templates import count, number, percent

MOST = 20  # rows, pictures or names; a notebook cell is for an overview
_SVG = '<svg viewBox="0 0 100 40" width="300" role="img" aria-label="{said}" style="background: none">{lines}</svg>'
_COLORS = ("#8a8f98", "#0a6c93")  # gray and blue, on light and dark pages


def table(rows: Iterable[tuple[object, object]], title: str = "") -> str:
    """Two columns; a value that is already HTML is a `Markup`."""
    cells = "".join(
        f"<tr><th style='text-align: left'>{_cell(name)}</th><td>{_cell(value)}</td></tr>" for name, value in rows
    )
    caption = f"<caption>{escape(title)}</caption>" if title else ""
    return f"<table>{caption}{cells}</table>"


class Markup(str):
    """Text that is already HTML."""


def _cell(value: object) -> str:
    return value if isinstance(value, Markup) else escape(str(value))


def image(image_HWC: NDArray[np.uint8], said: str, side: int = 160) -> Markup:
    """A picture of at most `side` pixels; small ones are enlarged, with their pixels as squares."""
    shown: Picture = picture(image_HWC, side)
    larger = max(1, side // 2 // max(shown.width, shown.height))
    style = f"image-rendering: {'pixelated' if shown.kind == 'pixels' else 'auto'}; margin: 0"
    size = f'width="{larger * shown.width}" height="{larger * shown.height}"'
    return Markup(f'<img src="{shown.uri}" alt="{escape(said)}" title="{escape(said)}" {size} style="{style}">')


def probabilities(classes: Sequence[tuple[str, float]]) -> Iterable[tuple[str, Markup]]:
    """A row with a bar for each class."""
    for name, p in classes[:MOST]:
        yield name, Markup(f'<meter min="0" max="1" value="{p:.4f}"></meter> {percent(p, 1)}')


def curves(title: str, lines: Mapping[str, Sequence[float | None]]) -> Markup:
    """Line plots over the epochs, from 0 to the largest value."""
    known = {name: [v for v in values if v is not None] for name, values in lines.items()}
    known = {name: values for name, values in known.items() if len(values) > 1}
    if not known:
        return Markup()
    top = max(max(values) for values in known.values()) or 1.0
    drawn, names = "", []
    for (name, values), color in zip(known.items(), _COLORS, strict=False):
        points = " ".join(f"{100 * i / (len(values) - 1):.1f},{38 - 36 * v / top:.1f}" for i, v in enumerate(values))
        drawn += f'<polyline points="{points}" fill="none" stroke="{color}" vector-effect="non-scaling-stroke"/>'
        names.append(f'<span style="color: {color}">{escape(name)} {number(values[-1])}</span>')
    return Markup(f"<div>{escape(title)}: {', '.join(names)}</div>{_SVG.format(said=escape(title), lines=drawn)}")


def figures(values: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Field names as words and their values formatted for people; empty ones are omitted."""
    for name, value in values.items():
        if not isinstance(value, int | float | str) or value == "":
            continue
        is_part = "error" in name.split("_") or name.endswith(("precision", "recall", "f1", "accuracy", "fraction"))
        if isinstance(value, float):
            yield name.replace("_", " "), percent(value) if is_part and 0 <= value <= 1 else number(value)
        elif isinstance(value, int) and not isinstance(value, bool) and name != "seed":
            yield name.replace("_", " "), count(value)
        else:
            yield name.replace("_", " "), str(value)


def is_notebook() -> bool:
    """Whether this process runs a notebook's cells."""
    ipython = sys.modules.get("IPython")
    shell = ipython and ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")


class TrainingCell:
    """A callback for the events of a run (see `training/events.py`): one line per epoch and a bar below the cell."""

    def __init__(self) -> None:
        self.said, self.rows, self.images, self.before, self.bar = list[str](), list[str](), 1, 0, ""
        self.cell: Any = None

    def __call__(self, event: str, values: dict[str, Any]) -> None:
        if event == "start":
            self.images, self.before = values["train_samples"], values["samples_seen"]
            self.said.append(f"{values['recipe']}: {count(self.images)} images from {values['data']}")
        elif event in ("note", "warning", "plan"):
            self.said.append(values["message"])
        elif event == "epoch":
            self.rows.append(", ".join(f"{name} {value}" for name, value in figures(_of_epoch(values))))
            self.before, self.bar = values["samples_seen"], ""
        elif event == "progress":
            part = (values["samples_seen"] - self.before) / self.images
            said = f"epoch {values['epoch']}, loss {values['loss']:.4f}, {values['images_per_second']:,.0f} images/s"
            self.bar = f'<progress value="{part:.3f}"></progress> {said}'
        else:
            return
        self.show()

    def show(self) -> None:
        from IPython.display import HTML, display

        lines = [*map(escape, self.said[-MOST:]), *map(escape, self.rows[-MOST:]), self.bar]
        html = HTML("<br>".join(line for line in lines if line))
        if self.cell is None:
            self.cell = display(html, display_id=True)
        else:
            self.cell.update(html)


def _of_epoch(values: dict[str, Any]) -> dict[str, Any]:
    names = ("epoch", "train_loss", "train_error", "test_error", "validation_error", "images_per_second")
    return {name: values[name] for name in names if values.get(name) is not None}
