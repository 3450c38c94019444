"""The page: sections in a template. `write_report` is the only way in."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from string import Template

from convolve.atomic import replacing
from convolve.report.calibration import calibration
from convolve.report.contents import Contents, FloatArray, read_contents
from convolve.report.curves import learning
from convolve.report.gallery import pairs, surest
from convolve.report.header import header
from convolve.report.markup import Html, count, join, tag
from convolve.report.mistakes import mistakes
from convolve.report.pictures import filter_images, picture
from convolve.report.settings import environment, recipe_section
from convolve.report.speed import speed

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
        found = contents.evaluation
        sections += [mistakes(found), pairs(found), surest(found), calibration(found)]
    if contents.filters_OIHW is not None:
        sections.append(_filters(contents.filters_OIHW))
    sections += [speed(contents), recipe_section(contents.recipe), environment(contents)]
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
