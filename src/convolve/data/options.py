"""How images are read, as far as they do not say themselves: the options besides --data."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from convolve.formats.decode import MAX_PIXELS
from convolve.formats.table import Columns, TargetName


@dataclass(frozen=True)
class DataOptions:
    """`columns`: of a table; `root`: the folder that a list's paths are relative to, or where the images are now.
    `max_pixels`: see `Decoding`. `target`: the kind of labels, see `DataSpec`. `group`: images that stay on one side of
    every split, by a column or a regular expression on the path. `watch` is called with the progress of reading images
    before the start.
    """

    columns: Columns = field(default_factory=Columns)
    root: Path | None = None
    max_pixels: int = MAX_PIXELS
    group: str = ""
    target: TargetName = "class"
    watch: Callable[[int, int], None] = lambda done, count: None


AS_FOUND = DataOptions()
