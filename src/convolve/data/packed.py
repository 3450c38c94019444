"""The packed cache: training images, decoded and scaled near the size that is needed, mapped into memory.

A cache is a folder for one decoder and one size, with a file for some hundred images each: its rows, then the pixels.
A pack is written completely, under a unique name, and never changed: any number of processes can fill one cache at
once, and whatever is missing, after a kill or on a full disk, is decoded as usual. An image is identified by its
location, and by its file's size and time.
"""

import atexit
import hashlib
import mmap
import os
import secrets
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from convolve.atomic import cannot_write, open_ordinary, replacing, sweep
from convolve.data.sources.files import Embedded, FileSource
from convolve.errors import ConvolveError
from convolve.formats.decode import Decoding
from convolve.transforms.transform import Image, Size

# Legend: M images of a pack or a cache, H rows, W columns, C channels.

PACK_BYTES = 1 << 26  # of pixels, which are in memory until they are written; what a kill costs
_WORTH = 0.8  # sides that shrink by less stay as they are: another scaling would blur them for nothing
_MAGIC = b"convolve packed 2\n"
_ROW = np.dtype(
    [("key", "<u8"), ("check", "<u8"), ("at", "<u8"), ("height", "<u4"), ("width", "<u4"), ("channels", "<u4"),
     ("crc", "<u4")]
)  # fmt: skip
# One part in so many of the time may go into looking for new packs while there are images that are in none.
_LOOKING = 20
_OPEN = 512  # packs that are mapped at a time

Pixels = NDArray[np.uint8]
Key = tuple[int, int]


def shrunk(image_HWC: Image, room: Size | None) -> Image:
    """The image as small as it can be without anything of size `room` or less being enlarged that is cut out of it."""
    height, width, channels = image_HWC.shape
    part = max(room[0] / height, room[1] / width) if room else 1.0
    if part > _WORTH:
        return image_HWC
    size = (max(round(width * part), 1), max(round(height * part), 1))
    smaller: Any = cv2.resize(image_HWC, size, interpolation=cv2.INTER_AREA)
    result: Image = smaller.reshape(size[1], size[0], channels)  # OpenCV drops the axis of one channel
    return result


class _Index(NamedTuple):
    """The images of all packs that are known, by their keys."""

    names: list[str]
    rows_M: NDArray[Any]
    pack_M: NDArray[np.int32]  # which of `names`
    whole_M: NDArray[np.bool_]  # which have been read, and are as they were written


class Pack:
    """The images of one cache. Threads may share one; `warn` hears of it once if nothing more can be kept."""

    warn: Callable[[str], None]

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock, self._writer = threading.Lock(), ThreadPoolExecutor(1)
        self._waiting: dict[Key, Pixels] = {}
        self._writing: dict[Key, Pixels] = {}
        self._written, self._bytes, self._is_full = Future[None](), 0, False
        self._written.set_result(None)
        self._known: dict[str, NDArray[Any]] = {}  # rows of each pack, by its name
        self._index = _Index([], np.empty(0, _ROW), np.empty(0, np.int32), np.empty(0, np.bool_))
        self._seen_ns, self._next_look = -1, 0.0
        self._mapped = lru_cache(_OPEN)(lambda name: _map(folder / name))
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(folder, error) from error
        sweep(folder)
        atexit.register(self.flush)

    def get(self, key: Key) -> Pixels | None:
        """The pixels (H, W, C), to be read only; None of an image that is not there."""
        for waiting in (self._waiting, self._writing):
            if key in waiting:
                return waiting[key]
        found = self._read(key)
        if found is None and self._look():
            found = self._read(key)
        return found

    def add(self, key: Key, pixels: Pixels) -> None:
        """Keep an image; it is written with others."""
        with self._lock:
            if self._is_full or key in self._waiting:
                return
            self._waiting[key] = pixels
            self._bytes += pixels.nbytes
            if self._bytes >= PACK_BYTES:
                self._hand_over()

    def flush(self) -> None:
        """Write what waits for others, in this thread: at the end of a process, executors take nothing more."""
        with self._lock:
            self._written.result()
            self._writing, self._waiting, self._bytes = self._waiting, {}, 0
            if self._writing and not self._is_full:
                self._write(self._writing)

    def _hand_over(self) -> None:
        """Let a thread write what waits, once it is done with what waited before."""
        self._written.result()
        if self._waiting and not self._is_full:
            self._writing, self._waiting, self._bytes = self._waiting, {}, 0
            self._written = self._writer.submit(self._write, self._writing)

    def _write(self, images: dict[Key, Pixels]) -> None:
        rows_M, at = np.zeros(len(images), _ROW), len(_MAGIC) + 16 + len(images) * _ROW.itemsize
        for number, ((key, check), pixels) in enumerate(images.items()):
            rows_M[number] = (key, check, at, *pixels.shape, zlib.crc32(pixels.data))
            at += pixels.nbytes
        content, name = rows_M.tobytes(), f"{secrets.token_hex(8)}.pack"
        try:
            with replacing(self.folder / name) as temporary, temporary.open("wb") as file:
                file.write(_MAGIC + len(rows_M).to_bytes(8, "little") + zlib.crc32(content).to_bytes(8, "little"))
                file.write(content)
                for pixels in images.values():
                    file.write(pixels.data)
        except ConvolveError as error:
            self._is_full = True
            self.warn(f"{error}; images that are not packed yet are decoded in each epoch, with the same result")

    def _read(self, key: Key) -> Pixels | None:
        """The pixels in the first pack that has them as they were written."""
        index = self._index  # at once: another thread may put a larger one in its place
        rows_M = index.rows_M
        at = int(np.searchsorted(rows_M["key"], np.uint64(key[0])))
        while at < len(rows_M) and rows_M["key"][at] == key[0]:
            if rows_M["check"][at] == key[1] and (pixels := self._whole(index, at)) is not None:
                return pixels
            at += 1
        return None

    def _whole(self, index: _Index, number: int) -> Pixels | None:
        row = index.rows_M[number]
        shape_HWC = (int(row["height"]), int(row["width"]), int(row["channels"]))
        try:
            content = self._mapped(index.names[index.pack_M[number]])
            pixels: Pixels = np.ndarray(shape_HWC, np.uint8, content, int(row["at"]))
        except (OSError, ValueError, TypeError):  # somebody has removed the pack, or cut it off
            return None
        if not index.whole_M[number]:
            index.whole_M[number] = zlib.crc32(pixels.data) == row["crc"]
        return pixels if index.whole_M[number] else None

    def _look(self) -> bool:
        """Whether there are packs that were not there before, from any process."""
        with self._lock:
            start, changed_ns = time.monotonic(), _changed_ns(self.folder)
            if start < self._next_look or changed_ns == self._seen_ns:
                return False
            self._seen_ns = changed_ns
            new = {path.name for path in self.folder.glob("*.pack")} - self._known.keys()
            self._known |= {name: _rows_of(self.folder / name) for name in new}
            names, rows = [*self._known], [*self._known.values()]
            pack_M = np.repeat(np.arange(len(names), dtype=np.int32), [*map(len, rows)])
            rows_M = np.concatenate([np.empty(0, _ROW), *rows])
            order_M = np.argsort(rows_M["key"], kind="stable")
            self._index = _Index(names, rows_M[order_M], pack_M[order_M], np.zeros(len(rows_M), np.bool_))
            self._next_look = time.monotonic() + _LOOKING * (time.monotonic() - start)
            return bool(new)


def _rows_of(path: Path) -> NDArray[Any]:
    """The images of a pack; of a damaged one none, so that they are decoded again."""
    start, none = len(_MAGIC) + 16, np.empty(0, _ROW)
    try:
        with open_ordinary(path) as file:
            head = file.read(start)
            count = int.from_bytes(head[len(_MAGIC) : -8], "little")
            size = os.fstat(file.fileno()).st_size
            if not head.startswith(_MAGIC) or len(head) < start or start + count * _ROW.itemsize > size:
                return none
            content = file.read(count * _ROW.itemsize)
    except OSError:
        return none
    rows_M = np.frombuffer(content, _ROW)
    if zlib.crc32(content) != int.from_bytes(head[-8:], "little"):
        return none
    ends_M = rows_M["at"] + rows_M["height"].astype(np.float64) * rows_M["width"] * rows_M["channels"]
    return rows_M if (ends_M <= size).all() else none


def _changed_ns(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return -1


def _map(path: Path) -> mmap.mmap:
    with open_ordinary(path) as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


_pack_in = cache(Pack)  # those of one process share what waits to be written


@dataclass(frozen=True, eq=False)
class PackedSource:
    """The images of `source` as `make` leaves them when they were decoded as `decoding` says; see `Source`.

    Its cache lies in `folder`, named by the decoder and by what `made` says of `make`.
    """

    source: FileSource
    folder: Path
    decoding: Decoding
    make: Callable[[Image], Image]
    made: str
    warn: Callable[[str], None]
    size: Size | None = None

    @cached_property
    def pack(self) -> Pack:
        said = f"{self.made} {self.decoding} {self.source.max_pixels} OpenCV {cv2.__version__}"
        pack = _pack_in((self.folder / hashlib.sha256(said.encode()).hexdigest()[:16]).absolute())
        pack.warn = self.warn
        return pack

    @cached_property
    def _keys_N2(self) -> NDArray[np.uint64]:
        """Those that are known; 0: not yet."""
        return np.zeros((len(self), 2), np.uint64)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # copying and pickling ask for such before there is any `source`
            raise AttributeError(name)
        return getattr(self.source, name)

    def expect(self, order_N: NDArray[np.int64]) -> None:
        """See `FileSource.expect`; what is packed need not be fetched."""
        if self.stream_N is not None:
            self.source.expect(np.array([n for n in order_N if self.pack.get(self._key(int(n))) is None], np.int64))

    def __len__(self) -> int:
        return len(self.source)

    def load(self, index: int, decoding: Decoding) -> NDArray[np.uint8]:
        """The image as `make` leaves it; it is not to be written to."""
        assert decoding == self.decoding
        key = self._key(index)
        pixels = self.pack.get(key)
        if pixels is None:
            made: Any = self.make(self.source.load(index, decoding))
            pixels = np.ascontiguousarray(made)  # nothing of the larger image that it may be cut from
            pixels.flags.writeable = False
            self.pack.add(key, pixels)
        return pixels

    def take(self, indices_N: NDArray[np.int64]) -> Self:
        return replace(self, source=self.source.take(indices_N))

    def _key(self, index: int) -> Key:
        """What identifies an image: its location, and its file's size and time."""
        known, check = self._keys_N2[index].tolist()
        if known or check:
            return known, check
        number, listing = int(self.source.index_N[index]), self.source.listing
        if isinstance(listing, Embedded):
            said = f"{listing.place(number)}\0{self._embedded}"
        else:
            location = listing.location(number)
            stamp = _stamp_of_archive if location.member or location.size else _stamp
            said = f"{os.path.abspath(location.file)}\0{location}\0{location.start}\0{stamp(location.file)}"  # noqa: PTH100
        digest = hashlib.blake2b(os.fsencode(said), digest_size=16).digest()
        key = (int.from_bytes(digest[:8]), int.from_bytes(digest[8:]))
        self._keys_N2[index] = key
        return key

    @cached_property
    def _embedded(self) -> str:
        """Of a list that holds the images itself: what tells it from others."""
        identity: bytes = self.source.listing.identity()
        return hashlib.sha256(identity).hexdigest()


def _stamp(file: str) -> str:
    try:
        found = os.stat(file)  # noqa: PTH116  a million of them
    except OSError:  # it lies elsewhere, or is missing, which is an error when it is read
        return ""
    return f"{found.st_size} {found.st_mtime_ns}"


_stamp_of_archive = lru_cache(4096)(_stamp)
