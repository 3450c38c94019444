"""How a list of images is read, where it does not say so itself: what a user gives beside --data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from convolve.formats.table import Columns


@dataclass(frozen=True)
class DataOptions:
    """`columns`: those of a table; `root`: the folder in which the paths of a list start, or lie now."""

    columns: Columns = field(default_factory=Columns)
    root: Path | None = None


AS_FOUND = DataOptions()
