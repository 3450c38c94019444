"""Labelled images that stay on disk: CNTK's map files, and folders with a subfolder for each class.

A few threads read and decode ahead (both release Python's lock); what comes out is in order, each image once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from convolve.data.image_files import ENDINGS
from convolve.errors import DataError, MissingDataError, UsageError
from convolve.formats.archive import ByteReader, Location
from convolve.formats.decode import decode_image
from convolve.formats.image_map import ImageMap

# Legend: N images, C channels, H rows, W columns.

THREADS = 4  # each holds the pixels of one image as it was decoded, 201 MB at most
Fit = Callable[[np.ndarray], np.ndarray]  # image_HWC as decoded -> image_CHW as the network wants it


class LabelledImages(Protocol):
    """Where each image lies, its class, and what to call it in a message."""

    @property
    def labels_N(self) -> NDArray[np.int64]: ...
    def location(self, index: int) -> Location: ...
    def place(self, index: int) -> str: ...


@dataclass(frozen=True, eq=False)
class ClassFolders:
    """The images of a folder with a subfolder for each class; the classes are numbered in the order of their names."""

    class_names: tuple[str, ...]
    files: Sequence[Path]
    labels_N: NDArray[np.int64]

    def location(self, index: int) -> Location:
        return Location(str(self.files[index]))

    def place(self, index: int) -> str:
        return str(self.files[index])


def read_class_folders(folder: Path, wanted: Sequence[str]) -> ClassFolders:
    """The images below `folder`, where each subfolder holds one class.

    Subfolders named after some of the classes `wanted` take their numbers. Where the classes have no names but their
    numbers, there must be as many subfolders, which are numbered in the order of their names.
    """
    if not folder.is_dir():
        raise MissingDataError(f"{folder} does not exist; give a map file or a folder with a subfolder for each class")
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if {*names} <= {*wanted}:
        numbers = {name: list(wanted).index(name) for name in names}
    elif len(names) == len(wanted) and all(name == str(number) for number, name in enumerate(wanted)):
        numbers = {name: number for number, name in enumerate(names)}
    else:
        raise DataError(
            f"{folder} has {len(names)} subfolders, the model {len(wanted)} classes; name the subfolders after its "
            "classes, or give a map file"
        )
    found = [(file, numbers[name]) for name in names for file in sorted((folder / name).rglob("*")) if _is_image(file)]
    if not found:
        raise DataError(f"{folder} holds no images in subfolders (files ending in {', '.join(sorted(ENDINGS))})")
    files, labels = zip(*found, strict=True)
    return ClassFolders(tuple(wanted), files, np.array(labels, np.int64))


def has_class_folders(folder: Path) -> bool:
    """Whether there is an image in a subfolder."""
    return folder.is_dir() and any(_is_image(file) for file in folder.glob("*/*"))


def stream(
    images: LabelledImages | ImageMap, fit: Fit, batch_size: int, *, grey: bool
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of (images_NCHW uint8, labels_N) in order, the last one short. At most two batches are in memory.

    A missing or damaged image raises DataError that names its line of the map file.
    """
    with ByteReader() as reader, ThreadPoolExecutor(THREADS) as pool:

        def read(index: int) -> np.ndarray:
            location = images.location(index)
            try:
                return fit(decode_image(reader.read(location), location, grey=grey))
            except (DataError, UsageError) as error:
                place = images.place(index)
                raise DataError(str(error) if str(error).startswith(place) else f"{place}: {error}") from None

        indices, ahead = iter(range(len(images.labels_N))), deque[Future[np.ndarray]]()
        ahead.extend(pool.submit(read, index) for index in islice(indices, batch_size))
        try:
            for first in range(0, len(images.labels_N), batch_size):
                labels_N = images.labels_N[first : first + batch_size]
                batch = []
                for _ in labels_N:
                    batch.append(ahead.popleft().result())
                    ahead.extend(pool.submit(read, index) for index in islice(indices, 1))
                yield torch.from_numpy(np.stack(batch)), torch.from_numpy(labels_N)
        finally:
            for future in ahead:  # of a reader that stops early
                future.cancel()


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS and not path.name.startswith(".") and path.is_file()
