"""Decoded pixels against Pillow's, which uses the same C libraries through other code."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convolve.errors import DataError, FormatError
from convolve.formats.decode import decode_image, without_color

GOLDEN = Path(__file__).parents[1] / "golden" / "img"
RNG = np.random.default_rng(0)
NOISE_HWC = RNG.integers(0, 256, (30, 40, 3), dtype=np.uint8)
PICTURE = Image.fromarray(NOISE_HWC)


def encode(form, picture=PICTURE, **options):
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def with_alpha():
    rgba_HWC = np.concatenate([NOISE_HWC, RNG.integers(0, 256, (30, 40, 1), dtype=np.uint8)], axis=2)
    return Image.fromarray(rgba_HWC)


FRAMES = [Image.fromarray(np.roll(NOISE_HWC, shift, axis=1)).quantize(16).convert("RGB") for shift in range(4)]
ANIMATED = {"save_all": True, "append_images": FRAMES[1:], "duration": 100}
FILES = {
    "jpeg": encode("JPEG", quality=90),
    "jpeg 4:4:4": encode("JPEG", subsampling=0),
    "jpeg progressive": encode("JPEG", progressive=True),
    "jpeg gray": encode("JPEG", PICTURE.convert("L")),
    "png": encode("PNG"),
    "png interlaced palette": encode("PNG", PICTURE.quantize(16)),
    "png 1 bit": encode("PNG", PICTURE.convert("1")),
    "bmp": encode("BMP"),
    "gif": encode("GIF"),
    "webp": encode("WEBP"),
    "webp lossless": encode("WEBP", lossless=True),
    "tiff lzw": encode("TIFF", compression="tiff_lzw"),
    "ppm": encode("PPM"),
    "gif animated": encode("GIF", FRAMES[0], **ANIMATED),
    "png animated": encode("PNG", FRAMES[0], **ANIMATED),
    "webp animated": encode("WEBP", FRAMES[0], lossless=True, **ANIMATED),
}


@pytest.mark.parametrize("kind", FILES)
def test_color_pixels_equal_pillows(kind):
    image = decode_image(FILES[kind], kind)
    expected = np.asarray(Image.open(io.BytesIO(FILES[kind])).convert("RGB"))
    assert image.dtype == np.uint8
    assert np.array_equal(image[:, :, ::-1], expected)


def test_transparency_is_dropped():
    rgba = with_alpha()
    for content in (encode("PNG", rgba), encode("WEBP", rgba, lossless=True, exact=True)):
        assert np.array_equal(decode_image(content, "name")[:, :, ::-1], NOISE_HWC)


def test_sixteen_bits_become_eight():
    wide_HW = RNG.integers(0, 65536, (30, 40), dtype=np.uint16)
    image = decode_image(encode("PNG", Image.fromarray(wide_HW)), "name")
    assert np.array_equal(image[:, :, 0], wide_HW >> 8)


def test_cmyk_jpeg_files():
    cmyk = PICTURE.resize((8, 6)).resize((40, 30)).convert("CMYK")
    content = encode("JPEG", cmyk, quality=95)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert np.abs(decode_image(content, "name")[:, :, ::-1].astype(int) - expected).max() <= 1  # other rounding


def test_gray_jpeg_files_are_the_luma_plane():
    for content in (FILES["jpeg"], FILES["jpeg gray"]):
        luma = Image.open(io.BytesIO(content))
        luma.draft("L", luma.size)
        image = decode_image(content, "name", gray=True)
        assert image.shape == (30, 40, 1)
        assert np.array_equal(image[:, :, 0], np.asarray(luma.convert("L")))


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_one_pixel_with_color_is_color(channel):
    gray_HWC = np.repeat(NOISE_HWC[:, :, :1], 3, axis=2)
    np.testing.assert_array_equal(without_color(gray_HWC), NOISE_HWC[:, :, :1])
    np.testing.assert_array_equal(without_color(NOISE_HWC[:, :, :1]), NOISE_HWC[:, :, :1])
    gray_HWC[-1, -1, channel] ^= 1
    assert without_color(gray_HWC).shape == (30, 40, 3)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_exif_rotation_is_ignored(form):
    exif = Image.Exif()
    exif[0x112] = 6
    assert decode_image(encode(form, exif=exif), "name").shape == (30, 40, 3)


def png_of(width, height):
    def part(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = part(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + part(b"IDAT", zlib.compress(bytes(1000))) + part(b"IEND", b"")


def test_huge_dimensions_are_refused_before_memory_is_spent():
    for width, height in ((60000, 60000), (2**31 - 1, 1), (8193, 8193)):
        with pytest.raises(DataError, match=f"^name: {width} x {height} pixels, more than the limit of 67108864"):
            decode_image(png_of(width, height), "name")
    with pytest.raises(DataError, match="more than the limit of 1199"):
        decode_image(FILES["jpeg"], "name", max_pixels=1199)
    assert decode_image(FILES["jpeg"], "name", max_pixels=1200).shape == (30, 40, 3)


@pytest.mark.parametrize("kind", ["bmp", "gif", "webp", "webp lossless", "tiff lzw", "ppm", "png", "jpeg"])
@pytest.mark.parametrize("left", [0.2, 0.6, 0.97])
def test_truncated_files_are_refused_and_named(kind, left, capfd):
    content = FILES[kind]
    with pytest.raises(FormatError, match=r"^name: "):
        decode_image(content[: int(len(content) * left)], "name")
    assert capfd.readouterr().err == ""  # nothing of OpenCV's, libpng's or libjpeg's own


def test_pixels_that_the_header_promises_and_the_file_lacks():
    with pytest.raises(FormatError, match=r"^name: the image is damaged"):
        decode_image(png_of(400, 400), "name")


def test_images_that_cntk_read():
    for name in ("src0.jpg", "src1.jpg", "t.png", "t.bmp"):
        content = (GOLDEN / name).read_bytes()
        assert np.array_equal(
            decode_image(content, name)[:, :, ::-1], np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
        )
