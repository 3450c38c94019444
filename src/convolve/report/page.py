"""The page: what the run folder holds, and the functions that the template page.html shows it with."""

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
    """Write `run`/report.html, one file that needs nothing else, from what the run folder holds; returns its path.

    An unfinished run gives a page about what is there. Raises `UsageError` where `run` is no run folder,
    `DataError` or `ModelError` where a file of it is damaged, `ConvolveError` where the page cannot be written.
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
    with suppress(UsageError), locked(run, wait=False):  # a process that is at work there says itself how far it is
        RunFolder(run).reported()
    return path
