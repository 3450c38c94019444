"""Bytes of files and zip members, and everything that can be wrong with them."""

from __future__ import annotations

import os
import threading
import zipfile

import pytest

from convolve.errors import DataError, FormatError, MissingDataError
from convolve.formats.archive import ByteReader, Location, parse_location


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("cats/tom.jpg", b"tom" * 100)
        file.writestr("cats/é ☃.jpg", b"snow", zipfile.ZIP_DEFLATED)
        file.writestr("bomb.bmp", bytes(1_000_000), zipfile.ZIP_DEFLATED)
    return path


@pytest.mark.parametrize(
    ("text", "file", "member"),
    [
        ("a.jpg", "a.jpg", ""),
        ("a.zip@/in/b.jpg", "a.zip", "in/b.jpg"),
        ("a.zip@\\in\\b.jpg", "a.zip", "in/b.jpg"),
        ("me@home/a.zip@/b@/c.jpg", "me@home/a.zip", "b@/c.jpg"),
        ("me@home.jpg", "me@home.jpg", ""),
        ("a.zip@/", "a.zip@/", ""),
        ("@/b.jpg", "@/b.jpg", ""),
        ("C:\\a.jpg", "C:\\a.jpg", ""),
    ],
)
def test_locations(text, file, member):
    assert parse_location(text) == Location(file, member)


def test_files_and_members(archive, tmp_path):
    (tmp_path / "plain.jpg").write_bytes(b"plain")
    with ByteReader() as reader:
        assert reader.read(Location(str(tmp_path / "plain.jpg"))) == b"plain"
        assert reader.read(Location(str(archive), "cats/tom.jpg")) == b"tom" * 100
        assert reader.read(Location(str(archive), "cats/é ☃.jpg")) == b"snow"


def test_what_is_missing_is_named(archive, tmp_path):
    with ByteReader() as reader:
        with pytest.raises(MissingDataError, match=r"nothing.jpg: No such file or directory; relative paths in a map"):
            reader.read(Location(str(tmp_path / "nothing.jpg")))
        with pytest.raises(MissingDataError, match=r"nothing.zip: No such file or directory; the part .* before `@`"):
            reader.read(Location(str(tmp_path / "nothing.zip"), "a.jpg"))
        with pytest.raises(MissingDataError, match=r"photos.zip@/cats/tim.jpg: .* did you mean cats/tom.jpg\?"):
            reader.read(Location(str(archive), "cats/tim.jpg"))
        with pytest.raises(MissingDataError, match=r"zero|null"):
            reader.read(Location("a\0b"))


def test_no_folders_pipes_or_devices(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with ByteReader() as reader:
        with pytest.raises(DataError, match="a folder, not a file"):
            reader.read(Location(str(tmp_path)))
        for path in (str(tmp_path / "pipe.jpg"), "/dev/zero"):
            with pytest.raises(DataError, match="a device or pipe, not a file"):
                reader.read(Location(path))


def test_limits_hold_before_the_bytes_are_read(archive, tmp_path):
    (tmp_path / "large.jpg").write_bytes(bytes(1001))
    with ByteReader(max_bytes=1000) as reader:
        for location in (Location(str(archive), "bomb.bmp"), Location(str(tmp_path / "large.jpg"))):
            with pytest.raises(DataError, match="more than 1000 bytes, too large"):
                reader.read(location)
        assert len(reader.read(Location(str(archive), "cats/tom.jpg"))) == 300


def test_damaged_archives_are_named(archive, tmp_path):
    content = bytearray(archive.read_bytes())
    content[content.index(b"tomtom")] ^= 1
    (tmp_path / "flipped.zip").write_bytes(content)
    (tmp_path / "cut.zip").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.zip").write_bytes(b"no zip at all")
    encrypted = bytearray(archive.read_bytes())
    for sign, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        encrypted[encrypted.index(sign) + flags] |= 1
    (tmp_path / "encrypted.zip").write_bytes(encrypted)
    with ByteReader() as reader:
        for name, message in (
            ("flipped.zip", "flipped.zip@/cats/tom.jpg: cannot be unpacked .*CRC"),
            ("cut.zip", "cut.zip: not a zip archive"),
            ("text.zip", "text.zip: not a zip archive"),
            ("encrypted.zip", "encrypted.zip@/cats/tom.jpg: cannot be unpacked .*(encrypted|password)"),
        ):
            with pytest.raises(FormatError, match=message):
                reader.read(Location(str(tmp_path / name), "cats/tom.jpg"))


def test_threads_share_one_reader(archive):
    wrong = []

    def read():
        for _ in range(100):
            if reader.read(Location(str(archive), "cats/tom.jpg")) != b"tom" * 100:
                wrong.append("tom")
            if reader.read(Location(str(archive), "cats/é ☃.jpg")) != b"snow":
                wrong.append("snow")

    with ByteReader() as reader:
        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
