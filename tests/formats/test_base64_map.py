"""The base64 form of map files: the same lines accepted and refused as CNTK 2.7 did when it was asked."""

from __future__ import annotations

import base64

import pytest

from convolve.errors import FormatError
from convolve.formats.base64_map import read_base64_map

IMAGES = [bytes(range(k, k + 40 + k)) for k in range(3)]  # 40, 41 and 42 bytes: all three kinds of padding
TEXTS = [base64.b64encode(image).decode() for image in IMAGES]
T = TEXTS[0]


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "images.b64"
        path.write_bytes(content.encode("utf-8"))
        return path

    return write


@pytest.mark.parametrize(
    "lines",
    [
        [f"{k}\t{text}\n" for k, text in enumerate(TEXTS)],
        [f"{k + 7}\t{k}\t{text}\n" for k, text in enumerate(TEXTS)],
        [f"{k}\t{text}\r\n" for k, text in enumerate(TEXTS)],
        [f"0\t{k}\t{text} \t\n" for k, text in enumerate(TEXTS)],
        [f"{k}\t{text.rstrip('=')}\n" for k, text in enumerate(TEXTS)],
        [f"{k}\t{text}\n" for k, text in enumerate(TEXTS)] + ["\n"],
        ["\ufeff0\t" + TEXTS[0] + "\n", f"1\t{TEXTS[1]}\n", f"2\t{TEXTS[2]}"],  # CNTK wants a line break at the end
    ],
    ids=["label", "key", "crlf", "blanks", "no padding", "empty last line", "byte-order mark"],
)
def test_images_and_labels(write, lines):
    images = read_base64_map(write("".join(lines)), classes=3)
    assert images.labels_N.tolist() == [0, 1, 2]
    assert [images.read(index) for index in range(len(images))] == IMAGES


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"0\tx\t{T}\n", "line 1: the label must be a whole number from 0, got 'x'"),
        (f"0\t1\t{T}\n2\t{T}\n", "line 2: `key TAB label TAB base64` is expected, as in the first line"),
        (f"0\t5\t{T}\n", "line 1: the label is 5; with 5 classes"),
        (f"id\t3\t{T}\n", "line 1: the key .* 'id'"),
        ("0\t3\t\n", "line 1: `key TAB label TAB base64` is expected"),
        (f"1\t{T}\n\n1\t\n", "line 3: `label TAB base64` is expected"),
        ("3\n", "line 1: `label TAB base64` is expected"),
        ("", "holds no image"),
        ("\n\n", "holds no image"),
    ],
)
def test_refusals_name_the_line(write, content, message):
    with pytest.raises(FormatError, match=f"images.b64: {message}"):
        read_base64_map(write(content), classes=5)


@pytest.mark.parametrize("text", [T[:-7] + "*!", "A", "AB\tCD", "é" * 8])
def test_text_that_is_no_base64_is_named(write, text):  # CNTK warns and drops the image
    images = read_base64_map(write(f"1\t{T}\n2\t{text}\n") if "\t" not in text else write(f"0\t1\t{T}\n0\t2\t{text}\n"))
    assert images.read(0) == IMAGES[0]
    start = images.place(1).rsplit(" ", 1)[1]
    with pytest.raises(FormatError, match=f"images.b64: byte {start}: the image is not base64"):
        images.read(1)
