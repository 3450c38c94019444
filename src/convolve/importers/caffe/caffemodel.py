"""The protobuf bytes of Caffe's binary files -> arrays, as views of the file's bytes: caffemodels and mean images.

Schema (proto2, package caffe), as far as it is read here; the prototxt says everything else:

    NetParameter      2 repeated V1LayerParameter     100 repeated LayerParameter
    LayerParameter    1 name    7 repeated BlobProto
    V1LayerParameter  4 name    6 repeated BlobProto    1 a layer of version 0
    BlobProto         1 num  2 channels  3 height  4 width    7 BlobShape    5 repeated float    8 repeated double
    BlobShape         1 repeated int64
"""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convolve.errors import FormatError, UnsupportedError, brief, legible
from convolve.formats.wire import BYTES, FIXED32, FIXED64, VARINT, Field, WireReader
from convolve.graph.graph import Array
from convolve.graph.shapes import Shape
from convolve.importers.loader import read_bytes

MAX_AXES = 32  # as in Caffe
MAX_PIECES = 16  # of the numbers of one blob; Caffe writes one

_LAYERS = {2: (4, 6), 100: (1, 7)}  # a layer's field in the net -> the fields of its name and of its blobs
_LEGACY_SHAPE = (1, 2, 3, 4)
_SHAPE = 7
_NUMBERS: dict[int, tuple[np.dtype[Any], int]] = {5: (np.dtype("<f4"), FIXED32), 8: (np.dtype("<f8"), FIXED64)}


@dataclass(frozen=True, eq=False)
class Blob:
    """The numbers of one parameter. `offset` is where they begin in the file."""

    array: Array
    offset: int


@dataclass(frozen=True)
class Weights:
    """The blobs of each layer that has any, by the layer's name."""

    path: object
    layers: dict[str, list[Blob]]


def read_weights(data: bytes, path: object) -> Weights:
    """The weights in a caffemodel's bytes. Raises FormatError with the byte, UnsupportedError for other formats."""
    if data.startswith(b"\x89HDF"):
        raise UnsupportedError(
            f"{path}: the weights are stored as HDF5; let Caffe write them again, with `snapshot_format: "
            f"BINARYPROTO` in the solver"
        )
    layers = _Reader(data, path).net()
    if not layers:
        raise FormatError(path, "", "holds no layers with weights: is this a caffemodel?")
    return Weights(path, layers)


def read_mean_image(path: str | Path) -> NDArray[np.float32]:
    """The mean image of a binaryproto file, (C, H, W); colors are in the order that Caffe reads them, B, G, R."""
    reader = _Reader(read_bytes(path, "a binaryproto file"), path)
    array = reader.blob(Field(0, BYTES, 0, 0, len(reader.data))).array
    shape = array.shape[1:] if len(array.shape) == 4 and array.shape[0] == 1 else array.shape
    if len(shape) != 3 or not np.isfinite(array).all():
        raise FormatError(
            path, "", f"a mean image must have finite numbers and a shape (1, C, H, W), not {array.shape}"
        )
    return array.reshape(shape).astype(np.float32)


class _Reader(WireReader):
    def net(self) -> dict[str, list[Blob]]:
        layers: dict[str, list[Blob]] = {}
        for item in self.fields(0, len(self.data)):
            if item.number not in _LAYERS:
                continue
            name, blobs = self.layer(self.expect(item, BYTES))
            if blobs and name in layers:
                raise self.error(item.start, f"two layers with weights are called {brief(name)}")
            if blobs:
                layers[name] = blobs
        return layers

    def layer(self, item: Field) -> tuple[str, list[Blob]]:
        name_field, blobs_field = _LAYERS[item.number]
        name, blobs = "", []
        for part in self.fields(item.start, item.end):
            if part.number == name_field:
                name = self.string(self.expect(part, BYTES))
            elif part.number == blobs_field:
                blobs.append(self.blob(self.expect(part, BYTES)))
            elif part.number == 1:  # only V1 layers get here
                raise UnsupportedError(
                    f"{self.path}: byte {part.start}: the file has Caffe's oldest format (V0); upgrade it with Caffe's "
                    "tool upgrade_net_proto_binary"
                )
        return name, blobs

    def blob(self, item: Field) -> Blob:
        legacy, shape = dict[int, int](), None
        pieces: dict[int, list[Array]] = {}
        at = item.start
        while at < item.end:
            part = self.field(at, item.end)
            at = part.end
            if part.number in _LEGACY_SHAPE:
                legacy[part.number] = self.expect(part, VARINT).value
            elif part.number == _SHAPE:
                shape = self.shape(self.expect(part, BYTES))
            elif part.number in _NUMBERS:
                piece, at = self.numbers(part, item.end)
                pieces.setdefault(part.number, []).append(piece)
                if len(pieces[part.number]) > MAX_PIECES:
                    raise self.error(part.start, f"a blob's numbers are in more than {MAX_PIECES} pieces")
        if shape is None:
            shape = tuple(legacy.get(number, 0) for number in _LEGACY_SHAPE)
        found = next(iter(pieces.values()), [np.zeros(0, np.float32)])
        numbers = found[0] if len(found) == 1 else np.concatenate(found)
        if len(pieces) > 1 or prod(shape) != numbers.size or not numbers.size:
            raise self.error(item.start, f"a blob of shape {legible(str(shape))} holds {numbers.size} numbers")
        return Blob(numbers.reshape(shape), item.start)

    def shape(self, item: Field) -> Shape:
        dims: list[int] = []
        for part in self.fields(item.start, item.end):
            if part.number == 1 and part.kind in (BYTES, VARINT):
                dims += self.packed(part)
            if len(dims) > MAX_AXES:
                raise self.error(part.start, f"a blob has more than {MAX_AXES} axes")
        if min(dims, default=1) < 1:
            raise self.error(item.start, f"a blob cannot have the shape {tuple(dims)}")
        return tuple(dims)

    def numbers(self, part: Field, end: int) -> tuple[Array, int]:
        """The floats or doubles and where they end: side by side in one field, or each in a field of its own."""
        dtype, kind = _NUMBERS[part.number]
        if part.kind == BYTES:
            size = part.end - part.start
            if size % dtype.itemsize:
                raise self.error(part.start, f"{size} bytes cannot hold numbers of {dtype.itemsize} bytes each")
            return np.frombuffer(self.data, dtype, size // dtype.itemsize, part.start), part.end
        self.expect(part, kind)
        # Read a whole run of such fields as a table of tags and numbers.
        first = part.start - 1
        table_type = np.dtype([("tag", "u1"), ("number", dtype)])
        table = np.frombuffer(self.data, table_type, (end - first) // table_type.itemsize, first)
        others = np.flatnonzero(table["tag"] != (part.number << 3 | kind))
        count = max(int(others[0]) if others.size else len(table), 1)
        return table["number"][:count].copy(), first + count * table_type.itemsize
