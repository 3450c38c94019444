"""One self-contained HTML page about a run: curves, errors, calibration, filters, speed, recipe, environment."""

from convolve.report.page import write_report

__all__ = ["write_report"]
