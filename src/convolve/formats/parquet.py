"""Parquet files of images as Hugging Face's `datasets` writes them: a column of {bytes, path}, and one of class
numbers.

The schema's metadata name columns and classes: {"info": {"features": {"image": {"_type": "Image"}, "label": {"_type":
"ClassLabel", "names": [...]}}}}. Rows are stored in groups, which are read and unpacked as a whole; the latest ones are
cached in memory.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convolve.atomic import open_ordinary, parse_json
from convolve.errors import DataError, FormatError, UsageError, brief, install_hint, legible, unknown_name

# Legend: N images, G row groups.

ENDING = ".parquet"

# NotImplementedError is a RuntimeError, IndexError and KeyError are LookupErrors: pyarrow has its own of each kind.
_DAMAGE = (OSError, ValueError, TypeError, LookupError, RuntimeError, MemoryError)
# Images hardly compress, and each row has one: a file that claims otherwise is made to fill the memory.
_ALWAYS_ROWS, _ALWAYS_BYTES, _MOST_TIMES = 1 << 20, 1 << 28, 200
_GROUP_BYTES = 1 << 29  # bytes of row groups in memory: five of the largest that `datasets` writes
_IMAGES, _LABELS = ("image", "img", "images"), ("label", "labels", "fine_label", "class", "target")


@dataclass(frozen=True, eq=False)
class ParquetImages:
    """The rows of `files`. `labels_N` are class numbers if the metadata have `class_names`, otherwise the cells'
    values.

    `starts_G`: the number of the first row of each group; `groups_G2`: its file, and its number there.
    """

    files: tuple[Path, ...]
    column: str
    labels_N: NDArray[Any]
    class_names: tuple[str, ...] | None
    starts_G: NDArray[np.int64]
    groups_G2: NDArray[np.int64]
    _groups: OrderedDict[int, Any] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __len__(self) -> int:
        return len(self.labels_N)

    def read(self, index: int) -> bytes:
        """The encoded image in row `index`."""
        group = int(np.searchsorted(self.starts_G, index, "right")) - 1
        content = self._group(group)[index - int(self.starts_G[group])].as_py()
        if not content:
            raise FormatError(self.place(index), "", "the row has no image; leave it out, or write the set again")
        return bytes(content)

    def place(self, index: int) -> str:
        """The name of image `index` in messages."""
        file = self.groups_G2[int(np.searchsorted(self.starts_G, index, "right")) - 1, 0]
        first = self.starts_G[np.argmax(self.groups_G2[:, 0] == file)]
        return f"{self.files[file]}: row {index - first + 1}"

    def identity(self) -> bytes:
        """Bytes that identify these rows, independent of their location."""
        return repr([(file.name, file.stat().st_size) for file in self.files]).encode() + self.starts_G.tobytes()

    def _group(self, group: int) -> Any:
        """The images of a row group; the groups used last stay in memory."""
        with self._lock:
            if group in self._groups:
                self._groups.move_to_end(group)
                return self._groups[group]
        file, number = self.groups_G2[group].tolist()
        found = _column(self.files[file], number, self.column)
        with self._lock:
            self._groups[group] = found
            while len(self._groups) > 1 and sum(each.nbytes for each in self._groups.values()) > _GROUP_BYTES:
                self._groups.popitem(last=False)
        return found


def open_parquet(
    files: Sequence[Path], image: str | None = None, label: str | None = None, has_labels: bool = True
) -> ParquetImages:
    """The rows of `files`, whose columns `image` and `label` may name. Raises `DataError` where there are none such.

    Without labels, `labels_N` are zeros.
    """
    starts, groups, labels = [0], list[tuple[int, int]](), list[NDArray[Any]]()
    names: tuple[str, ...] | None = None
    for number, path in enumerate(files):
        opened = _opened(path)
        features = _features(opened.schema_arrow)
        image = image or _choose(path, opened.schema_arrow, features, "Image", _IMAGES)
        label = label or (_choose(path, opened.schema_arrow, features, "ClassLabel", _LABELS) if has_labels else image)
        for column in (image, label):
            if column not in opened.schema_arrow.names:
                raise UsageError(f"{path}: {unknown_name('column', column, opened.schema_arrow.names)}")
            if opened.schema_arrow.names.count(column) > 1:
                raise FormatError(path, "", f"several columns are called {legible(column)}; write it with one")
        _require_images(path, opened.schema_arrow.field(image).type, image)
        said = features.get(label, {}).get("names")
        own = tuple(map(str, said)) or None if isinstance(said, list) else None
        if number and own != names:
            raise DataError(f"{path}: its classes differ from those of {files[0]}; write both with the same classes")
        names = own
        labels.append(_labels(path, opened, label) if has_labels else np.zeros(opened.metadata.num_rows, np.int64))
        for group in range(opened.metadata.num_row_groups):
            groups.append((number, group))
            starts.append(starts[-1] + opened.metadata.row_group(group).num_rows)
    if not starts[-1]:
        raise DataError(f"{files[0]} holds no row; write the set again")
    assert image
    bounds = (np.array(starts[:-1], np.int64), np.array(groups, np.int64).reshape(-1, 2))
    return ParquetImages(tuple(files), image, np.concatenate(labels), names, *bounds)


def _opened(path: Path) -> Any:
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise UsageError(f"{path}: Parquet is read by pyarrow: {install_hint('parquet')}") from None
    try:
        with open_ordinary(path) as file:
            size = os.fstat(file.fileno()).st_size
        opened = ParquetFile(path, memory_map=True)
        said = opened.metadata
        unpacked = max((said.row_group(group).total_byte_size for group in range(said.num_row_groups)), default=0)
    except _DAMAGE as error:
        raise FormatError(
            path, "", f"not a Parquet file, or a truncated or damaged one ({error}); get it again"
        ) from None
    if said.num_rows > max(_ALWAYS_ROWS, size) or unpacked > max(_ALWAYS_BYTES, _MOST_TIMES * size):
        what = (
            f"{said.num_rows:,} rows, of up to {unpacked:,} bytes at once, are more than {size:,} bytes hold of images"
        )
        raise FormatError(path, "", f"{what}; get it again")
    return opened


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """Column -> its description by `datasets`; empty if another tool wrote the file."""
    try:
        found = parse_json((schema.metadata or {})[b"huggingface"].decode())["info"]["features"]
        return {name: about for name, about in found.items() if isinstance(about, dict)}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _choose(path: Path, schema: Any, features: dict[str, dict[str, Any]], kind: str, usual: Sequence[str]) -> str:
    typed = [name for name, about in features.items() if about.get("_type") == kind]
    choice = [name for name in usual if name in (typed or schema.names)] + typed
    if not choice:
        role = "image" if kind == "Image" else "label"
        have = ", ".join(schema.names)
        raise DataError(f"{path}: no column of {role}s among {have}; name it with --columns {role}=NAME")
    return choice[0]


def _require_images(path: Path, kind: Any, column: str) -> None:
    """Raise DataError for a column of this kind, if it is none of bytes, or of records of which one part is."""
    if hasattr(kind, "get_field_index") and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if "binary" not in str(kind).partition("<")[0]:
        what = f"holds {brief(str(kind))}, where images are bytes"
        raise DataError(f"{path}: the column {legible(column)} {what}; name another with --columns image=NAME")


def _labels(path: Path, opened: Any, label: str) -> NDArray[Any]:
    try:
        column = opened.read(columns=[label]).column(label)
    except _DAMAGE as error:
        raise FormatError(path, "", f"damaged ({error}); get it again") from None
    if column.null_count:
        row = next(number for number, each in enumerate(column, 1) if not each.is_valid)
        raise FormatError(f"{path}: row {row}", "", f"no {label}; label it, or leave the row out")
    labels: NDArray[Any] = np.asarray(column.to_numpy(zero_copy_only=False))
    if labels.dtype == object and not all(isinstance(each, str) for each in labels):
        raise FormatError(f"{path}: column {label}", "", f"labels of the type {column.type}; give numbers or text")
    return labels


def _column(path: Path, group: int, column: str) -> Any:
    """The encoded images in a row group."""
    opened = _opened(path)
    is_struct = hasattr(opened.schema_arrow.field(column).type, "get_field_index")
    try:
        found = opened.read_row_group(group, columns=[f"{column}.bytes" if is_struct else column]).column(0)
    except _DAMAGE as error:
        raise FormatError(path, f"row group {group}", f"damaged ({error}); get the file again") from None
    whole = found.combine_chunks()
    return whole.field("bytes") if is_struct else whole
