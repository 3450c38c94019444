"""How images are read, where they do not say so themselves: what a user gives beside --data."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from convolve.formats.decode import MAX_PIXELS
from convolve.formats.table import Columns, TargetName


@dataclass(frozen=True)
class DataOptions:
    """`columns`: those of a table; `root`: the folder in which the paths of a list start, or lie now.

    `max_pixels`: see `Decoding`. `target`: what is learned of an image, see `DataSpec`. `group`: what no split may tear
    apart, a column or a regular expression on the path. `watch` hears how far the images are that are looked at before
    anything can begin.
    """

    columns: Columns = field(default_factory=Columns)
    root: Path | None = None
    max_pixels: int = MAX_PIXELS
    group: str = ""
    target: TargetName = "class"
    watch: Callable[[int, int], None] = lambda done, count: None


AS_FOUND = DataOptions()
