"""The page: what each section shows, for the template page.html. `write_report` is the only way in."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

from convolve.atomic import locked, replacing
from convolve.errors import UsageError
from convolve.report import calibration, curves, error_analysis, header, settings, speed
from convolve.report.contents import Contents, Evaluation, FloatArray, read_contents
from convolve.report.pictures import filter_images, picture
from convolve.report.templates import render
from convolve.training.calibration import BINS, reliability
from convolve.training.error_analysis import PAIRS
from convolve.training.run_folder import RunFolder

MOST_FILTERS = 256
PAIRS_IN_SIGHT = 9  # the others are behind a click


def write_report(run: Path) -> Path:
    """Write `run`/report.html, one file that needs nothing else, from what the run folder holds; returns its path.

    An unfinished run gives a page about what is there. Raises `UsageError` where `run` is no run folder,
    `DataError` or `ModelError` where a file of it is damaged, `ConvolveError` where the page cannot be written.
    """
    page = _page(read_contents(run))
    path = run / "report.html"
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    with suppress(UsageError), locked(run, wait=False):  # a process that is at work there says itself how far it is
        RunFolder(run).reported()
    return path


def _page(contents: Contents) -> str:
    return render(
        "report/page.html",
        style=(resources.files("convolve.report") / "style.css").read_text(encoding="utf-8"),
        run=contents,
        started=datetime.fromisoformat(contents.started_at) if contents.started_at else None,
        errors=header.errors(contents),
        facts=header.facts(contents),
        **(_curves(contents) if contents.epochs or contents.progress else {}),
        **(_evaluation(contents.evaluation) if contents.evaluation else {}),
        **(_filters(contents.filters_OIHW) if contents.filters_OIHW is not None else {}),
        settings={
            "Recipe": settings.recipe_parts(contents.recipe),
            "Environment": settings.environment_parts(contents),
        },
    )


def _curves(contents: Contents) -> dict[str, Any]:
    found = {
        "learning_plots": curves.learning_plots(contents),
        "schedule_plots": curves.schedule_plots(contents),
    }
    if not contents.epochs:  # nothing is timed yet
        return found
    return found | {
        "epoch_table": curves.epoch_table(contents),
        "conditions": speed.conditions(contents),
        "times": speed.times(contents),
        "speed_plots": speed.speed_plots(contents),
    }


def _evaluation(evaluation: Evaluation) -> dict[str, Any]:
    found = {
        "evaluation": evaluation,
        "layout": error_analysis.layout(evaluation),
        "most_classes": error_analysis.MOST_CLASSES,
        "most_pairs": PAIRS,
        "in_sight": PAIRS_IN_SIGHT,
        "confusion": evaluation.confusion_KK().tolist()
        if evaluation.class_count <= error_analysis.MOST_CLASSES
        else [],
        "classes": error_analysis.class_rows(evaluation),
        "pairs": error_analysis.pair_rows(evaluation),
        "most_confident": error_analysis.most_confident_errors(evaluation),
    }
    if not len(evaluation.labels_N):
        return found
    bins = reliability(evaluation.labels_N, evaluation.probabilities_NK)
    return found | {
        "bins": bins,
        "bin_count": BINS,
        "diagram": calibration.diagram(bins),
        "histogram": calibration.histogram(bins),
        "bin_table": (calibration.TABLE_HEAD, calibration.bin_rows(bins)),
    }


def _filters(filters_OIHW: FloatArray) -> dict[str, Any]:
    pictures = [picture(image_HWC) for image_HWC in filter_images(filters_OIHW[:MOST_FILTERS])]
    return {"filters_shape": filters_OIHW.shape, "filters": pictures}
