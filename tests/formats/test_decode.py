"""Decoded pixels against Pillow's, which uses the same C libraries through other code."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from convolve.errors import DataError, FormatError
from convolve.formats.decode import Decoding, decode_image, decoded_size, without_color
from convolve.formats.image_header import orientation

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
        image = decode_image(content, "name", Decoding(gray=True))
        assert image.shape == (30, 40, 1)
        assert np.array_equal(image[:, :, 0], np.asarray(luma.convert("L")))


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_one_pixel_with_color_is_color(channel):
    gray_HWC = np.repeat(NOISE_HWC[:, :, :1], 3, axis=2)
    np.testing.assert_array_equal(without_color(gray_HWC), NOISE_HWC[:, :, :1])
    np.testing.assert_array_equal(without_color(NOISE_HWC[:, :, :1]), NOISE_HWC[:, :, :1])
    gray_HWC[-1, -1, channel] ^= 1
    assert without_color(gray_HWC).shape == (30, 40, 3)


FORMS = {"JPEG": {"quality": 95}, "PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}, "AVIF": {"quality": 95}}
STEPS = Image.fromarray(
    np.repeat(np.kron(np.arange(20, 250, 20).reshape(3, 4), np.ones((16, 16)))[:, :, None], 3, 2).astype(np.uint8)
)


def turned(form, number):
    """A file whose pixels are to be turned as EXIF's `number` says to look like `STEPS`."""
    exif = Image.Exif()
    exif[0x112] = number
    return encode(form, STEPS, exif=exif, **FORMS[form])


def as_viewers_show(encoded):
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))).convert("RGB")).astype(int)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("number", range(1, 9))
def test_photographs_are_turned_as_exif_says(form, number):
    encoded = turned(form, number)
    expected = as_viewers_show(encoded)
    assert orientation(encoded) == number
    for gray in (False, True):
        image = decode_image(encoded, "name", Decoding(gray=gray))
        assert image.shape[:2] == expected.shape[:2] == decoded_size(encoded, "name", Decoding())
        assert abs(image - expected[:, :, :1]).mean() < 3


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_stored_images_are_not_turned(form):
    encoded, stored = turned(form, 6), Decoding(orientation="stored")
    assert decoded_size(encoded, "name", stored) == decode_image(encoded, "name", stored).shape[:2] == (48, 64)
    assert decode_image(encoded, "name").shape == (64, 48, 3)


def test_smaller_versions_are_chosen_by_the_turned_size():
    encoded = turned("JPEG", 6)  # 48 x 64, seen as 64 x 48
    assert decode_image(encoded, "name", Decoding(min_size=(32, 24))).shape == (32, 24, 3)
    assert decode_image(encoded, "name", Decoding(min_size=(24, 32))).shape == (64, 48, 3)
    assert decode_image(encoded, "name", Decoding(min_size=(24, 32), orientation="stored")).shape == (24, 32, 3)


def exif_with(entry, order="<", magic=b"II*\0"):
    return magic + struct.pack(order + "IH", 8, 1) + entry + bytes(4)


@pytest.mark.parametrize(
    ("exif", "number"),
    [
        (exif_with(struct.pack("<HHIHH", 0x112, 3, 1, 6, 0)), 6),
        (exif_with(struct.pack(">HHIHH", 0x112, 3, 1, 8, 0), ">", b"MM\0*"), 8),
        (exif_with(struct.pack("<HHII", 0x112, 4, 1, 3)), 3),  # a LONG, as some write it
        (exif_with(struct.pack("<HHIHH", 0x112, 3, 1, 0, 0)), 1),
        (exif_with(struct.pack("<HHIHH", 0x112, 3, 1, 9, 0)), 1),
        (exif_with(struct.pack("<HHII", 0x112, 2, 1, 6)), 1),  # text
        (exif_with(struct.pack("<HHII", 0x10F, 3, 1, 6)), 1),
        (b"II*\0" + struct.pack("<I", 2**32 - 1), 1),
        (b"II*\0" + struct.pack("<IH", 8, 60000), 1),
        (b"no EXIF", 1),
        (b"", 1),
    ],
)
def test_damaged_exif_leaves_the_image_as_it_is(exif, number):
    encoded = encode("JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", 8 + len(exif)) + b"Exif\0\0" + exif
    encoded = encoded[:2] + segment + encoded[2:]
    assert orientation(encoded) == number
    assert decode_image(encoded, "name").shape == ((40, 30, 3) if number > 4 else (30, 40, 3))


def test_what_is_no_image_has_no_orientation():
    assert orientation(b"") == orientation(b"hello") == orientation(encode("PNG")[:30]) == 1


@pytest.mark.parametrize("options", [{}, {"no_jp2": True}])
def test_jpeg_2000(options):
    encoded = encode("JPEG2000", **options)
    np.testing.assert_array_equal(decode_image(encoded, "name")[:, :, ::-1], NOISE_HWC)
    with pytest.raises(
        DataError, match="name: 40 x 30 pixels, more than the limit of 1,199; make it smaller, or raise"
    ):
        decode_image(encoded, "name", Decoding(max_pixels=1199))


def test_heic():
    from_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    from_heif.from_pillow(STEPS).save(file, quality=95)
    encoded = file.getvalue()
    assert abs(decode_image(encoded, "name")[:, :, ::-1] - np.asarray(STEPS).astype(int)).mean() < 3
    assert decode_image(encoded, "name", Decoding(gray=True)).shape == (48, 64, 1)
    with pytest.raises(DataError, match="more than the limit of 99"):
        decode_image(encoded, "name", Decoding(max_pixels=99))
    for length in (40, len(encoded) // 2, len(encoded) - 10):
        with pytest.raises(FormatError, match=r"^name: "):
            decode_image(encoded[:length], "name")


def test_heic_without_the_extra(monkeypatch):
    monkeypatch.setattr("convolve.formats.image_kind.find_spec", lambda module: None)
    with pytest.raises(FormatError, match=r"^name: the file is HEIC, .*; install .*pip install .*heic"):
        decode_image(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "name")


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3)])
def test_tiff_files_without_a_white_are_refused_by_name(shape):
    for kind, words in ((np.float32, "floating-point numbers"), (np.float64, "floating-point"), (np.int32, "32 bits")):
        ok, encoded = cv2.imencode(".tif", np.zeros(shape, kind))
        assert ok
        with pytest.raises(FormatError, match=rf"^name: a TIFF file of .*{words}.*; save it with 8 or 16 bits"):
            decode_image(encoded.tobytes(), "name")


def test_what_is_known_and_not_decoded_is_named():
    with pytest.raises(FormatError, match=r"^name: the file is PDF, which cannot be decoded; convert to JPEG or PNG$"):
        decode_image(b"%PDF-1.7", "name")


def png_of(width, height):
    def part(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = part(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + part(b"IDAT", zlib.compress(bytes(1000))) + part(b"IEND", b"")


def test_huge_dimensions_are_refused_before_memory_is_spent():
    for width, height in ((60000, 60000), (2**31 - 1, 1), (8193, 8193)):
        with pytest.raises(DataError, match=f"^name: {width} x {height} pixels, more than the limit of 67,108,864"):
            decode_image(png_of(width, height), "name")
    with pytest.raises(DataError, match=r"make it smaller, or raise the limit with --max-megapixels 96$"):
        decode_image(png_of(12000, 8000), "name")
    with pytest.raises(DataError, match=r"make it smaller$"):  # no number lifts that
        decode_image(png_of(60000, 60000), "name")
    with pytest.raises(DataError, match="more than the limit of 1,199"):
        decode_image(FILES["png"], "name", Decoding(max_pixels=1199))
    assert decode_image(FILES["png"], "name", Decoding(max_pixels=1200)).shape == (30, 40, 3)


def test_large_jpeg_files_are_decoded_at_a_half_a_quarter_or_an_eighth():
    sizes = {1200: (30, 40), 1199: (15, 20), 300: (15, 20), 299: (8, 10), 80: (8, 10), 79: (4, 5), 20: (4, 5)}
    for limit, size in sizes.items():
        for encoded in (FILES["jpeg"], FILES["jpeg gray"]):
            assert decode_image(encoded, "name", Decoding(max_pixels=limit)).shape == (*size, 3)
    assert decode_image(FILES["jpeg"], "name", Decoding(max_pixels=299, min_size=(15, 20))).shape == (8, 10, 3)
    with pytest.raises(DataError, match="name: 40 x 30 pixels, more than the limit of 19; make it smaller, or raise"):
        decode_image(FILES["jpeg"], "name", Decoding(max_pixels=19))


def test_progressive_jpeg_files_are_held_whole():
    """libjpeg keeps all their coefficients: memory that a smaller version does not save."""
    assert decode_image(FILES["jpeg progressive"], "name", Decoding(max_pixels=600)).shape == (15, 20, 3)
    with pytest.raises(DataError, match="more than the limit of 599"):
        decode_image(FILES["jpeg progressive"], "name", Decoding(max_pixels=599))


def test_jpeg_files_beyond_what_opencv_decodes():
    sizes = struct.pack(">HH", 30, 40), struct.pack(">HH", 65500, 65500)
    with pytest.raises(DataError, match="name: 65500 x 65500 pixels, more than the limit"):
        decode_image(FILES["jpeg"].replace(*sizes, 1), "name")


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
