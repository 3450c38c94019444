"""One self-contained HTML page about a run: curves, confusions, the worst mistakes, filters, recipe, environment."""

from convolve.report.page import write_report

__all__ = ["write_report"]
