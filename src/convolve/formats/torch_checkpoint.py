"""PyTorch's checkpoints (`.pth`, `.pt`, `.bin`) without PyTorch: names and arrays that are views of the file's bytes.

Two forms: since PyTorch 1.6 a zip archive with `data.pkl` and a member for each storage, all uncompressed; before that
several pickles, then the storages. Sources: torch/serialization.py, torch/_utils.py.
"""

import math
import mmap
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convolve.errors import DataError, FormatError
from convolve.formats.allowed_pickle import AllowedUnpickler, Skipped, Tensor
from convolve.formats.archive import regular_size
from convolve.formats.zip_archive import ZIP_DAMAGE, Zip

MAX_DIRECTORY_BYTES = 1 << 24  # of a zip archive; an entry takes some 100 bytes, and 600 in memory
MAX_NAMING = 1 << 24  # characters of all names together, and values that are looked at for them
_LEGACY_MAGIC = bytes.fromhex("6cfc9c46f9206aa85019")  # near the beginning; its place depends on the pickle protocol
_LEGACY_VERSION = 1001
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature; lengths of the name and of another field, which follow it
_HOLDERS = (list, tuple, dict, Skipped)
_AS_BITS = {"bfloat16": "uint16", "float8_e4m3fn": "uint8", "float8_e5m2": "uint8"}  # numpy has no such types


class StoredTensor(NamedTuple):
    """`values` is read-only; for a type that numpy lacks, it holds the bits. `dtype` is PyTorch's name."""

    values: NDArray[Any]
    dtype: str


class _Span(NamedTuple):
    start: int
    size: int
    crc: int = 0  # of a member of a zip archive


class _Content(NamedTuple):
    value: Any
    storages: dict[str, _Span]
    is_big_endian: bool


def is_checkpoint(path: Path) -> bool:
    """Whether the file has one of the two forms: the older one's magic number, or a zip archive with a data.pkl."""
    with path.open("rb") as file:
        head = file.read(32)
    if not head.startswith(b"PK\x03\x04"):
        return _LEGACY_MAGIC in head
    try:
        with Zip(path, MAX_DIRECTORY_BYTES) as archive:
            return any(name.partition("/")[2] == "data.pkl" for name in archive.namelist())
    except ZIP_DAMAGE:
        return False


def read_checkpoint(path: str | Path) -> dict[str, StoredTensor]:
    """Every tensor in the file by its name; nested ones have dotted names: `state_dict.conv1.weight`.

    A network that was saved as an object gives the names of its state_dict. Raises `FormatError` with the byte, member
    or name. Nothing that the file refers to is imported or run.
    """
    regular_size(path, "a checkpoint of PyTorch is expected")
    try:
        with Path(path).open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:  # ValueError: an empty file
        raise DataError(f"{path}: cannot be read ({error})") from None
    if content[:4] == b"PK\x03\x04":
        read = _read_zip(content, path)
    elif _LEGACY_MAGIC in content[:32]:
        read = _read_legacy(content, path)
    else:
        raise FormatError(path, "byte 0", "neither of the two forms of PyTorch's checkpoints")
    tensors: dict[str, StoredTensor] = {}
    for name, tensor in _named_tensors(read.value, path):
        if name in tensors:
            raise FormatError(path, name[:200], "two tensors have this name")
        try:
            tensors[name] = StoredTensor(_view(content, tensor, read), tensor.dtype)
        except ValueError as error:
            raise FormatError(path, name[:200], f"{error}; save the checkpoint again, or get it again") from None
    return tensors


def _read_zip(content: mmap.mmap, path: str | Path) -> _Content:
    members = _members(content, path)
    if "data.pkl" not in members:
        raise FormatError(path, "", "a zip archive without data.pkl is not a checkpoint of PyTorch")
    _require_whole(content, members, path)
    order = _bytes_of(content, members["byteorder"]) if "byteorder" in members else b"little"
    if order not in (b"little", b"big"):
        raise FormatError(path, "byteorder", f"little or big is expected, it is {order[:20]!r}")
    value = AllowedUnpickler(_bytes_of(content, members["data.pkl"]), path, "data.pkl", skips=True).value()
    storages = {name.removeprefix("data/"): span for name, span in members.items() if name.startswith("data/")}
    return _Content(value, storages, order == b"big")


def _members(content: mmap.mmap, path: str | Path) -> dict[str, _Span]:
    """The position of each member's bytes, by name without the folder; members are uncompressed and do not overlap."""
    try:
        with Zip(path, MAX_DIRECTORY_BYTES) as archive:
            infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
    except ZIP_DAMAGE as error:
        raise FormatError(path, "", f"a damaged zip archive ({error}); get it again") from None
    members: dict[str, _Span] = {}
    end = 0
    for info in infos:
        place, name = info.filename[:200], info.filename.partition("/")[2]
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.compress_size != info.file_size:
            raise FormatError(path, place, "it is compressed, which PyTorch never does")
        at = info.header_offset + _LOCAL_HEADER.size
        if not end <= info.header_offset <= len(content) - _LOCAL_HEADER.size or name in members:
            raise FormatError(path, place, "it overlaps another member, or two have its name; get the file again")
        signature, *lengths = _LOCAL_HEADER.unpack(content[info.header_offset : at])
        members[name] = _Span(at + sum(lengths), info.file_size, info.CRC)
        end = sum(members[name][:2])
        if signature != b"PK\x03\x04" or end > len(content):
            raise FormatError(path, place, "it is not where the archive says; get the file again")
    return members


def _require_whole(content: mmap.mmap, members: Mapping[str, _Span], path: str | Path) -> None:
    """Refuse a file in which some member's checksum differs. If all differ, PyTorch was told to write none
    (`torch.serialization.set_crc32_options`)."""
    with memoryview(content) as view:
        others = [name for name, (start, size, crc) in members.items() if zlib.crc32(view[start : start + size]) != crc]
    if others and len(others) < sum(span.size > 0 for span in members.values()):
        raise FormatError(path, others[0][:200], "its checksum differs, it was changed or damaged; get the file again")


def _bytes_of(content: mmap.mmap, span: _Span) -> bytes:
    return content[span.start : span.start + span.size]


def _read_legacy(content: mmap.mmap, path: str | Path) -> _Content:
    """A magic number, a version, a description of the machine, the value, the keys of the storages; then the storages:
    the number of elements, in 8 bytes, and the elements, always little-endian.
    """
    _magic, version, _machine = (AllowedUnpickler(content, path).value() for _ in range(3))
    if version != _LEGACY_VERSION:
        raise FormatError(path, "", f"version {str(version)[:20]} of the older form of checkpoints; 1001 is known")
    reader = AllowedUnpickler(content, path, skips=True)
    value = reader.value()
    keys = AllowedUnpickler(content, path).value()
    spans: dict[str, _Span] = {}
    at = content.tell()
    for key in keys if isinstance(keys, list) else [None]:
        storage = reader.storages.get(key.decode("latin-1") if isinstance(key, bytes) else str(key)[:80])
        if storage is None or storage.key in spans or content[at : at + 8] != storage.elements.to_bytes(8, "little"):
            raise FormatError(
                path, f"byte {at}", "the storage announced here is not the one that follows; get the file again"
            )
        spans[storage.key] = _Span(at + 8, storage.elements * _numpy_type(storage.dtype).itemsize)
        at = sum(spans[storage.key][:2])
        if at > len(content):
            raise FormatError(path, f"byte {len(content)}", "the file ends within a storage; get it again")
    return _Content(value, spans, is_big_endian=False)


def _named_tensors(value: Any, path: str | Path) -> Iterator[tuple[str, Tensor]]:
    """The tensors in lists, tuples and dicts, in order. A part may occur many times, but not endlessly."""
    spent, to_do = 0, [("", value)]
    while to_do:
        name, item = to_do.pop()
        if isinstance(item, Tensor):
            yield name, item
        elif type(item) in _HOLDERS:
            parts = [*_parts(item)]
            inside = [(key, part) for key, part in reversed(parts) if type(part) in (*_HOLDERS, Tensor)]
            spent += len(parts) + sum(len(name) + len(str(key)) for key, _ in inside)
            if spent > MAX_NAMING:
                raise FormatError(path, name[:200], "endless names, or values that contain themselves")
            for key, part in inside:
                text = _text(key)
                to_do.append((".".join(filter(None, (name, text))), part))


def _parts(item: Any) -> Iterator[tuple[Any, Any]]:
    """The content of a list, tuple, dict or object, by key; of a network its parameters, buffers and layers."""
    if type(item) in (list, tuple):
        yield from enumerate(item)
        return
    attributes = item.attributes if type(item) is Skipped else {}
    yield from (item.entries if type(item) is Skipped else item).items()
    for key, part in attributes.items():
        named = type(part) is dict and _text(key) in ("_parameters", "_buffers", "_modules")
        yield from part.items() if named else [(key, part)]


def _view(content: mmap.mmap, tensor: Tensor, read: _Content) -> NDArray[Any]:
    """A view of the tensor's elements in the file. `ValueError` says which claim is wrong."""
    span = read.storages.get(tensor.storage.key)
    if span is None:
        raise ValueError(f"its storage {tensor.storage.key[:20]!r} is missing")
    claimed = tensor.storage.elements * _numpy_type(tensor.storage.dtype).itemsize
    if span.size != claimed:
        raise ValueError(f"its storage has {span.size} bytes in the file, but {claimed} are claimed")
    dtype = _numpy_type(tensor.dtype).newbyteorder(">" if read.is_big_endian else "<")
    count = math.prod(tensor.shape)
    last = sum((length - 1) * stride for length, stride in zip(tensor.shape, tensor.strides, strict=True))
    if count and (tensor.offset + last + 1) * dtype.itemsize > span.size:
        raise ValueError("it reaches beyond its storage")
    if count * dtype.itemsize > span.size:
        raise ValueError(f"it has {count} elements, which is more than its storage holds")
    if not count:
        return np.empty(tensor.shape, dtype)
    strides = [stride * dtype.itemsize for stride in tensor.strides]
    return np.ndarray(tensor.shape, dtype, content, span.start + tensor.offset * dtype.itemsize, strides)


def _text(key: Any) -> str:
    return key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key)


def _numpy_type(dtype: str) -> np.dtype[Any]:
    return np.dtype(_AS_BITS.get(dtype, dtype))
