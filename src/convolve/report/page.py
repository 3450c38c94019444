"""The page: sections in a template. `write_report` is the only way in."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from convolve.atomic import replacing
from convolve.recipe import Recipe, leaf_paths, steps_text, to_mapping
from convolve.report.contents import Contents, FloatArray, read_contents
from convolve.report.curves import learning
from convolve.report.header import header
from convolve.report.markup import Html, count, join, tag
from convolve.report.mistakes import gallery, mistakes
from convolve.report.pictures import filter_images, picture

MOST_FILTERS = 256


def write_report(run: Path) -> Path:
    """Write `run`/report.html, one file that needs nothing else, from what the run folder holds; returns its path.

    An unfinished run gives a page about what is there. Raises `UsageError` where `run` is no run folder,
    `DataError` or `ModelError` where a file of it is damaged, `ConvolveError` where the page cannot be written.
    """
    page = _page(read_contents(run))
    path = run / "report.html"
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _page(contents: Contents) -> str:
    sections = [header(contents), learning(contents)]
    if contents.evaluation is not None:
        sections += [mistakes(contents.evaluation), gallery(contents.evaluation)]
    if contents.filters_OIHW is not None:
        sections.append(_filters(contents.filters_OIHW))
    sections += [_recipe(contents.recipe), _environment(contents)]
    package = resources.files("convolve.report")
    template = Template((package / "page.html").read_text(encoding="utf-8"))
    style = (package / "style.css").read_text(encoding="utf-8")
    title = join([f"{contents.recipe.name} · convolve"])
    return template.substitute(title=title, style=style, body="\n".join(filter(None, sections)))


def _filters(filters_OIHW: FloatArray) -> Html:
    filters, channels, height, width = filters_OIHW.shape
    images_OHWC = filter_images(filters_OIHW[:MOST_FILTERS])
    pictures = [picture(image_HWC, f"Filter {i}") for i, image_HWC in enumerate(images_OHWC, start=1)]
    size = f"{count(filters)} filters of {height} × {width}{' × 3 colours' if channels == 3 else ''}"
    scale = "Mid-grey is zero; the largest weight is black or white."
    shown = f" The first {MOST_FILTERS} are shown." if filters > MOST_FILTERS else ""
    return tag(
        "section",
        tag("h2", "First-layer filters"),
        tag("p", f"{size}. {scale}{shown}"),
        tag("div", *pictures, class_="filters"),
    )


def _recipe(recipe: Recipe) -> Html:
    """The resolved recipe under the dotted paths that `--set` takes, one list for each part."""
    parts: dict[str, list[Html]] = {}
    for path, value in leaf_paths(recipe).items():
        part, _, name = path.rpartition(".")
        parts.setdefault(part or "recipe", []).append(_entry(name, _value_text(value)))
    lists = [tag("div", tag("h3", part), tag("dl", *entries)) for part, entries in parts.items()]
    return tag("details", tag("summary", tag("h2", "Recipe")), tag("div", *lists, class_="recipe"))


def _environment(contents: Contents) -> Html:
    entries = [
        _entry(name.replace("_", " "), _value_text(value))
        for name, value in contents.start.items()
        if name != "recipe" and value is not None
    ]
    entries = [_entry("run folder", contents.folder), *entries]
    return tag("details", tag("summary", tag("h2", "Environment")), tag("dl", *entries, class_="environment"))


def _entry(name: str, value: str) -> Html:
    return tag("div", tag("dt", name), tag("dd", value))


def _value_text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items() if item is not None)
    if isinstance(value, tuple) and all(isinstance(item, float) for item in value):
        return steps_text(value) or "none"
    if isinstance(value, tuple):  # transforms
        return "; ".join(_transform_text(to_mapping(item)) for item in value)
    return "none" if value in (None, "") else str(value)


def _transform_text(mapping: dict[str, Any]) -> str:
    return f"{mapping.pop('kind')} ({_value_text(mapping)})"
