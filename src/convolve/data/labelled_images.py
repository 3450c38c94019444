"""Labelled images that stay on disk: CNTK's map files, tables, and folders with a subfolder for each class."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from convolve.data.image_files import ENDINGS
from convolve.data.table import Table
from convolve.errors import DataError, MissingDataError
from convolve.formats.archive import ByteReader, Location
from convolve.formats.base64_map import Base64Map
from convolve.formats.decode import decode_image
from convolve.formats.image_map import ImageMap
from convolve.formats.labelled_csv import LabelledCsv
from convolve.transforms.transform import Size

# Legend: N images, C channels, H rows, W columns.

_SIZES_ASKED = 20_000
_SYNSET = re.compile(r"n[0-9]{8} ")


@dataclass(frozen=True, eq=False)
class ClassFolders:
    """The images below `folder`, which has a subfolder for each class."""

    class_names: tuple[str, ...]
    folder: Path
    files: tuple[Path, ...]
    labels_N: NDArray[np.int64]

    def location(self, index: int) -> Location:
        return Location(str(self.files[index]))

    def place(self, index: int) -> str:
        return str(self.files[index])


LabelledImages = ClassFolders | ImageMap | LabelledCsv | Base64Map


@dataclass(frozen=True, eq=False)
class OnDisk:
    """The images of `images` that `index_N` numbers, read when they are asked for. See `Pictures`.

    `table` has all of them in memory, if they are small and somebody looked.
    """

    images: LabelledImages
    all_labels_N: NDArray[np.int64]
    index_N: NDArray[np.int64]
    size: Size | None = None
    table: Table | None = None
    reader: ByteReader = field(default_factory=ByteReader)

    def __len__(self) -> int:
        return len(self.index_N)

    @property
    def labels_N(self) -> torch.Tensor:
        return torch.from_numpy(self.all_labels_N[self.index_N])

    @property
    def chunk_N(self) -> NDArray[np.int64] | None:
        """CNTK's image reader makes each line of a map file a chunk of its own."""
        return np.arange(len(self)) if isinstance(self.images, ImageMap) else None

    def encoded(self, index: int) -> bytes:
        """The bytes of one image."""
        return self._read(index)[1]

    def picture(self, index: int, *, grey: bool, least: Size | None = None) -> NDArray[np.uint8]:
        name, content = self._read(index)
        return decode_image(content, name, grey=grey, least=least)

    def _read(self, index: int) -> tuple[str | Location, bytes]:
        """What to call an image in a message, and its bytes."""
        number = int(self.index_N[index])
        if isinstance(self.images, Base64Map):
            return self.images.place(number), self.images.read(number)
        location = self.images.location(number)
        return location, self.reader.read(location)

    def place(self, index: int) -> str:
        return self.images.place(int(self.index_N[index]))

    def take(self, indices_N: NDArray[np.int64]) -> OnDisk:
        table = None if self.table is None else self.table.take(indices_N)
        return replace(self, index_N=self.index_N[indices_N], table=table)

    def digest(self) -> bytes:
        """A hash of names, labels and sizes in bytes: the pixels of a large set are not read for it.

        Of a million files, asking for the size of each would take longer than all else before the first batch: of
        large sets, `_SIZES_ASKED` or more, evenly spread, are asked.
        """
        digest = hashlib.sha256(_listing(self.images))
        digest.update(self.all_labels_N.tobytes() + self.index_N.tobytes())
        if not isinstance(self.images, Base64Map):
            sizes: dict[str, int] = {}
            for number in self.index_N[:: max(1, len(self) // _SIZES_ASKED)]:
                file = self.images.location(int(number)).file
                if file not in sizes:
                    sizes[file] = _bytes_of(file)
                digest.update(sizes[file].to_bytes(8))
        return digest.digest()


def on_disk(images: LabelledImages, labels_N: NDArray[np.int64]) -> OnDisk:
    """All of `images`."""
    return OnDisk(images, labels_N, np.arange(len(labels_N)))


def class_folder_names(folder: Path) -> tuple[str, ...]:
    """The names of the subfolders that hold images, sorted."""
    if not folder.is_dir():
        raise MissingDataError(f"{folder} does not exist; give a map file or a folder with a subfolder for each class")
    return tuple(sorted(path.name for path in folder.iterdir() if _holds_images(path)))


def read_class_folders(folder: Path, wanted: Sequence[str]) -> ClassFolders:
    """The images below `folder`, where each subfolder holds one class.

    Subfolders named after some of the classes `wanted` take their numbers; see `class_numbers`.
    """
    names = class_folder_names(folder)
    if not names:
        raise DataError(f"{folder} holds no images in subfolders (files ending in {', '.join(sorted(ENDINGS))})")
    numbers = class_numbers(names, wanted)
    if numbers is None:
        raise DataError(
            f"{folder} has {len(names)} subfolders, the model {len(wanted)} classes; name the subfolders after its "
            "classes, or give a map file"
        )
    numbered = zip(names, numbers, strict=True)
    found = [(file, number) for name, number in numbered for file in _images_below(folder / name)]
    files, labels = zip(*found, strict=True)
    return ClassFolders(tuple(wanted), folder, files, np.array(labels, np.int64))


def class_numbers(names: Sequence[str], wanted: Sequence[str]) -> list[int] | None:
    """The number of each of `names` among the classes `wanted`, None if they do not go together.

    ImageNet's folders are called by the synset that begins the name of a class: n01440764 tench. Where the classes have
    no names but their numbers, as many synsets are numbered in their order, as everybody does.
    """
    synsets = [name.partition(" ")[0] for name in wanted if _SYNSET.match(name)]
    for known in (list(wanted), synsets if len(synsets) == len(wanted) else []):
        if {*names} <= {*known}:
            return [known.index(name) for name in names]
    unnamed = all(name == str(number) for number, name in enumerate(wanted))
    if unnamed and len(names) == len(wanted) and all(_SYNSET.match(f"{name} ") for name in names):
        return list(range(len(names)))
    return None


def has_class_folders(folder: Path) -> bool:
    """Whether there is an image in a subfolder."""
    return folder.is_dir() and any(_holds_images(path) for path in folder.iterdir())


def _listing(images: LabelledImages) -> bytes:
    """What tells this list of images from another, wherever it lies."""
    if isinstance(images, ImageMap):
        return images.names + images.ends_N.tobytes()
    if isinstance(images, Base64Map):
        return images.ranges_N2.tobytes()
    if isinstance(images, ClassFolders):
        return os.fsencode("\n".join(str(file.relative_to(images.folder)) for file in images.files))
    return os.fsencode("\n".join(images.paths))


def _images_below(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if _is_image(file))


def _holds_images(path: Path) -> bool:
    hidden = path.name.startswith(".")
    return path.is_dir() and not hidden and any(_is_image(file) for file in path.rglob("*"))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS and not path.name.startswith(".") and path.is_file()


def _bytes_of(file: str) -> int:
    try:
        return Path(file).stat().st_size
    except OSError:
        return 0  # a missing image is an error when it is read, which names its line
