"""convolve report"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(run: Annotated[Path, typer.Argument(help="A run folder.")]) -> None:
    """Write RUN/report.html again, for an unfinished run too.

    Example: convolve report runs/mnist
    """
    from convolve.report import write_report

    print(write_report(run))
