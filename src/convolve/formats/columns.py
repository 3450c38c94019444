"""Numbers in columns, one sample per line, as CNTK's UCIFastReader reads them: label and features have columns of their
own."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convolve.atomic import is_there, opened, read_ordinary
from convolve.errors import FormatError, MissingDataError

_MOST_BYTES = 1 << 24  # bytes of a mapping file

# Legend: N samples, D values of a sample.


@dataclass(frozen=True)
class Columns:
    """`dim` features from column `start` on, the label in column `label`: one of so many `classes`, or, if these are 0,
    the numbers of `label_dim` columns. `mapping` is a file with the label of each class, one per line, or "" if classes
    are numbered; `delimiter` "" means blanks, or commas if there are none."""

    file: str
    start: int
    dim: int
    label: int
    classes: int
    label_dim: int = 1
    mapping: str = ""
    delimiter: str = ""


def read_columns(columns: Columns) -> tuple[NDArray[Any], NDArray[Any]]:
    """(features_ND, bytes if all fit, labels_N or numbers_NK). Raises `FormatError` with the line."""
    path = Path(columns.file)
    if not is_there(path):
        raise MissingDataError(f"{path} does not exist; give the file with a sample on each line")
    delimiter = columns.delimiter or _delimiter(path)
    features_ND = _read(path, delimiter, range(columns.start, columns.start + columns.dim), np.float32)
    if ((features_ND >= 0) & (features_ND <= 255) & (features_ND % 1 == 0)).all():
        features_ND = features_ND.astype(np.uint8)
    if not columns.classes:
        numbers = range(columns.label, columns.label + columns.label_dim)
        return features_ND, _read(path, delimiter, numbers, np.float32)
    words_N = _read(path, delimiter, [columns.label], str)[:, 0]
    return features_ND, _labels(path, words_N.tolist(), _classes(columns))


def _delimiter(path: Path) -> str | None:
    with opened(path, MissingDataError) as file:
        first = file.readline(1 << 20).strip()
    return "," if b"," in first and len(first.split()) == 1 else None


def _read(path: Path, delimiter: str | None, columns: Sequence[int], dtype: Any) -> NDArray[Any]:
    try:
        with opened(path, MissingDataError) as file:  # by its name, numpy would unpack it
            found: NDArray[Any] = np.loadtxt(
                TextIOWrapper(file, "utf-8"), dtype, None, delimiter, usecols=columns, ndmin=2
            )
    except ValueError as error:
        raise _fault(path, delimiter, columns, dtype, error) from None
    if not len(found):
        raise FormatError(path, "line 1", "the file is empty; give one with a sample on each line")
    return found


def _fault(path: Path, delimiter: str | None, columns: Sequence[int], dtype: Any, error: Exception) -> FormatError:
    """The first line that is wrong, as an error."""
    text = read_ordinary(path).decode("utf-8", "replace")
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split(delimiter)
        if line.strip() and len(words) <= max(columns):
            return FormatError(path, f"line {number}", f"{len(words)} columns, but {max(columns) + 1} are needed")
        for column in columns if line.strip() and dtype is not str else ():
            try:
                float(words[column])
            except ValueError:
                return FormatError(path, f"line {number}, column {column + 1}", f"not a number: {words[column][:40]!r}")
    return FormatError(path, "line 1", str(error)[:200])


def _classes(columns: Columns) -> dict[str, int]:
    """Label -> class: in the order of the mapping file, otherwise numbers from 0."""
    numbers = {str(number): number for number in range(columns.classes)}
    path = Path(columns.mapping)
    if not columns.mapping:
        return numbers
    try:
        words = read_ordinary(path, _MOST_BYTES).decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        what = f"cannot read {path} ({error}); list the labels in it, one on each line, or leave labelMappingFile out"
        raise MissingDataError(what) from None
    found = {word.strip(): number for number, word in enumerate(filter(str.strip, words))}
    if len(found) > columns.classes:
        raise FormatError(path, f"line {columns.classes + 1}", f"more than {columns.classes} labels (labelDim)")
    return found


def _labels(path: Path, words: list[str], classes: dict[str, int]) -> NDArray[np.int64]:
    known = classes | {f"{word}.0": number for word, number in classes.items()}
    for number, word in enumerate(words, start=1):
        if word not in known:
            some = ", ".join([*classes][:5])
            raise FormatError(path, f"sample {number}", f"the label {word[:40]!r} is not among {some}, ...")
    return np.array([known[word] for word in words], np.int64)
