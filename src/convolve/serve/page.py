"""The page as it is sent: facts of the model in a template, and the two style sheets, the report's and its own."""

from collections.abc import Sequence
from importlib import resources
from typing import Any

from convolve.model import Model
from convolve.templates import count, percent, render
from convolve.training.calibration import wilson_interval
from convolve.training.metrics import named_figures

DRAWN_SIDE = 64  # pixels: a person can draw what a gray model of up to this size was trained on


def page(model: Model, name: str, names: Sequence[str] = (), up: str = "", *, loading: str | None = None) -> str:
    """index.html for `model`, called `name`, of all `names`; `up` leads to the server's own first page.

    `loading`: the page asks no server, and says so much of what it loads first.
    """
    return render(
        "serve/page.html",
        name=name,
        names=names if len(names) > 1 else (),
        up=up,
        served=loading is None,
        loading=loading,
        doubt=f"{model.preprocess_warning[:1].upper()}{model.preprocess_warning[1:]}."
        if model.preprocess_warning
        else "",
        drawn="drawn" if _is_drawn(model) else "",
        places=0 if model.target.kind == "number" else min(5, len(model.class_names)),
        target=model.target.kind.value,
        facts=_facts(model),
        sees=str(model.preprocess),
    )


def files(asking_in: str = "convolve.serve") -> list[tuple[str, str, str]]:
    """(path, content, media type) of what the page loads; the package `asking_in` has the file that asks the model. The
    report's sheet has the colors and the typography."""
    style = text_of("convolve.report", "style.css") + text_of("convolve.serve", "page.css")
    script = text_of("convolve.serve", "page.js") + text_of(asking_in, "asking.js")
    return [("/page.css", style, "text/css"), ("/page.js", script, "text/javascript")]


def text_of(package: str, name: str) -> str:
    """A text file of the package."""
    return (resources.files(package) / name).read_text(encoding="utf-8")


def _is_drawn(model: Model) -> bool:
    preprocess = model.preprocess
    return preprocess.channels == 1 and max(preprocess.height, preprocess.width) <= DRAWN_SIDE


def _facts(model: Model) -> dict[str, Any]:
    preprocess, info = model.preprocess, model.training_info
    first = [] if info.test_error is not None else named_figures(vars(info), "test")[:1]  # of several classes, numbers
    return {
        "numbers" if model.target.kind == "number" else "classes": count(len(model.class_names)),
        "sees": f"{preprocess.width} × {preprocess.height}, {'gray' if preprocess.channels == 1 else 'color'}",
        "recipe": info.recipe,
        "test error": None if info.test_error is None else _error(info.test_error, info.test_images),
        **{f"test {name}": value for name, value in first},
        "imported from": info.imported_from,
    }


def _error(error: float, images: int | None) -> str:
    """With its 95 % interval where the number of test images is known."""
    if not images:
        return percent(error)
    low, high = wilson_interval(error, images)
    return f"{percent(error)} ({100 * low:.2f}–{percent(high)})"
