"""The folder that a preparation fills: claimed for one data set; each file in it is complete or absent."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from convolve.atomic import cannot_write, read_whole, refuse_link, replacing, sweep, temporary_beside
from convolve.data.sources.source import ArraySource
from convolve.data.splits import Splits
from convolve.data.team import ALONE, Team
from convolve.errors import UsageError
from convolve.formats.ctf import ctf_lines, write_ctf
from convolve.formats.image_map import write_image_map

# Legend: N samples, H rows, W columns, C channels (gray, or B, G, R).

LABELS = "labels.txt"
_AT_ONCE = 1000  # lines or images that one of several workers takes at a time
_MARKER = "prepared.json"


@dataclass(frozen=True)
class Report:
    """What was done with a file or folder, as a line; `counts` has the line's numbers, under --json's names."""

    path: Path | str
    what: str
    counts: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


@dataclass(frozen=True)
class Output:
    """Writes what is missing in `folder`; each method reports (`pictures` twice) what it did.

    In a `team`, worker 0 writes the files and each worker its part of the images; only worker 0's reports are printed.
    """

    folder: Path
    team: Team = ALONE

    def text(self, name: str, content: str) -> Report:
        path, encoded = self.folder / name, content.encode(errors="surrogateescape")  # paths are bytes, not always text
        if self.team.rank or (path.is_file() and path.read_bytes() == encoded):
            return Report(path, "already there")
        with replacing(path) as temporary:
            temporary.write_bytes(encoded)
        return Report(path, "written")

    def once(self, name: str, write: Callable[[Path], None]) -> Report:
        """The file `name`, written by `write` (which must be atomic) unless it is already there."""
        path = self.folder / name
        if self.team.rank or _is_there(path):
            return Report(path, "already there")
        write(path)
        return Report(path, "written")

    def image_map(self, name: str, images: Iterable[tuple[str, int]], count: int) -> Report:
        """A map file of `count` lines (path, class number), always written anew."""
        if self.team.rank == 0:
            write_image_map(self.folder / name, images)
        return Report(self.folder / name, f"{count:,} images", {"images": count})

    def labels(self, class_names: Sequence[str]) -> Report:
        return self.text(LABELS, "".join(f"{name}\n" for name in class_names))

    def ctf(self, name: str, table: ArraySource, class_count: int) -> Report:
        labels_N, pixels_ND, path = table.labels_N.numpy(), table.images_NCHW.flatten(1).numpy(), self.folder / name

        def compute(rows: range) -> Iterator[bytes]:
            for first in rows[::_AT_ONCE]:
                some = slice(first, min(first + _AT_ONCE, rows.stop))
                yield b"".join(ctf_lines(labels_N[some], pixels_ND[some], class_count))

        start = len(table) if self.team.rank == 0 and _is_there(path) else 0
        lines = self.team.blocks(f"lines of {name}", len(table), _AT_ONCE, compute, start=start, for_all=False)
        if self.team.rank or start:
            list(lines)  # this worker's part, of which nothing is returned
            return Report(path, "already there")
        return self.once(name, lambda path: write_ctf(path, labels_N, pixels_ND, class_count, lines))

    def pictures(
        self, part: str, names: Sequence[str], images_NHWC: np.ndarray, labels_N: Sequence[int]
    ) -> Iterator[Report]:
        """An image file for each image, under its name in the folder `part`, and `<part>_map.txt`."""
        refuse_link(self.folder / part)
        paths = [self.folder / part / name for name in names]
        temporary = temporary_beside(self.folder / f"picture{self.team.rank}")

        def compute(numbers: range) -> Iterator[int]:
            for first in numbers[::_AT_ONCE]:
                some = slice(first, min(first + _AT_ONCE, numbers.stop))
                yield _write_pictures(paths[some], images_NHWC[some], temporary)

        written = sum(self.team.blocks(f"images of {part}", len(paths), _AT_ONCE, compute))
        what = f"{written:,} of {len(paths):,} images written, the others were already there"
        yield Report(self.folder / part, what, {"images": len(paths), "written": written})
        lines = (f"{path}\t{label}\n" for path, label in zip(paths, labels_N, strict=True))
        yield self.text(f"{part}_map.txt", "".join(lines))


@contextmanager
def claimed(out: Path, origin: dict[str, str], names: Sequence[str], team: Team = ALONE) -> Iterator[Output]:
    """The folder `out`, for files made from `origin` only: labels.txt and the files and folders `names`.

    Raises `UsageError` if one of these already exists, unless it came from the same origin, and `ConvolveError` if
    something cannot be written.
    """
    out = Path(os.path.realpath(out.expanduser()))
    if set("\t\r\n") & set(str(out)):
        raise UsageError(f"a path in a map file cannot have a tab or line break: {str(out)!r}; choose another --out")
    try:
        output = Output(out, team)
        if team.rank == 0:
            _claim(output, origin, names)
        team.begin(lambda: origin | {"--out": str(out)})
        yield output
    except OSError as error:
        raise cannot_write(out, error) from error


def origin_of(dataset: str, data: Splits) -> dict[str, str]:
    """What `prepared.json` says of files that were made from `data`."""
    return {"dataset": dataset, "data_fingerprint": data.fingerprint()}


def data_argument(source: Path | None) -> str | None:
    """`source` as loaders take it: a folder even if it is called "sample"; None for the usual places."""
    return None if source is None else str(source.expanduser().absolute())


def _claim(output: Output, origin: dict[str, str], names: Sequence[str]) -> None:
    """Note in the folder which data its files come from, or compare with that note: other data are refused."""
    marker, note = output.folder / _MARKER, json.dumps(origin) + "\n"
    if not marker.exists():
        for name in (LABELS, *names):
            if (output.folder / name).exists():
                place = f"{output.folder} holds {name} already"
                raise UsageError(f"{place}, which convolve did not write; choose another --out, or remove it")
        output.text(_MARKER, note)
    elif read_whole(marker, UsageError, 1 << 16).decode("utf-8", "replace") != note:
        raise UsageError(f"{output.folder} was prepared from other data; choose another --out, or remove that folder")
    sweep(output.folder)


def _write_pictures(paths: Sequence[Path], images_NHWC: np.ndarray, temporary: Path) -> int:
    """Write the images whose path is missing, and return their number."""
    missing = [(path, image_HWC) for path, image_HWC in zip(paths, images_NHWC, strict=True) if not _is_there(path)]
    for path, image_HWC in missing:
        with replacing(path, by=temporary):
            temporary.write_bytes(cv2.imencode(".png", np.ascontiguousarray(image_HWC))[1].tobytes())
    return len(missing)


def _is_there(path: Path) -> bool:
    """An empty file does not count: a crash of the whole machine can leave a file's name without its content."""
    return path.exists() and path.stat().st_size > 0
