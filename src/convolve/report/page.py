"""The page: the content of the run folder, and the functions that the template page.html uses to show it."""

from contextlib import suppress
from pathlib import Path

from convolve import pictures
from convolve.atomic import locked, write_text
from convolve.errors import UsageError
from convolve.report import calibration, certainty, curves, error_analysis, header, settings, speed, targets
from convolve.report.contents import read_contents
from convolve.templates import render
from convolve.training.run_folder import RunFolder


def write_report(run: Path) -> Path:
    """Write `run`/report.html, a self-contained file, from the run folder; returns its path.

    An unfinished run gives a page about what exists so far. Raises `UsageError` if `run` is not a run folder,
    `DataError` or `ModelError` if a file in it is damaged, `ConvolveError` if the page cannot be written.
    """
    page = render(
        "report/page.html",
        run=read_contents(run),
        header=header,
        curves=curves,
        error_analysis=error_analysis,
        calibration=calibration,
        certainty=certainty,
        pictures=pictures,
        speed=speed,
        targets=targets,
        settings=settings,
    )
    path = run / "report.html"
    write_text(path, page)
    with suppress(UsageError), locked(run, wait=False):  # a process that is still working there knows its own progress
        RunFolder(run).reported()
    return path
