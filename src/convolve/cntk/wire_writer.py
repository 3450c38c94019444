"""Plain values -> the protobuf bytes of CNTK v2 files; the schema is in `importers/cntk/wire.py`, which reads them."""

import struct
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convolve.formats.wire import BYTES, FIXED64, VARINT
from convolve.importers.cntk.wire import Axis

# Whole numbers have the type Int, except under these keys, which have the type SizeT in CNTK.
_KEYS_OF_SIZES = (
    "Version blockSize data_type depthRadius epoch_size groups kind maxTempMemSizeInSamples minibatchCount "
    "noise_injection_seed numClass numItems numSamples offset op outputRank paddingFoot paddingHead paddingMode "
    "poolingType ref_mb_size rngOffset rngSeed sample_count sweepCount version"
)
_SIZES = frozenset(_KEYS_OF_SIZES.split())
DATA_TYPES: dict[np.dtype[Any], int] = {np.dtype("f4"): 1, np.dtype("f8"): 2, np.dtype("f2"): 4}


def _varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)


def _field(number: int, wire_type: int, content: bytes) -> bytes:
    head = _varint(number << 3 | wire_type)
    return head + _varint(len(content)) + content if wire_type == BYTES else head + content


def message(values: Mapping[str, Any]) -> bytes:
    """The Dictionary of `values`: a whole file, or a value inside one."""
    entries = (
        _field(2, BYTES, _field(1, BYTES, str(key).encode()) + _field(2, BYTES, _value(value, str(key))))
        for key, value in values.items()
    )
    return _field(1, VARINT, _varint(2)) + b"".join(entries)


def _value(value: Any, key: str) -> bytes:
    kind, number, wire_type, content = _payload(value, key)
    return _field(1, VARINT, _varint(2)) + _field(2, VARINT, _varint(kind)) + _field(number, wire_type, content)


def _payload(value: Any, key: str) -> tuple[int, int, int, bytes]:
    """(type of value, field, wire type, content)"""
    if isinstance(value, bool | np.bool_):
        return 1, 3, VARINT, _varint(int(value))
    if isinstance(value, int | np.integer):
        return (3, 5, VARINT, _varint(int(value))) if key in _SIZES else (2, 4, VARINT, _varint(int(value)))
    if isinstance(value, float | np.floating):
        return 5, 7, FIXED64, struct.pack("<d", value)
    if isinstance(value, str):
        return 6, 8, BYTES, value.encode()
    if isinstance(value, tuple):
        return 7, 9, BYTES, _shape(value)
    if isinstance(value, Axis):
        return 8, 10, BYTES, _axis(value)
    if isinstance(value, np.ndarray):
        return 11, 13, BYTES, _array(value)
    if isinstance(value, Mapping):
        return 10, 12, BYTES, message(value)
    if isinstance(value, Iterable):
        return 9, 11, BYTES, b"".join(_field(1, BYTES, _value(item, key)) for item in value)
    raise ValueError(
        f"{key}: a value of type {type(value).__name__} cannot be saved; numbers, strings and lists of them can"
    )


def _shape(shape: Iterable[int]) -> bytes:
    return _field(1, BYTES, b"".join(map(_varint, shape)))


def _axis(axis: Axis) -> bytes:
    name = axis.name
    is_ordered = not name.startswith(("defaultBatch", "All"))
    return (
        _field(1, VARINT, _varint(axis.index))
        + _field(2, BYTES, name.encode())
        + _field(3, VARINT, _varint(is_ordered))
    )


def _array(array: NDArray[Any]) -> bytes:
    """Numbers in numpy's C order, which is CNTK's with the shape reversed."""
    numbers = np.ascontiguousarray(array, np.dtype("f8") if array.dtype == np.float64 else np.dtype("f4"))
    field = 5 if array.dtype == np.float64 else 4
    head = _field(1, VARINT, _varint(DATA_TYPES[array.dtype])) + _field(3, BYTES, _shape(array.shape[::-1]))
    return head + _field(field, BYTES, _field(1, BYTES, numbers.tobytes()))
