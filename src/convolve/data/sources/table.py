"""Tables of images: a path and a label in each row."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from convolve.data.options import AS_FOUND, DataOptions
from convolve.data.sources.files import FileSource, file_source
from convolve.data.sources.source import OnFault, refusal
from convolve.data.sources.table_labels import number_labels
from convolve.data.sources.table_targets import numbers, several_classes
from convolve.data.walk import ENDINGS, is_image_name
from convolve.errors import FormatError
from convolve.formats.archive import Location
from convolve.formats.listed_path import PathRules, path_rules
from convolve.formats.table import Table, read_table
from convolve.formats.table_rows import read_header

_ENDINGS = tuple(ENDINGS)
_LONGEST = max(map(len, _ENDINGS))


@dataclass(frozen=True, eq=False)
class TableListing:
    """The images of `table`, whose paths follow the `rules`. See `Listing`."""

    table: Table
    rules: PathRules
    stems: dict[str, dict[str, list[str]]] = field(default_factory=dict)  # folder -> file without ending -> its names

    def location(self, index: int) -> Location:
        """The place of image `index`. The table may leave out the ending, as with identifiers."""
        found = self.rules.location(self.table.paths[index])
        is_whole = found.member or found.file[-_LONGEST:].lower().endswith(_ENDINGS) or not found.file
        if is_whole or os.path.exists(found.file):  # noqa: PTH110  a million of them
            return found
        folder, stem = os.path.split(found.file)
        if folder not in self.stems:
            self.stems[folder] = _names_by_stem(folder)
        names = self.stems[folder].get(stem, [stem])
        if len(names) > 1:
            what = f"{self.table.paths[index]} may be {' or '.join(names)}; write the name with its ending"
            raise FormatError(self.table.file, self.table.row(index), what)
        return replace(found, file=os.path.join(folder, names[0]))  # noqa: PTH118

    def place(self, index: int) -> str:
        """The file and line of image `index`, for messages."""
        return f"{self.table.file}: {self.table.row(index)}"

    def identity(self) -> bytes:
        """A hash that identifies this list, wherever it is stored."""
        return os.fsencode("\n".join(self.table.paths))


def open_table(
    path: Path,
    classes: Sequence[str] | None = None,
    on_fault: OnFault | None = None,
    options: DataOptions = AS_FOUND,
) -> FileSource:
    """The images that the rows of `path` name; for their labels, see `number_labels` and `table_targets.py`."""
    columns, target = label_columns(path, classes, options).columns, options.target
    table = read_table(path, columns, refusal(path, on_fault, "complete the row"), target)
    labels_N: NDArray[Any]
    if target == "class":
        labels_N, names = number_labels(table, classes, on_fault)
    else:
        labels_N, names = several_classes(table, classes) if target == "classes" else numbers(table)
    rules = path_rules(str(path.parent), options.root, table.paths)
    return replace(file_source(TableListing(table, rules), labels_N, names), roles=table.roles, groups=table.groups)


def label_columns(path: Path, names: Sequence[str] | None, options: DataOptions) -> DataOptions:
    """The options with the label columns, if the table's columns are named after a model's classes or numbers."""
    columns = options.columns
    if options.target == "class" or not names or columns.label is not None or not {*names} <= {*read_header(path)}:
        return options
    return replace(options, columns=replace(columns, label=tuple(names)))


def _names_by_stem(folder: str) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    with suppress(OSError):  # there is none: its images are missing
        for name in sorted(os.listdir(folder or ".")):  # noqa: PTH208  as above
            if is_image_name(Path(name)):
                names.setdefault(os.path.splitext(name)[0], []).append(name)  # noqa: PTH122
    return names
