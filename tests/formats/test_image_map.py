"""Map files: the lines that CNTK 2.7 accepted and refused when it was asked; comments name the exceptions."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from convolve.errors import FormatError, MissingDataError, UsageError
from convolve.formats.image_map import MAX_LINE_BYTES, read_image_map, write_image_map

BOM = b"\xef\xbb\xbf"


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "my map.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def locations(images):
    return [str(images.location(index)) for index in range(len(images))]


# Each of these CNTK read, with these labels.
@pytest.mark.parametrize(
    ("content", "labels"),
    [
        ("a.jpg\t3\n", [3]),
        ("a.jpg\t3", [3]),
        ("a.jpg\t3\r\nb.jpg\t2\r\n", [3, 2]),
        ("a.jpg\t3 \n", [3]),
        ("a.jpg\t 3\n", [3]),
        ("a.jpg\t+3\n", [3]),
        ("a.jpg\t003\n", [3]),
        ("a.jpg\t3\t\n", [3]),
        ("7\ta.jpg\t3\n", [3]),
        (" 7\ta.jpg\t3\n", [3]),
        ("7\ta.jpg\t3\n7\tb.jpg\t2\n", [3, 2]),
        ("7\ta.jpg\t3\nb.jpg\t2\n", [3, 2]),
        ("1\ta.jpg\t3\textra\n", [3]),
        ("with space.jpg\t1\n", [1]),
        ("naïve ☃.jpg\t1\n", [1]),
    ],
)
def test_what_cntk_reads(write, content, labels):
    images = read_image_map(write(content), classes=5)
    assert images.labels_N.tolist() == labels
    assert images.labels_N.dtype == np.int64
    assert len(images) == len(labels)
    assert images.location(0).file.endswith(".jpg")


# Each of these CNTK refused, naming line 0 where there is one.
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "a.jpg 3\n",
            r": line 1: two or three columns separated by tabs are expected, but there is no tab in 'a.jpg 3'$",
        ),
        ("a.jpg\t1\n\nb.jpg\t2\n", ": line 2: two or three columns"),
        ("a.jpg\t1\n\n", ": line 2: two or three columns"),
        ("a.jpg\t1\r\n\r\n", ": line 2: two or three columns"),
        ("a.jpg\n", ": line 1: two or three columns"),
        ("\t3\n", ": line 1: the path is missing"),
        ("a.jpg\t\n", ": line 1: the label is missing"),
        ("a.jpg\tcat\n", ": line 1: the label must be a whole number from 0, got 'cat'"),
        ('a.jpg\t"3"\n', ": line 1: the label must be"),
        ("a.jpg\t99999999999999999999999\n", ": line 1: the label must be"),
        ("a.jpg\t-1\n", ": line 1: the label must be"),
        ("a.jpg\t4\nb.jpg\t5\n", r": line 2: the label is 5; with 5 classes it must be in 0\.\.4"),
        ("a.jpg\t3\t\t\n", ": line 1: the key"),
        ("id7\ta.jpg\t3\nid2\tb.jpg\t1\n", ": line 1: the key .* whole number, got 'id7'"),
        ("\ta.jpg\t3\n", ": line 1: the key"),
        ("", ": holds no image"),
    ],
)
def test_what_cntk_refuses(write, content, message):
    with pytest.raises(FormatError, match="my map.txt" + message):
        read_image_map(write(content), classes=5)


# CNTK takes the digits that it finds: 3, 3, 0. Nobody means that.
@pytest.mark.parametrize("label", ["3abc", "3.7", "0x3", "3,4"])
def test_labels_with_a_tail_are_refused(write, label):
    with pytest.raises(FormatError, match="line 1: the label must be a whole number"):
        read_image_map(write(f"a.jpg\t{label}\n"))


def test_byte_order_mark_is_no_part_of_the_first_path(write):  # CNTK cannot open such a file's first image
    assert locations(read_image_map(write(BOM + b"a.jpg\t3\n"))) == ["a.jpg"]


def test_utf_16_is_refused(write):
    with pytest.raises(FormatError, match="line 1: "):
        read_image_map(write("a.jpg\t3\n".encode("utf-16")))


def test_a_file_without_line_breaks_is_not_read_whole(write):
    with pytest.raises(FormatError, match=f"line 2: longer than {MAX_LINE_BYTES} bytes"):
        read_image_map(write(b"a.jpg\t3\n" + b"x" * (MAX_LINE_BYTES + 1)))


def test_where_the_images_lie(write):
    path = write(
        "a.jpg\t0\n/abs/b.jpg\t0\n.../c.jpg\t0\n...\\d.jpg\t0\n...e.jpg\t0\nz.zip@/in/f.jpg\t0\n.../y.zip@\\in\\g.jpg\t0\n"
    )
    here = str(path.parent)
    as_cntk = [
        "a.jpg",
        "/abs/b.jpg",
        f"{here}/c.jpg",
        f"{here}/d.jpg",
        "...e.jpg",
        "z.zip@/in/f.jpg",
        f"{here}/y.zip@/in/g.jpg",
    ]
    assert locations(read_image_map(path)) == as_cntk
    location = read_image_map(path).location(6)
    assert (location.file, location.member) == (f"{here}/y.zip", "in/g.jpg")


def test_an_at_sign_alone_is_no_archive(write):
    location = read_image_map(write("me@home.jpg\t0\n")).location(0)
    assert (location.file, location.member) == ("me@home.jpg", "")


def test_names_that_are_no_utf_8_reach_the_file_system_unchanged(write):
    location = read_image_map(write(b"na\xefve.jpg\t0\n")).location(0)
    assert os.fsencode(location.file) == b"na\xefve.jpg"


def test_the_place_of_an_image(write):
    path = write("a.jpg\t0\nb.jpg\t1\n")
    assert read_image_map(path).place(1) == f"{path}: line 2"


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "map.txt"
    images = [("a b/é.jpg", 3), ("x.zip@/in/c.png", 0), ("/abs.jpg", 999)]
    write_image_map(path, images)
    assert path.read_bytes() == "a b/é.jpg\t3\nx.zip@/in/c.png\t0\n/abs.jpg\t999\n".encode()
    read = read_image_map(path)
    assert list(zip(locations(read), read.labels_N.tolist(), strict=True)) == images
    for name in ("a\tb", "a\nb", "a\rb", ""):
        with pytest.raises(UsageError, match="cannot stand in a map file"):
            write_image_map(path, [(name, 1)])
    assert locations(read_image_map(path)) == [name for name, _ in images]  # the refused ones left it as it was


def test_missing_and_unreadable_files(tmp_path):
    for path in (tmp_path / "nothing.txt", tmp_path):
        with pytest.raises(MissingDataError, match="it should be a map file"):
            read_image_map(path)


def test_packed_names_equal_the_lines(write):
    names = [f"{'ab' * (i % 7)}{i}.jpg" for i in range(1000)]
    images = read_image_map(write("".join(f"{name}\t{i % 10}\n" for i, name in enumerate(names))))
    assert locations(images) == names
    assert images.labels_N.tolist() == [i % 10 for i in range(1000)]
    assert images.file == Path(images.file)
