"""Kinds of images told by their first bytes: files of Pillow's and OpenCV's encoders, and beginnings of others."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from convolve.formats.image_kind import KINDS, image_kind

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (23, 37, 3), dtype=np.uint8))


def encode(form, **options):
    file = io.BytesIO()
    PICTURE.save(file, form, **options)
    return file.getvalue()


def tiff(*entries, order="<"):
    """The head of a TIFF file with these (tag, number) in its directory."""
    rows = b"".join(struct.pack(order + "HHII", tag, 4, 1, number) for tag, number in entries)
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(entries)) + rows


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (encode("JPEG"), "JPEG"),
        (encode("MPO"), "JPEG"),
        (encode("PNG"), "PNG"),
        (encode("BMP"), "BMP"),
        (encode("GIF"), "GIF"),
        (encode("WEBP"), "WebP"),
        (encode("TIFF"), "TIFF"),
        (encode("PPM"), "PNM"),
        (encode("AVIF"), "AVIF"),
        (b"\0\0\0\x20ftypmif1\0\0\0\0mif1avifmiafMA1B", "AVIF"),
        (encode("JPEG2000"), "JPEG 2000"),
        (encode("JPEG2000", no_jp2=True), "JPEG 2000"),
    ],
)
def test_what_is_decoded(head, name):
    kind = image_kind(head[:4096])
    assert kind and (kind.name, kind.is_decoded, kind.is_readable) == (name, True, True)


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"hevc", b"mif1"])
def test_heic_needs_an_extra(brand, monkeypatch):
    kind = image_kind(b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1heic")
    assert kind and kind.name == "HEIC" and kind.is_decoded
    monkeypatch.setattr("convolve.formats.image_kind.find_spec", lambda module: None)
    assert not kind.is_readable
    assert "heic" in kind.remedy and "pip install" in kind.remedy


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"II*\0\x10\0\0\0CR\x02\0", "camera raw"),  # Canon's CR2
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "camera raw"),  # CR3
        (tiff((254, 1), (256, 160), (257, 120), (330, 100)), "camera raw"),  # Nikon's NEF, Sony's ARW
        (tiff((254, 0), (50706, 0x0401), order=">"), "camera raw"),  # DNG
        (b"FUJIFILMCCD-RAW 0201", "camera raw"),
        (b"IIU\0\x18\0\0\0", "camera raw"),  # Panasonic's RW2
        (b"8BPS\0\1", "Photoshop"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg">', "SVG"),
        (b"%PDF-1.7", "PDF"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42", "video"),
        (b"RIFF\0\0\0\0AVI LIST", "video"),
        (b"\xff\x0a\xfa\x1f", "JPEG XL"),
        (bytes(128) + b"DICM", "DICOM"),
        (b"<!DOCTYPE html><html>404</html>", "HTML"),
    ],
)
def test_what_is_named_only(head, name):
    kind = image_kind(head)
    assert kind and (kind.name, kind.is_readable) == (name, False)


def test_a_tiff_file_with_a_smaller_version_of_itself_is_no_camera_raw():
    assert image_kind(tiff((254, 0), (256, 160), (330, 100))).name == "TIFF"


@pytest.mark.parametrize(
    "head", [b"", b"a", b"BMW is a car, this is a text", b"\0\0\x08\x03\0\0\xea\x60", b"PK\3\4", b"path\t3"]
)
def test_what_is_none(head):
    assert image_kind(head) is None


def test_no_beginning_hangs_or_fails():
    rng = np.random.default_rng(0)
    for kind in KINDS:
        start = encode("TIFF") if kind.name == "TIFF" else kind.signature.pattern[:12]
        for _ in range(20):
            image_kind(start + rng.bytes(100))
    image_kind(b"<?xml" + b" " * 4096)
    image_kind(b" " * 4096)
