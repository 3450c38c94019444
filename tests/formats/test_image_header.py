"""Sizes read from headers, against the files that Pillow writes and against hand-made headers."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from convolve.errors import FormatError
from convolve.formats.image_header import MAX_SCANS, MAX_TILE_PIXELS, read_header

WIDTH, HEIGHT = 37, 23
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))


def encode(form, picture=PICTURE, **options):
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


ORIENTED = Image.Exif()
ORIENTED[0x112] = 6  # turned by 90 degrees
FILES = {
    "jpeg": encode("JPEG"),
    "jpeg progressive": encode("JPEG", progressive=True),
    "jpeg exif": encode("JPEG", exif=ORIENTED),
    "jpeg comment": encode("JPEG", comment=b"\xff\xd9\xff\xc0" * 100),
    "jpeg restarts": encode("JPEG", restart_marker_blocks=1),
    "jpeg trailing bytes": encode("JPEG") + b"trailing",
    "jpeg filled": encode("JPEG").replace(b"\xff\xc0", b"\xff\xff\xff\xc0", 1),
    "png": encode("PNG"),
    "png palette": encode("PNG", PICTURE.quantize(9)),
    "bmp": encode("BMP"),
    "bmp top-down": encode("BMP")[:22] + struct.pack("<i", -HEIGHT) + encode("BMP")[26:],
    "bmp os/2": b"BM" + bytes(8) + struct.pack("<IIHHHH", 26, 12, WIDTH, HEIGHT, 1, 24),
    "gif": encode("GIF"),
    "webp": encode("WEBP"),
    "webp lossless": encode("WEBP", lossless=True),
    "webp extended": encode("WEBP", exif=ORIENTED),
    "tiff": encode("TIFF"),
    "tiff big-endian": b"MM\0*" + struct.pack(">IHHHIHHHHIHH", 8, 2, 256, 3, 1, WIDTH, 0, 257, 3, 1, HEIGHT, 0),
    "ppm": encode("PPM"),
    "pbm": encode("PPM", PICTURE.convert("1")),
    "ppm comments": f"P3 # a comment\n#\n {WIDTH}\t#x\n{HEIGHT}\n255\n".encode(),
}


@pytest.mark.parametrize("kind", FILES)
def test_sizes(kind):
    assert read_header(FILES[kind], kind).size == (HEIGHT, WIDTH)


@pytest.mark.parametrize("kind", FILES)
def test_every_cut_in_the_header_is_refused(kind):
    for length in range(9):  # "P6 37 23 " is the shortest whole header
        with pytest.raises(FormatError, match=r"^name: "):
            read_header(FILES[kind][:length], "name")


@pytest.mark.parametrize("kind", ["jpeg", "jpeg progressive", "jpeg exif", "jpeg restarts", "png", "png palette"])
def test_cut_jpeg_and_png_files_are_refused_with_the_place(kind):
    content = FILES[kind]
    for length in np.linspace(20, len(content) - 1, 50, dtype=int):
        with pytest.raises(
            FormatError, match=f"^name: byte {length}: the (JPEG|PNG) file is cut off here; copy it again$"
        ):
            read_header(content[:length], "name")


def test_a_jpeg_file_whose_end_was_never_written_is_refused():
    content = FILES["jpeg"]
    half = len(content) // 2
    with pytest.raises(FormatError, match="cut off"):
        read_header(content[:half] + bytes(len(content) - half), "name")


def test_damaged_png_parts_are_named():
    content = bytearray(FILES["png"])
    place = content.index(b"IDAT")
    content[place + 20] ^= 1
    with pytest.raises(FormatError, match=f"^name: byte {place - 4}: the b'IDAT' part of the PNG file is damaged"):
        read_header(bytes(content), "name")


def test_damage_in_png_parts_that_do_not_matter_is_forgiven():
    extra = b"\0\0\0\x04tEXtk\0vvWRNG"
    content = FILES["png"]
    assert read_header(content[:33] + extra + content[33:], "name").size == (HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"hello world", "not a JPEG, PNG, .* or HEIC image; it begins with b'hello world'"),
        (b"BMW is a car, this a text", "not a JPEG, .* image; it begins with b'BMW is a car'"),
        (b"P3 this is a text", "the PNM file has no width and height"),
        (b"P3" + b" " * 1_000_000 + b"3 3\n", "the PNM file has no width and height"),
        (b"\xff\xd8" + b"\xff" * 1_000_000, "the JPEG file is cut off"),
        (b"\xff\xd8\xff\xe0\xff\xff" + b"\xff" * 1000, "the JPEG file is cut off"),
        (b"\xff\xd8\xff\xd9", "the JPEG file has no pixels"),
        (b"\xff\xd8\xff\xda\0\0\xff\xd9", "a JPEG file of 0 x 0 pixels"),
        (
            FILES["jpeg"].replace(struct.pack(">HH", HEIGHT, WIDTH), struct.pack(">HH", 0, WIDTH), 1),
            "JPEG file of 37 x 0",
        ),
        (
            FILES["png"][:8] + b"\0\0\0\0IEND" + struct.pack(">I", zlib.crc32(b"IEND")),
            "a PNG file without its IHDR part",
        ),
        (FILES["bmp"][:18] + struct.pack("<ii", -5, 5) + FILES["bmp"][26:], "a BMP file of -5 x 5 pixels"),
        (b"GIF89a" + bytes(7), "a GIF file of 0 x 0 pixels"),
        (b"RIFF\0\0\0\0WEBPVP9 " + bytes(30), "unknown first part b'VP9 '"),
        (b"II*\0" + struct.pack("<I", 2**32 - 1), "the TIFF file is cut off"),
        (b"II*\0" + struct.pack("<IH", 8, 0), "a TIFF file of 0 x 0 pixels"),
    ],
    ids=lambda value: repr(value[:16]),
)
def test_other_refusals(content, message):
    with pytest.raises(FormatError, match=f"^name: .*{message}"):
        read_header(content, "name")


def tiff(*entries):
    rows = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + rows


def test_of_equal_tags_in_a_tiff_file_the_first_counts_as_for_libtiff():
    large, small = [(256, 4, 24000), (257, 4, 24000)], [(256, 4, 28), (257, 4, 28)]
    assert read_header(tiff(*large, *small), "name").size == (24000, 24000)
    assert read_header(tiff(*small, *large), "name").size == (28, 28)


@pytest.mark.parametrize("kind", [2, 5, 6, 8, 9, 11, 12, 13, 16])
def test_sizes_of_unusual_types_in_a_tiff_file_are_refused(kind):
    with pytest.raises(FormatError, match=r"^name: a TIFF file whose size has an unusual type"):
        read_header(tiff((256, kind, 9000), (257, kind, 9000), (256, 4, 28), (257, 4, 28)), "name")


def test_avif_files_without_their_tables_are_refused():
    whole = encode("AVIF")
    assert read_header(whole, "name").size == (HEIGHT, WIDTH)
    for part in (b"meta", b"iprp", b"ipco", b"ipma", b"pitm", b"ispe"):
        with pytest.raises(FormatError, match=r"^name: "):
            read_header(whole.replace(part, b"free", 1), "name")
    for length in range(20, len(whole) - 1, 7):
        with pytest.raises(FormatError, match=r"^name: "):
            read_header(whole[:length], "name")


def test_jpeg_2000_files_say_their_size_where_the_decoder_reads_it():
    whole = encode("JPEG2000")
    assert read_header(whole, "name").size == (HEIGHT, WIDTH)
    at = whole.index(b"\xff\x4f\xff\x51") + 8
    larger = whole[:at] + struct.pack(">II", 60000, 50000) + whole[at + 8 :]
    assert read_header(larger, "name").size == (50000, 60000)
    for length in (13, 40, at):
        with pytest.raises(FormatError, match=r"^name: "):
            read_header(whole[:length], "name")


def test_tiff_tiles_are_limited():
    entries = [(256, 4, 1, 10), (257, 4, 1, 10), (322, 4, 1, 4096), (323, 4, 1, MAX_TILE_PIXELS // 4096 + 16)]
    content = b"II*\0" + struct.pack("<IH", 8, 4) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    with pytest.raises(FormatError, match="tiles of more than"):
        read_header(content, "name")


def test_progressive_scans_are_limited():
    content = FILES["jpeg progressive"]
    scan = content[content.rindex(b"\xff\xda") : -2]
    usual = content.count(b"\xff\xda")
    assert read_header(content[:-2] + scan * (MAX_SCANS - usual) + b"\xff\xd9", "name").size == (HEIGHT, WIDTH)
    with pytest.raises(FormatError, match=f"more than {MAX_SCANS} scans"):
        read_header(content[:-2] + scan * MAX_SCANS + b"\xff\xd9", "name")
