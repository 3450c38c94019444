"""Zip archives that say less than they hold: what reading them takes is bounded."""

from __future__ import annotations

import bz2
import io
import lzma
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from convolve.data.archives import unpacked
from convolve.errors import DataError, FormatError
from convolve.formats.archive import ByteReader, Location
from convolve.formats.zip_archive import Zip, is_zip

ZEROS = 64 << 20  # bytes that each member unpacks to
_FILTERS = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 20}]


def _deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


def _lzma(content: bytes) -> bytes:
    """As in a zip: a version, and the properties of the filter, which are five bytes."""
    properties = struct.pack("<BI", 93, 1 << 20)
    return struct.pack("<BBH", 9, 4, 5) + properties + lzma.compress(content, lzma.FORMAT_RAW, filters=_FILTERS)


PACKERS: dict[int, Callable[[bytes], bytes]] = {
    zipfile.ZIP_DEFLATED: _deflate, zipfile.ZIP_BZIP2: bz2.compress, zipfile.ZIP_LZMA: _lzma,
}  # fmt: skip


def bomb(path: Path, method: int) -> Path:
    """A zip with a member that says it has 100 bytes and unpacks to `ZEROS`."""
    packed, name = PACKERS[method](bytes(ZEROS)), b"a.png"
    sizes = struct.pack("<HHHIIIHH", method, 0, 0x21, 0, len(packed), 100, len(name), 0)
    local = b"PK\3\4" + struct.pack("<HH", 63, 0) + sizes + name
    central = b"PK\1\2" + struct.pack("<HHH", 63, 63, 0) + sizes + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local) + len(packed), 0)
    path.write_bytes(local + packed + central + end)
    return path


@pytest.mark.parametrize("method", PACKERS)
@pytest.mark.parametrize("way", ["member", "folder"])
def test_a_member_takes_no_more_than_it_says(method: int, way: str, tmp_path: Path) -> None:
    path = bomb(tmp_path / "a.zip", method)
    ways: dict[str, Callable[[], object]] = {
        "member": lambda: ByteReader().read(Location(str(path), "a.png")),
        "folder": lambda: unpacked(path),
    }
    tracemalloc.start()
    with pytest.raises(DataError, match=r"CRC|cannot be limited"):
        ways[way]()
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < ZEROS / 8


def test_a_directory_that_is_said_to_be_huge_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(b"PK\3\4" + bytes(2000) + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, 1900, 4, 0))
    assert is_zip(path)
    with pytest.raises(zipfile.BadZipFile, match="its directory has 1900 bytes"):
        Zip(path, 1000)


@pytest.mark.parametrize("method", PACKERS)
def test_damage_in_a_member_is_named(method: int, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.png", bytes(range(256)) * 40)
    damaged = bytearray(path.read_bytes())
    damaged[60] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(FormatError, match=r"a\.zip@/a\.png: cannot be unpacked"):
        ByteReader().read(Location(str(path), "a.png"))


def test_what_is_honest_is_read_as_zipfile_does(tmp_path: Path) -> None:
    content, file = bytes(range(256)) * 1000, io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("stored", content)
        archive.writestr("empty", b"")
        archive.writestr("packed", content, zipfile.ZIP_DEFLATED)
    (tmp_path / "a.zip").write_bytes(file.getvalue())
    for opened in (Zip(tmp_path / "a.zip"), Zip(file)):
        with opened:
            assert [opened.read(name) for name in opened.namelist()] == [content, b"", content]
            with opened.open("packed") as stream:
                assert stream.read(1000) + stream.read() == content


def test_a_place_of_64_bits(tmp_path: Path) -> None:
    """More than any file system has."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", b"x" * 99)
    content = bytearray(path.read_bytes())
    at, extra = content.index(b"PK\1\2"), struct.pack("<HHQ", 1, 8, 2**63 + 5)
    struct.pack_into("<H", content, at + 30, len(extra))
    struct.pack_into("<I", content, at + 42, 2**32 - 1)
    struct.pack_into("<I", content, len(content) - 10, len(content) - 22 - at + len(extra))
    content[at + 51 : at + 51] = extra
    path.write_bytes(content)
    with ByteReader() as reader, pytest.raises(FormatError, match=r"a\.zip"):
        reader.read(Location(str(path), "a.png"))


def test_a_member_without_a_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("N", b"x")
    (tmp_path / "a.zip").write_bytes((tmp_path / "a.zip").read_bytes().replace(b"N", b"\0"))
    assert is_zip(tmp_path / "a.zip")
    with pytest.raises(DataError, match="a member has no name"):
        unpacked(tmp_path / "a.zip")
