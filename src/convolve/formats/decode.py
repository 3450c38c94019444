"""Encoded image -> its size, its pixels, its planes.

The pixels are those that CNTK's reader decodes: through OpenCV, 8 bits, blue-green-red or gray, EXIF rotation ignored.
Transparency is dropped, 16 bits become 8, of an animation the first picture counts.

Height and width are read from the header, before memory is spent on the pixels: of JPEG, PNG, BMP, GIF, WebP, TIFF and
PNM, told apart by content. JPEG and PNG files are also checked for being whole: decoders fill what is missing with
gray, and print their opinion of it to stderr.
"""

from __future__ import annotations

import functools
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from convolve.errors import DataError, FormatError

Pixels = NDArray[np.uint8] | NDArray[np.float32]

MAX_PIXELS = 1 << 26  # 8192 x 8192: 201 MB decoded
# For the whole size, a half, a quarter, an eighth: OpenCV's flags for color and for gray.
_FLAGS = {
    1: (cv2.IMREAD_COLOR, cv2.IMREAD_GRAYSCALE),
    2: (cv2.IMREAD_REDUCED_COLOR_2, cv2.IMREAD_REDUCED_GRAYSCALE_2),
    4: (cv2.IMREAD_REDUCED_COLOR_4, cv2.IMREAD_REDUCED_GRAYSCALE_4),
    8: (cv2.IMREAD_REDUCED_COLOR_8, cv2.IMREAD_REDUCED_GRAYSCALE_8),
}

# The JPEG standard (ITU-T T.81) does not limit the scans of a progressive image, each of which goes over all its
# pixels. Encoders write about ten.
MAX_SCANS = 100
MAX_TILE_PIXELS = 1 << 24  # a TIFF tile is decoded whole, even where the image is smaller

_JPEG_MARKER = re.compile(rb"\xff([\x01-\xfe])")  # what stands between two segments is skipped, as libjpeg does
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0..15 without DHT, JPG and DAC
_JPEG_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_JPEG_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})  # TEM, RST0..7, SOI
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)
_PNM_BLANK = rb"(?:\s|#[^\n]*\n)+"
_PNM = re.compile(rb"P[1-6]" + _PNM_BLANK + rb"([0-9]{1,9})" + _PNM_BLANK + rb"([0-9]{1,9})\s")
_PNM_HEADER_BYTES = 4096  # with its comments
_TIFF_TAGS = {256: "width", 257: "height", 322: "tile width", 323: "tile height"}
_TIFF_NUMBERS = {1: "B", 3: "H", 4: "I"}


def decode_image(
    encoded: bytes,
    name: object,
    *,
    gray: bool = False,
    max_pixels: int = MAX_PIXELS,
    min_size: tuple[int, int] | None = None,
) -> NDArray[np.uint8]:
    """The pixels, uint8 (H, W, C): blue, green and red, or one channel with `gray`.

    A JPEG image that stays at least `min_size` (height, width) at a half, a quarter or an eighth of its size is decoded
    so, which takes a fraction of the time.

    Raises `FormatError` for what is no image, or a damaged one, and `DataError` for more than `max_pixels`, before
    memory is spent on it; `name` stands for the file in both. Damage inside the pixel data of a JPEG file goes unseen
    where the decoder can go on: it then shows as wrong pixels.
    """
    height, width = read_size(encoded, name)
    if height * width > max_pixels:
        raise DataError(f"{name}: {width} x {height} pixels, more than the limit of {max_pixels}; make it smaller")
    _silence_opencv()
    part = _part(height, width, min_size) if encoded.startswith(b"\xff\xd8") else 1
    flags = cv2.IMREAD_IGNORE_ORIENTATION | _FLAGS[part][gray]
    try:
        pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise FormatError(name, "", "the image is damaged, or of a variant that OpenCV does not decode; save it anew")
    return pixels.reshape(*pixels.shape[:2], 1 if gray else 3).astype(np.uint8, copy=False)


def _part(height: int, width: int, min_size: tuple[int, int] | None) -> int:
    """The largest part of the size to decode at, as 1, 2, 4 or 8."""
    if min_size is None:
        return 1
    return max(part for part in _FLAGS if part == 1 or (height // part >= min_size[0] and width // part >= min_size[1]))


@functools.cache
def _silence_opencv() -> None:
    """OpenCV logs every damaged file to stderr without its name; our own error names it."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def without_color(image_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One channel where all are the same: an image without color, however it is stored."""
    first_HW = image_HWC[:, :, 0]  # plane by plane: comparing pixel by pixel takes longer than decoding them
    is_gray = all(np.array_equal(first_HW, image_HWC[:, :, c]) for c in range(1, image_HWC.shape[2]))
    return image_HWC[:, :, :1] if is_gray else image_HWC


def to_planes(image_HWC: Pixels, channels: int) -> Pixels:
    """An image, gray or BGR, as one gray plane or three of red, green and blue: (C, H, W).

    In memory red, green and blue of a pixel stay together, as networks take them: batches keep that layout.
    """
    is_gray = image_HWC.shape[2] == 1
    if channels == 1:
        gray: Any = image_HWC if is_gray else cv2.cvtColor(image_HWC, cv2.COLOR_BGR2GRAY)
        plane: Pixels = np.ascontiguousarray(gray.reshape(1, *image_HWC.shape[:2]))
        return plane
    rgb_HWC: Any = np.repeat(image_HWC, 3, axis=2) if is_gray else cv2.cvtColor(image_HWC, cv2.COLOR_BGR2RGB)
    rgb_CHW: Pixels = rgb_HWC.transpose(2, 0, 1)
    return rgb_CHW


def read_size(encoded: bytes, name: object) -> tuple[int, int]:
    """(height, width) in pixels, before any rotation; `name` stands for the file in messages.

    Raises `FormatError` for what is no image of a known kind, and for JPEG and PNG files that are visibly damaged.
    """
    for kind, (signature, reader) in _KINDS.items():
        if signature.match(encoded):
            try:
                height, width = reader(encoded, name)
            except struct.error:
                raise _cut_off(kind, encoded, name) from None
            if height < 1 or width < 1:
                raise FormatError(name, "", f"a {kind} file of {width} x {height} pixels")
            return height, width
    if not encoded:
        raise FormatError(name, "", "the file is empty")
    *kinds, last = _KINDS
    raise FormatError(name, "", f"no {', '.join(kinds)} or {last} image; it begins with {encoded[:12]!r}")


def _cut_off(kind: str, data: bytes, name: object) -> FormatError:
    return FormatError(name, f"byte {len(data)}", f"the {kind} file is cut off here; copy it again")


def _jpeg(data: bytes, name: object) -> tuple[int, int]:
    size, progressive, position = (0, 0), False, 2
    while (found := _JPEG_MARKER.search(data, position)) and found[1] != b"\xda":  # up to the first scan
        marker, position = found[1][0], found.end()
        if marker == 0xD9:
            raise FormatError(name, f"byte {found.start()}", "the JPEG file has no pixels")
        if marker in _JPEG_FRAMES:
            size = struct.unpack_from(">HH", data, position + 3)
            progressive = marker in _JPEG_PROGRESSIVE
        if marker not in _JPEG_WITHOUT_LENGTH:
            position += struct.unpack_from(">H", data, position)[0]
    if not found or data.rfind(b"\xff\xd9", position) < 0:
        raise _cut_off("JPEG", data, name)
    if progressive and data.count(b"\xff\xda", position) > MAX_SCANS:
        raise FormatError(name, "", f"a progressive JPEG file with more than {MAX_SCANS} scans")
    return size


def _png(data: bytes, name: object) -> tuple[int, int]:
    view, position, kind = memoryview(data), 8, b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        (checksum,) = struct.unpack_from(">I", data, end)
        needed = not kind[0] & 0x20  # a capital letter: the image cannot be decoded without this chunk
        if needed and zlib.crc32(view[position + 4 : end]) != checksum:
            raise FormatError(name, f"byte {position}", f"the {kind!r} part of the PNG file is damaged; copy it again")
        position = end + 4
    if data[12:16] != b"IHDR":
        raise FormatError(name, "byte 12", "a PNG file without its IHDR part")
    width, height = struct.unpack_from(">II", data, 16)
    return height, width


def _bmp(data: bytes, name: object) -> tuple[int, int]:
    (header_bytes,) = struct.unpack_from("<I", data, 14)
    if header_bytes not in _BMP_HEADERS:
        raise FormatError(name, "byte 14", f"no BMP file has a header of {header_bytes} bytes")
    width, height = struct.unpack_from("<HH" if header_bytes == 12 else "<ii", data, 18)
    return abs(height), width  # a negative height only turns the order of the rows


def _gif(data: bytes, name: object) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", data, 6)
    return height, width


def _webp(data: bytes, name: object) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return height & 0x3FFF, width & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if kind == b"VP8X":
        low_width, high_width, low_height, high_height = struct.unpack_from("<HBHB", data, 24)
        return (high_height << 16 | low_height) + 1, (high_width << 16 | low_width) + 1
    raise FormatError(name, "byte 12", f"a WebP file with an unknown first part {kind!r}")


def _tiff(data: bytes, name: object) -> tuple[int, int]:
    order = "<" if data[:2] == b"II" else ">"
    (directory,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, directory)
    sizes = dict.fromkeys(_TIFF_TAGS.values(), 0)
    for entry in range(directory + 2, directory + 2 + 12 * count, 12):
        tag, number_type = struct.unpack_from(order + "HH", data, entry)
        if tag in _TIFF_TAGS and number_type in _TIFF_NUMBERS:
            (sizes[_TIFF_TAGS[tag]],) = struct.unpack_from(order + _TIFF_NUMBERS[number_type], data, entry + 8)
    if sizes["tile width"] * sizes["tile height"] > MAX_TILE_PIXELS:
        raise FormatError(name, f"byte {directory}", f"a TIFF file with tiles of more than {MAX_TILE_PIXELS} pixels")
    return sizes["height"], sizes["width"]


def _pnm(data: bytes, name: object) -> tuple[int, int]:
    found = _PNM.match(data[:_PNM_HEADER_BYTES])
    if not found:
        raise FormatError(name, "byte 2", "width and height of the PNM file are not there")
    return int(found[2]), int(found[1])


_KINDS: dict[str, tuple[re.Pattern[bytes], Callable[[bytes, object], tuple[int, int]]]] = {
    "JPEG": (re.compile(rb"\xff\xd8\xff"), _jpeg),
    "PNG": (re.compile(rb"\x89PNG\r\n\x1a\n"), _png),
    "BMP": (re.compile(rb"BM"), _bmp),
    "GIF": (re.compile(rb"GIF8[79]a"), _gif),
    "WebP": (re.compile(rb"RIFF....WEBP", re.DOTALL), _webp),
    "TIFF": (re.compile(rb"II\*\0|MM\0\*"), _tiff),
    "PNM": (re.compile(rb"P[1-6][\s#]"), _pnm),
}
