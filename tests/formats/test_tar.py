"""Tar archives against Python's own writer, and every kind of damage."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from convolve.errors import FormatError
from convolve.formats import tar as module
from convolve.formats.tar import read_tar
from convolve.formats.tar_index import tar_header, tar_members

CONTENTS = {f"folder/file{number}": bytes([number]) * (700 * number) for number in range(4)}


def archive(format: int = tarfile.PAX_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=format) as tar:
        for name, content in CONTENTS.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("folder/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return stream.getvalue()


WHOLE = archive()
PACKED = gzip.compress(WHOLE)


def read(content: bytes, place: Path) -> dict[str, bytes]:
    (place / "a.tar").write_bytes(content)
    return read_tar(place / "a.tar", lambda path: path.parent.name == "folder")


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_files_but_no_links(format, pack, tmp_path):
    assert read(pack(archive(format)), tmp_path) == CONTENTS


def test_only_what_is_wanted(tmp_path):
    (tmp_path / "a.tar").write_bytes(WHOLE)
    assert read_tar(tmp_path / "a.tar", lambda path: path.name == "file2") == {"folder/file2": CONTENTS["folder/file2"]}


@pytest.mark.parametrize("end", range(0, len(WHOLE.rstrip(b"\0")) // 512 * 512 + 513, 256))
def test_cut_off_anywhere(end, tmp_path):
    with pytest.raises(FormatError, match=r"a\.tar: .*(damaged|cut off).*; get it again"):
        read(WHOLE[:end], tmp_path)


@pytest.mark.parametrize("end", [*range(0, len(PACKED), 7), len(PACKED) - 1])
def test_packed_and_cut_off_anywhere(end, tmp_path):
    with pytest.raises(FormatError, match=r"a\.tar: .*(damaged|cut off).*; get it again"):
        read(PACKED[:end], tmp_path)


def test_a_damaged_header(tmp_path):
    """Python's tarfile takes it for the end of the archive."""
    content = bytearray(WHOLE)
    content[content.index(b"folder/file2")] ^= 1
    with pytest.raises(FormatError, match=r"byte 2048 of the unpacked archive: damaged or cut off here"):
        read(content, tmp_path)


def test_damaged_pixels_in_a_packed_archive(tmp_path):
    stored = bytearray(gzip.compress(WHOLE, compresslevel=0))
    stored[stored.index(bytes([3]) * 100)] ^= 1
    with pytest.raises(FormatError, match="CRC check failed"):
        read(stored, tmp_path)


def test_memory_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 2000)
    with pytest.raises(FormatError, match=r"a\.tar: folder/file2: more than 2000 bytes"):
        read(WHOLE, tmp_path)


def packed_long_name(bytes_: int) -> bytes:
    """GNU's way to a long name: a member of its own, as long as it says."""
    member = tarfile.TarInfo("././@LongLink")
    member.size, member.type = bytes_, tarfile.GNUTYPE_LONGNAME
    return gzip.compress(member.tobuf(tarfile.GNU_FORMAT) + bytes(-(-bytes_ // 512) * 512) + WHOLE)


def pax_header(bytes_: int) -> bytes:
    member = tarfile.TarInfo("pax")
    member.size, member.type = bytes_, tarfile.XHDTYPE
    return gzip.compress(member.tobuf(tarfile.USTAR_FORMAT) + bytes(-(-bytes_ // 512) * 512) + WHOLE)


@pytest.mark.parametrize("header", [packed_long_name, pax_header])
def test_a_header_takes_no_more_than_a_name_may(header, tmp_path):
    place = tmp_path / "a.tar"
    place.write_bytes(header(64 << 20))
    tracemalloc.start()
    with pytest.raises(FormatError, match="a header of more than"):
        read_tar(place, lambda path: True)
    assert not module.is_tar(place)
    with pytest.raises(tarfile.TarError):
        module.first_names_in_tar(place, 3)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("where", ["an unwanted member", "behind the end"])
def test_what_is_made_of_nothing_is_not_unpacked(pack, where, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ALWAYS_BYTES", 4 << 20)
    big = tarfile.TarInfo("big")
    big.size = 16 << 20
    zeros = bytes(big.size)
    content = big.tobuf() + zeros + WHOLE if where == "an unwanted member" else WHOLE + zeros
    (tmp_path / "a.tar").write_bytes(pack(content))
    with pytest.raises(FormatError, match="unpacks to more than 4,194,304 bytes; if you trust it"):
        read_tar(tmp_path / "a.tar", lambda path: path.name != "big")


def test_xz_in_streams_and_with_a_huge_dictionary(tmp_path, monkeypatch):
    half = len(WHOLE) // 2
    streams = lzma.compress(WHOLE[:half]) + bytes(8) + lzma.compress(WHOLE[half:]) + bytes(4)
    assert read(streams, tmp_path) == CONTENTS
    with pytest.raises(FormatError, match=r"a\.tar: .*ends before.*; get it again"):
        read(lzma.compress(WHOLE)[:-20], tmp_path)
    monkeypatch.setattr(module, "_XZ_MEMORY", 1 << 20)
    with pytest.raises(FormatError, match="Memory usage limit"):
        read(lzma.compress(WHOLE), tmp_path)


def with_negative_size():
    header = bytearray(tar_header("a.png", 0).replace(b"00000000000\0", b"-0000002000\0", 1))
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(4096)


def with_records(records):
    member = tarfile.TarInfo("pax")
    member.size, member.type = len(records), tarfile.XHDTYPE
    return member.tobuf(tarfile.USTAR_FORMAT) + records + bytes(-len(records) % 512) + bytes(1024)


def test_an_index_ends_whatever_a_header_says(tmp_path):
    """A size below zero would lead back; records of a pax header may be many, and their lengths long."""
    (tmp_path / "a.tar").write_bytes(with_negative_size())
    with pytest.raises(FormatError, match="not a plain tar archive"):
        [*tar_members(tmp_path / "a.tar")]
    for records in (b"9" * 5000 + b" path=a\n", b"1 " * (1 << 19)):
        (tmp_path / "a.tar").write_bytes(with_records(records))
        assert [*tar_members(tmp_path / "a.tar")] == []


def record(key: str, value: str) -> bytes:
    text = f" {key}={value}\n".encode()
    return str(len(text) + 2).encode() + text


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (record("size", "-1024"), ""),  # which leads back
        (record("GNU.sparse.size", "x"), ""),
        (record("GNU.sparse.map", "0,9") + record("GNU.sparse.size", "99"), "a sparse file, .*--sparse"),
        (None, ""),  # hundreds of headers before one member
    ],
)
def test_headers_that_mislead(head, words, tmp_path):
    one = with_records(head or record("path", "a"))[:1024]
    (tmp_path / "a.tar").write_bytes(one * (1 if head else 600) + WHOLE)
    with pytest.raises(FormatError, match=rf"a\.tar: .*{words}"):
        read_tar(tmp_path / "a.tar", lambda path: True)


def test_damaged_bzip2(tmp_path):
    content = bytearray(bz2.compress(WHOLE))
    content[40] ^= 1
    with pytest.raises(FormatError, match=r"a\.tar: .*damaged"):
        read(content, tmp_path)


def test_zeros_behind_a_packed_archive(tmp_path):
    assert read(PACKED + bytes(1 << 10), tmp_path) == CONTENTS
    with pytest.raises(FormatError, match=r"a\.tar: .*ends in a megabyte of zeros"):
        read(PACKED + bytes(3 << 20), tmp_path)
