"""Images in files of their own or in archives: a listing names them; they are read when they are needed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from convolve.data.sources.shard_index import ShardListing
from convolve.data.walk import PassedOver
from convolve.errors import DataError, UsageError
from convolve.formats.archive import ByteReader, Location
from convolve.formats.base64_map import Base64Map
from convolve.formats.caffe_lmdb import CaffeLmdb
from convolve.formats.decode import MAX_PIXELS, Decoding, decode_image, decoded_size
from convolve.formats.parquet import ParquetImages
from convolve.transforms.transform import Size

_SIZES_ASKED = 20_000

Embedded = Base64Map | CaffeLmdb | ParquetImages  # lists that contain the images themselves


class Listing(Protocol):
    """A list of image files: where each is, its name in messages, and a hash that identifies the list."""

    def location(self, index: int) -> Location: ...
    def place(self, index: int) -> str: ...
    def identity(self) -> bytes: ...


@dataclass(frozen=True, eq=False)
class PathListing:
    """The image `files` below `folder`, and the files that were passed over there. See `Listing`."""

    folder: Path
    files: tuple[str, ...]
    passed: PassedOver

    def location(self, index: int) -> Location:
        return Location(self.files[index])

    def place(self, index: int) -> str:
        return self.files[index]

    def identity(self) -> bytes:
        start = len(os.path.join(self.folder, "")) if str(self.folder) != "." else 0  # noqa: PTH118  with its slash
        return os.fsencode("\n".join(file[start:].replace(os.sep, "/") for file in self.files))  # on any system


@dataclass(frozen=True, eq=False)
class FileSource:
    """The images of `listing` with the numbers `index_N`. See `Source`.

    `all_labels_N` are the labels of the whole listing. `in_chunks`: it is a map file, of which CNTK's image reader
    makes each line a chunk. `roles` and `groups` are those of the whole listing, if a table states them: the part of
    each image ("training", "validation", "test"), and its group, which no split separates. `all_units_N`: the images
    that `data/relations.py` found no split should separate, if that was asked. `max_pixels`: see `Decoding`.
    """

    listing: Listing | Embedded
    all_labels_N: NDArray[Any]
    class_names: tuple[str, ...] | None
    index_N: NDArray[np.int64]
    in_chunks: bool = False
    size: Size | None = None
    roles: Sequence[str] | None = None
    groups: Sequence[str] | None = None
    all_units_N: NDArray[np.int64] | None = None
    max_pixels: int = MAX_PIXELS
    reader: ByteReader = field(default_factory=ByteReader)

    def __len__(self) -> int:
        return len(self.index_N)

    @property
    def labels_N(self) -> torch.Tensor:
        return torch.from_numpy(self.all_labels_N[self.index_N])

    @property
    def units_N(self) -> NDArray[np.int64] | None:
        return None if self.all_units_N is None else self.all_units_N[self.index_N]

    def with_units(self, units_N: NDArray[np.int64]) -> FileSource:
        """The same images; no split separates those with the same number."""
        all_units_N = np.full(len(self.all_labels_N), -1)
        all_units_N[self.index_N] = units_N
        return replace(self, all_units_N=all_units_N)

    @property
    def chunk_N(self) -> NDArray[np.int64] | None:
        return np.arange(len(self)) if self.in_chunks else None

    def read(self, index: int) -> bytes:
        return self._read(int(self.index_N[index]))[1]

    def load(self, index: int, decoding: Decoding) -> NDArray[np.uint8]:
        name, encoded = self._read(int(self.index_N[index]))
        asked = decoding.of(name)
        if asked.max_pixels != self.max_pixels:  # creating another one takes as long as opening the file
            asked = replace(asked, max_pixels=self.max_pixels)
        return decode_image(encoded, name, asked)

    def stored_size(self, index: int, decoding: Decoding) -> Size:
        """The (height, width) that `load` would give the image, from its header."""
        name, encoded = self._read(int(self.index_N[index]))
        return decoded_size(encoded, name, decoding.of(name))

    @property
    def stream_N(self) -> NDArray[np.int64] | None:
        """The number of each image's shard, if the shards are remote; None otherwise."""
        if not isinstance(self.listing, ShardListing) or not self.listing.is_remote:
            return None
        return np.asarray(self.listing.index.rows_N["shard"][self.index_N], np.int64)

    def expect(self, order_N: NDArray[np.int64]) -> None:
        """These images are read next, in this order: remote ones are fetched ahead."""
        if isinstance(self.listing, ShardListing):
            self.listing.expect(self.index_N[order_N])

    def _read(self, number: int) -> tuple[str | Location, bytes]:
        """The name of an image in messages, and its bytes."""
        if isinstance(self.listing, Embedded):
            return self.listing.place(number), self.listing.read(number)
        location = self.listing.location(number)
        return location, self.reader.read(location)

    def location(self, index: int) -> str:
        return self.listing.place(int(self.index_N[index]))

    def file(self, index: int) -> str:
        listing = self.listing
        return (
            self.location(index) if isinstance(listing, Embedded) else str(listing.location(int(self.index_N[index])))
        )

    @property
    def passed_over(self) -> str:
        """Files among the images that cannot be read, in words; empty if there are none."""
        return str(self.listing.passed) if isinstance(self.listing, PathListing) else ""

    def take(self, indices_N: NDArray[np.int64]) -> FileSource:
        return replace(self, index_N=self.index_N[indices_N])

    def by_class_and_name(self) -> FileSource:
        """In the order of classes, then of file names, so that the order of the listing does not matter.

        For files with the same name in several folders, the folder's name decides, and so on upwards.
        """
        if isinstance(self.listing, Embedded):  # whose images have no names
            return self
        if self.stream_N is not None:  # are read in the order in which they are stored
            return self
        if isinstance(self.listing, ShardListing):  # whose index has the order
            ranks_N = self.listing.index.rows_N["rank"][self.index_N]
            return self.take(np.lexsort((ranks_N, self.all_labels_N[self.index_N])))
        names = [self.listing.location(int(number)) for number in self.index_N]
        keys = [(location.member or location.file).replace("\\", "/").split("/")[::-1] for location in names]
        labels = self.all_labels_N[self.index_N].tolist()
        order = sorted(range(len(self)), key=lambda index: (labels[index], keys[index]))
        return self.take(np.array(order, np.int64))

    def digest(self) -> bytes:
        """A hash of names, labels and sizes in bytes, in any order; pixels are not read for it.

        In a set of `_SIZES_ASKED` files or more, only that many sizes, evenly spread, are asked for: with a million
        files, asking for all would take longer than everything else before the first batch.
        """
        index_N = np.sort(self.index_N)
        digest = hashlib.sha256(self.listing.identity())
        digest.update(self.all_labels_N.tobytes() + index_N.tobytes())
        if isinstance(self.listing, Embedded):
            return digest.digest()
        sizes: dict[str, int] = {}
        for number in index_N[:: max(1, len(self) // _SIZES_ASKED)]:
            file = self.listing.location(int(number)).file
            if file not in sizes:
                sizes[file] = _bytes_of(file)
            digest.update(sizes[file].to_bytes(8))
        return digest.digest()


def file_source(
    listing: Listing | Embedded,
    labels_N: NDArray[Any],
    class_names: tuple[str, ...] | None,
    in_chunks: bool = False,
) -> FileSource:
    """All images of `listing`."""
    return FileSource(listing, labels_N, class_names, np.arange(len(labels_N)), in_chunks)


def _bytes_of(file: str) -> int:
    try:
        return Path(file).stat().st_size
    except OSError:
        return 0  # a missing image is an error when it is read, with its line


@contextmanager
def naming(location: str) -> Iterator[None]:
    """Give errors about one image the `location` where it is listed."""
    try:
        yield
    except (DataError, UsageError) as error:
        raise named(error, location) from None


def named(error: DataError | UsageError, location: str) -> DataError:
    """An error about one image, with the `location` where it is listed."""
    return DataError(str(error) if str(error).startswith(location) else f"{location}: {error}")
