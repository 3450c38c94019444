"""Caffe's LMDB: a table of records, each a `Datum` with an image, encoded or as plain pixels, and its class number.

    message Datum { int32 channels = 1, height = 2, width = 3; bytes data = 4; int32 label = 5;
                    repeated float float_data = 6; bool encoded = 7; }

Source: Caffe's caffe.proto and io.cpp. Plain pixels are planes of gray, or of blue, green and red.
"""

import mmap
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from convolve.atomic import open_ordinary
from convolve.errors import DataError, FormatError
from convolve.formats.lmdb import DATA_FILE, lmdb_records
from convolve.formats.wire import BYTES, VARINT, WireReader

_MOST_FIELDS = 1000  # of one record; Caffe writes seven, except for unpacked floats
_CHANNELS, _HEIGHT, _WIDTH, _DATA, _LABEL, _ENCODED = 1, 2, 3, 4, 5, 7


class Datum(NamedTuple):
    """The image's bytes are [start, stop)."""

    channels: int
    height: int
    width: int
    label: int
    is_encoded: bool
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class CaffeLmdb:
    """The records in `file` under their `keys`, in Caffe's reading order; the images stay on disk.

    `ranges_N2`: where each record begins and ends, in bytes.
    """

    file: Path
    keys: tuple[bytes, ...]
    labels_N: NDArray[np.int64]
    ranges_N2: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, index: int) -> bytes:
        """The bytes of image `index`, as an image file: plain pixels become a PNM file."""
        start, end = map(int, self.ranges_N2[index])
        with open_ordinary(self.file) as file:
            file.seek(start)
            record = file.read(end - start)
        return _as_file(record, self.place(index))

    def place(self, index: int) -> str:
        """The name of image `index` in messages."""
        return _place(self.file, self.keys[index])

    def identity(self) -> bytes:
        """Bytes that identify these records, independent of their location."""
        return b"\n".join(self.keys) + self.ranges_N2.tobytes()


def is_lmdb(folder: Path) -> bool:
    return (folder / DATA_FILE).is_file()


def open_caffe_lmdb(folder: Path) -> CaffeLmdb:
    """Index the records in one pass. Raises `FormatError` for a damaged file or record."""
    path, keys, labels, ranges = folder / DATA_FILE, [], array("q"), array("q")
    if not path.stat().st_size:
        raise FormatError(path, "byte 0", "the file is empty; copy it again")
    with open_ordinary(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for key, start, size in lmdb_records(data, path):
            keys.append(key)
            labels.append(_datum(data, start, start + size, _place(path, key)).label)
            ranges.extend((start, start + size))
    if not keys:
        raise DataError(f"{path} holds no record; make the LMDB again, with Caffe's convert_imageset")
    return CaffeLmdb(path, tuple(keys), np.array(labels, np.int64), np.array(ranges, np.int64).reshape(-1, 2))


def _place(path: Path, key: bytes) -> str:
    return f"{path}: record {key.decode('utf-8', 'backslashreplace')}"


def _datum(data: bytes | mmap.mmap, start: int, stop: int, place: str) -> Datum:
    """The fields of the record in [start, stop); of a repeated field, the last one counts, as in Protocol Buffers."""
    numbers = dict.fromkeys((_CHANNELS, _HEIGHT, _WIDTH, _LABEL, _ENCODED), 0)
    image = start, start
    try:
        for field in WireReader(data, place, _MOST_FIELDS).fields(start, stop):
            if field.kind == VARINT and field.number in numbers:
                numbers[field.number] = field.value
            elif field.kind == BYTES and field.number == _DATA:
                image = field.start, field.end
    except FormatError:
        what = "this is not a Datum of Caffe, or a damaged one; make the LMDB again"
        raise FormatError(place, "", what) from None
    label = numbers[_LABEL]
    if label >> 31:
        raise FormatError(place, "", f"class {label - (1 << 64) if label >> 63 else label}; classes count from 0")
    return Datum(
        channels=numbers[_CHANNELS], height=numbers[_HEIGHT], width=numbers[_WIDTH], label=label,
        is_encoded=bool(numbers[_ENCODED]), start=image[0], stop=image[1],
    )  # fmt: skip


def _as_file(record: bytes, place: str) -> bytes:
    datum = _datum(record, 0, len(record), place)
    content = record[datum.start : datum.stop]
    if datum.is_encoded:
        return content
    channels, height, width = datum.channels, datum.height, datum.width
    if channels not in (1, 3) or len(content) != channels * height * width:
        what = f"{channels} x {height} x {width} pixels (C, H, W) in {len(content)} bytes"
        raise DataError(f"{place}: {what}; images have 1 or 3 channels of a byte each, not floats")
    planes_CHW = np.frombuffer(content, np.uint8).reshape(channels, height, width)
    pixels_HWC = np.ascontiguousarray(planes_CHW[::-1].transpose(1, 2, 0))  # BGR -> RGB
    return b"P%d %d %d 255\n" % (5 if channels == 1 else 6, width, height) + pixels_HWC.tobytes()
