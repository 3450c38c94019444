"""How `predict` writes its answers while they arrive: lines, JSON, a CSV file that can be resumed, NumPy arrays."""

from __future__ import annotations

import csv
import json
import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convolve.cli.formatting import safe_cell
from convolve.cli.partial_table import partial_table
from convolve.cli.terminal import for_tables

if TYPE_CHECKING:
    from convolve.data.damaged import Unreadable
    from convolve.formats.archive import Location
    from convolve.model import Model
    from convolve.prediction import Prediction

# so many of an image's possible classes are named
_CONFIDENT = ("none_of_these", "distance", "possible", "intervals")
_NAMED = 3  # so many of an image's possible classes are named
NONE_OF_THESE = "none of these"
Add = Callable[[list["Prediction"]], None]


@dataclass
class Output:
    """Where answers go: `add` takes them batch by batch, beginning with image number `start`."""

    add: Add
    start: int = 0


@contextmanager
def lines(images: Sequence[Location]) -> Iterator[Output]:
    """Print one line per image to stdout, in columns; an image that cannot be read gets its line on stderr."""
    width = max(len(str(location)) for location in images)
    fitted: list[Prediction] = []
    count = 0

    def add(batch: list[Prediction]) -> None:
        nonlocal count
        for one in batch:
            if one.error:
                sys.stdout.flush()
                print(f"{one.path}: {one.error}", file=sys.stderr)
            else:
                print(f"{one.path:<{width}}  {_in_words(one)}")
            if one.fitted:
                fitted[1:], count = [], count + 1
                fitted.append(one)
        sys.stdout.flush()

    yield Output(add)
    if fitted:
        print(f"note: {count} of {len(images)} images were converted to the model's size and color mode "
            f"({fitted[0].path}: {fitted[0].fitted})", file=sys.stderr)  # fmt: skip


def _in_words(one: Prediction) -> str:
    """The classes of one image; "none of these" or its possible classes stand first."""
    if one.heads:
        return "; ".join(f"{name}: {_in_words(each)}" for name, each in one.heads)
    said = _words(one)
    if one.none_of_these:
        return f"{NONE_OF_THESE}; {'nearest: ' if one.classes else ''}{said}"
    if one.possible is None or len(one.possible) == 1:
        return said
    more = len(one.possible) - _NAMED
    names = [*one.possible[:_NAMED], *([f"one of {more} more"] if more > 0 else [])]
    return f"{' or '.join(names) or 'unsure'}: {said}"


@contextmanager
def json_object(head: dict[str, Any]) -> Iterator[Output]:
    """One JSON object on stdout: `head`, then the list "images", written as the answers arrive."""
    print(json.dumps(head, indent=2, ensure_ascii=False).removesuffix("\n}") + ',\n  "images": [', end="")
    comma = ""

    def add(batch: list[Prediction]) -> None:
        nonlocal comma
        for one in batch:
            text = json.dumps(_mapping(one), indent=None if one.features is not None else 2, ensure_ascii=False)
            print(comma + "\n" + textwrap.indent(text, "    "), end="")
            comma = ","
        sys.stdout.flush()

    try:
        yield Output(add)
    finally:  # valid JSON even if the command stops early; the exit code says that it did
        print("\n  ]\n}")


def _words(one: Prediction) -> str:
    if one.numbers:
        between = {name: f" ({low:.4g} to {high:.4g})" for name, (low, high) in (one.intervals or {}).items()}
        return "  ".join(f"{name} {value:.6g}{between.get(name, '')}" for name, value in one.numbers)
    return "  ".join(f"{name} {value:.1%}" for name, value in one.classes) or "none of the classes"


def _mapping(one: Prediction) -> dict[str, Any]:
    if one.error:
        return {"path": one.path, "error": one.error}
    if one.heads:
        heads = {name: {"classes": _mapping(each)["classes"]} for name, each in one.heads}
        return {"path": one.path, "heads": heads, "fitted": one.fitted}
    if one.features is not None:
        return {"path": one.path, "features": one.features.tolist()}
    sure = {name: value for name in _CONFIDENT if (value := getattr(one, name)) is not None}
    if one.numbers:
        return {"path": one.path, "numbers": dict(one.numbers), **sure, "fitted": one.fitted}
    classes = [{"class": name, "probability": value} for name, value in one.classes]
    return {"path": one.path, "classes": classes, **sure, "fitted": one.fitted}


@contextmanager
def csv_file(
    path: Path, model: Model, images: Sequence[Location], question: dict[str, Any], unreadable: Unreadable
) -> Iterator[Output]:
    """The rows of the CSV file `path`. Rows of an interrupted command are kept, their errors noted in `unreadable`."""
    title = _title(model, question["--top"])
    with partial_table(path, question, title, safe_cell if question["--csv-safe"] else str) as table:
        for rows in table.resume(images, model.batch_size, len(title)):
            for number, row in enumerate(rows, table.rows):
                if row[-1]:
                    unreadable.note(number, row[0], f"{row[0]}: {row[-1]}")
        if table.rows:
            print(f"continuing after {table.rows:,} rows in {path}.partial", file=sys.stderr)
        yield Output(lambda batch: table.add(_cells(one, title) for one in batch), table.rows)
    print(f"{len(images):,} rows in {path}", file=sys.stderr)


@contextmanager
def csv_text(model: Model, safe: bool) -> Iterator[Output]:
    """A CSV table on stdout."""
    title, writer = _title(model, 0), csv.writer(for_tables(), lineterminator="\n")
    cell = safe_cell if safe else str
    writer.writerow(map(cell, title))
    yield Output(lambda batch: writer.writerows([*map(cell, _cells(one, title))] for one in batch))


@contextmanager
def arrays(path: Path) -> Iterator[Output]:
    """A NumPy file with `paths` and `features` (N, ...) of the readable images, held in memory until the end."""
    import numpy as np

    from convolve.atomic import replacing

    found: list[Prediction] = []
    yield Output(lambda batch: found.extend(one for one in batch if not one.error))
    features = np.array([one.features for one in found], np.float32)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, paths=np.array([one.path for one in found]), features=features)
    print(f"features {features.shape[1:]} of {len(found)} images in {path}", file=sys.stderr)


def _title(model: Model, top: int | None) -> list[str]:
    """The column names of a layer's features: numbers, the last axis fastest."""
    if heads := getattr(model, "heads", None):  # for a model of several heads
        names = [f"{head}_{name}" for head, each in heads.items() for name in _title(each, top)[1:-1]]
    elif model.node:
        names = [f"feature_{k}" for k in range(model.feature_shape.numel())]
    elif model.target.kind == "number":
        names = list(model.class_names)
    elif model.target.kind == "classes" and not top:
        names = ["classes", "probabilities"]
    else:
        ranks = range(1, 1 + min(top or 5, len(model.class_names)))
        names = [title for rank in ranks for title in (f"class_{rank}", f"probability_{rank}")]
    if known := model.confidence:
        within = [f"{name}_{end}" for name in model.class_names for end in ("from", "to") if known.record.within]
        names += [*within, "none_of_these", "distance", *(["possible"] if model.target.kind == "class" else [])]
    return ["path", *names, "error"]


def _cells(one: Prediction, title: list[str]) -> list[str]:
    if one.error:
        values = [""] * (len(title) - 2)
    elif one.heads:
        values = [cell for _, each in one.heads for cell in _cells(each, ["path", "class_1"])[1:-1]]
    elif one.features is not None:
        values = [f"{value:.8g}" for value in one.features.ravel()]
    elif one.numbers:
        values = [f"{value:.8g}" for _, value in one.numbers]
    elif title[1:2] == ["classes"]:
        values = [_joined([name for name, _ in one.classes]), ";".join(f"{p:.6f}" for _, p in one.classes)]
    else:
        values = [value for name, p in one.classes for value in (name, f"{p:.6f}")]
    if "distance" in title[-3:] and not one.error and one.distance is not None:
        values += [f"{end:.8g}" for ends in (one.intervals or {}).values() for end in ends]
        values += ["yes" if one.none_of_these else "no", f"{one.distance:.6f}"]
        if title[-2] == "possible":
            values.append("" if one.possible is None else _joined([*one.possible]))
    return [one.path, *values, " ".join(one.error.split())]


def _joined(names: list[str]) -> str:
    """Several classes in one cell, as `data/sources/table_targets.py` reads them."""
    is_plain = names and not any(mark in name for name in names for mark in ";[")
    return ";".join(names) if is_plain else json.dumps(names, ensure_ascii=False)


def digest_of(images: Sequence[Location]) -> str:
    """A digest of this list of images: their names, and each file's size and modification time."""
    digest, last = sha256(), ""
    for location in images:
        digest.update(os.fsencode(str(location)) + b"\0")
        if location.file != last:  # once per zip, not once per member
            last = location.file
            with suppress(OSError):  # deleted meanwhile: reported when it is the image's turn
                found = os.stat(last)  # noqa: PTH116  a million of them
                digest.update(f"{found.st_size} {found.st_mtime_ns}\0".encode())
    return digest.hexdigest()
