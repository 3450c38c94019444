"""convolve report"""

import json
from pathlib import Path
from typing import Annotated

import typer

from convolve.cli.options import AsJson


def report(run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")], as_json: AsJson = False) -> None:
    """Write RUN/report.html again. Works for unfinished runs too.

    Example: convolve report runs/mnist
    """
    from convolve.report import write_report

    path = write_report(run)
    print(json.dumps({"report": str(path)}) if as_json else path)
