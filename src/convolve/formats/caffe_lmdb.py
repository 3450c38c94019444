"""Caffe's LMDB: a table of records, each a `Datum` with an image, encoded or as plain pixels, and its class number.

    message Datum { int32 channels = 1, height = 2, width = 3; bytes data = 4; int32 label = 5;
                    repeated float float_data = 6; bool encoded = 7; }

Source: Caffe's caffe.proto and io.cpp. Plain pixels are planes of gray, or of blue, green and red.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from convolve.errors import DataError, FormatError, UsageError, install_hint

if TYPE_CHECKING:
    import lmdb

DATA_FILE = "data.mdb"

_OPEN: WeakValueDictionary[Path, lmdb.Environment] = WeakValueDictionary()  # a process can open each once
_MAGIC, _VERSION = 0xBEEFC0DE, 1
_MOST_FIELDS = 1000  # of one record; Caffe writes seven, but for floats that are not packed
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_CHANNELS, _HEIGHT, _WIDTH, _DATA, _LABEL, _ENCODED = 1, 2, 3, 4, 5, 7


class Datum(NamedTuple):
    channels: int
    height: int
    width: int
    data: memoryview
    label: int
    is_encoded: bool


@dataclass(frozen=True, eq=False)
class CaffeLmdb:
    """The records of the LMDB in `folder` under their `keys`, in whose order Caffe reads; the images stay there."""

    folder: Path
    keys: tuple[bytes, ...]
    labels_N: NDArray[np.int64]
    environment: lmdb.Environment = field(repr=False)

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, index: int) -> bytes:
        """The bytes of image `index`, as a file would have them: those of plain pixels are a PNM file."""
        with self.environment.begin(buffers=True) as transaction:
            record = transaction.get(self.keys[index], default=memoryview(b""))
            return _as_file(_datum(memoryview(record), self.place(index)), self.place(index))

    def place(self, index: int) -> str:
        """How messages call image `index`: the folder and its key."""
        return f"{self.folder}: record {self.keys[index].decode('utf-8', 'backslashreplace')}"

    def identity(self) -> bytes:
        """What tells these records from others, wherever they lie: their keys and the bytes they take together."""
        size = (self.folder / DATA_FILE).stat().st_size
        return b"\n".join(self.keys) + size.to_bytes(8)


def is_lmdb(folder: Path) -> bool:
    return (folder / DATA_FILE).is_file()


def open_caffe_lmdb(folder: Path) -> CaffeLmdb:
    """Raises `FormatError` for a damaged file or record, `UsageError` without the package."""
    try:
        import lmdb
    except ImportError:
        raise UsageError(f"{folder} is an LMDB, which needs the package lmdb: {install_hint('lmdb')}") from None
    _require_whole(folder / DATA_FILE)
    keys, labels, where = [], array("q"), folder.resolve()
    try:
        environment = _OPEN.get(where)
        if environment is None:
            environment = lmdb.open(str(where), readonly=True, lock=False, readahead=False, create=False)
            _OPEN[where] = environment
        with environment.begin(buffers=True) as transaction, transaction.cursor() as cursor:
            for key, record in cursor:
                keys.append(bytes(key))
                place = f"{folder}: record {keys[-1].decode('utf-8', 'backslashreplace')}"
                labels.append(_datum(memoryview(record), place).label)
    except lmdb.Error as error:
        raise FormatError(folder, "", f"a damaged LMDB ({error}); copy it again") from None
    if not keys:
        raise DataError(f"{folder} holds no record; make the LMDB again, with Caffe's convert_imageset")
    return CaffeLmdb(folder, tuple(keys), np.array(labels, np.int64), environment)


def _require_whole(path: Path) -> None:
    """The file is mapped into memory, where reading behind its end would end the process: it must hold every page."""
    with path.open("rb") as file:
        pages = [file.read(160)]
        (page_bytes,) = struct.unpack_from("<I", pages[0].ljust(160, b"\0"), 40)
        file.seek(page_bytes)
        pages.append(file.read(160))
    whole = [page for page in pages if len(page) == 160 and struct.unpack_from("<II", page, 16) == (_MAGIC, _VERSION)]
    if len(whole) < 2:
        raise FormatError(path, "byte 16", "no LMDB file of a machine as this one; make it again")
    last_page, _ = max((struct.unpack_from("<QQ", page, 136) for page in whole), key=lambda found: found[1])
    if (needed := (last_page + 1) * page_bytes) > (size := path.stat().st_size):
        raise FormatError(path, f"byte {size}", f"the LMDB is cut off here, it has {needed} bytes; copy it again")


def _datum(record: memoryview, place: str) -> Datum:
    """The fields of a record, whose last one counts where there are two, as in Protocol Buffers."""
    numbers = dict.fromkeys((_CHANNELS, _HEIGHT, _WIDTH, _LABEL, _ENCODED), 0)
    data, at, count = record[:0], 0, 0
    while at < len(record):
        count += 1
        tag, at = _varint(record, at, place)
        number, kind = tag >> 3, tag & 7
        value = 0
        if kind in (_VARINT, _BYTES):
            value, at = _varint(record, at, place)
        end = at + {_VARINT: 0, _BYTES: value, _FIXED64: 8, _FIXED32: 4}.get(kind, len(record) + 1)
        if end > len(record) or count > _MOST_FIELDS:
            raise FormatError(place, f"byte {at}", "this is no Datum of Caffe, or a damaged one; make the LMDB again")
        if kind == _VARINT and number in numbers:
            numbers[number] = value
        elif kind == _BYTES and number == _DATA:
            data = record[at:end]
        at = end
    label = numbers[_LABEL]
    if label >> 31:
        raise FormatError(place, "", f"class {label - (1 << 64) if label >> 63 else label}; classes count from 0")
    return Datum(
        channels=numbers[_CHANNELS], height=numbers[_HEIGHT], width=numbers[_WIDTH], data=data, label=label,
        is_encoded=bool(numbers[_ENCODED]),
    )  # fmt: skip


def _varint(record: memoryview, at: int, place: str) -> tuple[int, int]:
    """The number at `at`, and where it ends."""
    result = 0
    for count in range(10):
        if at + count >= len(record):
            break
        byte = record[at + count]
        result |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return result, at + count + 1
    raise FormatError(place, f"byte {at}", "this is no Datum of Caffe, or a damaged one; make the LMDB again")


def _as_file(datum: Datum, place: str) -> bytes:
    if datum.is_encoded:
        return bytes(datum.data)
    channels, height, width = datum.channels, datum.height, datum.width
    if channels not in (1, 3) or len(datum.data) != channels * height * width:
        what = f"{channels} x {height} x {width} pixels (C, H, W) in {len(datum.data)} bytes"
        raise DataError(f"{place}: {what}; images have 1 or 3 channels of a byte each, not floats")
    planes_CHW = np.frombuffer(datum.data, np.uint8).reshape(channels, height, width)
    pixels_HWC = np.ascontiguousarray(planes_CHW[::-1].transpose(1, 2, 0))  # BGR -> RGB
    return b"P%d %d %d 255\n" % (5 if channels == 1 else 6, width, height) + pixels_HWC.tobytes()
