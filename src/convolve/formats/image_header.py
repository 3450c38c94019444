"""The header of an encoded image, read before memory is allocated for its pixels: its size and its orientation.

JPEG and PNG files are also checked for completeness: decoders fill missing parts with gray, and print warnings to
stderr.
"""

import re
import struct
import zlib
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass

from convolve.errors import FormatError
from convolve.formats.image_kind import HEAD_BYTES, decoded_kinds, image_kind

UPRIGHT = 1  # of EXIF's eight orientations
ON_ITS_SIDE = 5  # and those above: height and width change places

# The JPEG standard (ITU-T T.81) does not limit the number of scans of a progressive image, each of which covers all its
# pixels. Encoders write about ten.
MAX_SCANS = 100
MAX_TILE_PIXELS = 1 << 24  # a TIFF tile is decoded completely, even if the image is smaller

_JPEG_MARKER = re.compile(rb"\xff([\x01-\xfe])")  # what stands between two segments is skipped, as libjpeg does
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0..15 without DHT, JPG and DAC
_JPEG_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_JPEG_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})  # TEM, RST0..7, SOI
_JPEG_APP1 = 0xE1
_EXIF = b"Exif\0\0"
_PNM_BLANK = rb"(?:\s|#[^\n]*\n)+"
_PNM = re.compile(rb"P[1-6]" + _PNM_BLANK + rb"([0-9]{1,9})" + _PNM_BLANK + rb"([0-9]{1,9})\s")
_WIDTH, _HEIGHT, _ORIENTATION, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 274, 322, 323  # tags of TIFF, which EXIF uses too
_BITS, _MEANING, _SAMPLES, _NUMBERS = 258, 262, 277, 339
_RGB, _FLOATS = 2, 3  # of the meaning, of the numbers
_TIFF_NUMBERS = {1: "B", 3: "H", 4: "I"}
_SIZ = b"\xff\x4f\xff\x51"  # how the codestream of JPEG 2000 begins
# The orientation that a turn to the left by so many quarters and a mirror image after it (or none) come to: AVIF.
_TURNED = {
    (0, None): 1, (1, None): 8, (2, None): 3, (3, None): 6,
    (0, 1): 2, (1, 1): 7, (2, 1): 4, (3, 1): 5,
    (0, 0): 4, (1, 0): 5, (2, 0): 2, (3, 0): 7,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Header:
    """`height` and `width` in pixels as they are stored.

    `orientation`: EXIF's number for how to rotate them. `kind`: see `image_kind`. A `progressive` JPEG file needs
    memory for all its pixels, at whatever size it is decoded. `has_alpha`: parts may be transparent (PNG, WebP and
    TIFF).
    """

    kind: str
    height: int
    width: int
    orientation: int = UPRIGHT
    progressive: bool = False
    has_alpha: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), as stored."""
        return self.height, self.width

    @property
    def turned_size(self) -> tuple[int, int]:
        """(height, width), after rotation."""
        return (self.width, self.height) if self.orientation >= ON_ITS_SIDE else self.size


def orientation(encoded: bytes) -> int:
    """EXIF's orientation, 1 to 8; 1, upright, if the image has none, or is not an image."""
    try:
        return read_header(encoded, "").orientation
    except FormatError:
        return UPRIGHT


def read_header(encoded: bytes, name: object) -> Header:
    """The header of an image that can be decoded; `name` is the file's name in messages.

    Raises `FormatError` for files of unknown kinds, and for visibly damaged JPEG and PNG files.
    """
    if not encoded:
        raise FormatError(name, "", "the file is empty")
    kind = image_kind(encoded)
    if kind is None:
        raise FormatError(name, "", f"not a {decoded_kinds()} image; it begins with {encoded[:12]!r}")
    if not kind.is_readable:
        raise FormatError(name, "", f"the file is {kind.name}, which cannot be decoded; {kind.remedy}")
    try:
        header = _READERS[kind.name](encoded, name)
    except (struct.error, LookupError):  # an error about missing tables of AVIF
        raise _cut_off(kind.name, encoded, name) from None
    if header.height < 1 or header.width < 1:
        raise FormatError(name, "", f"a {kind.name} file of {header.width} x {header.height} pixels")
    return header


def _cut_off(kind: str, data: bytes, name: object) -> FormatError:
    return FormatError(name, f"byte {len(data)}", f"the {kind} file is cut off here; copy it again")


def _jpeg(data: bytes, name: object) -> Header:
    size, progressive, position, turn = (0, 0), False, 2, 0
    while (found := _JPEG_MARKER.search(data, position)) and found[1] != b"\xda":  # up to the first scan
        marker, position = found[1][0], found.end()
        if marker == 0xD9:
            raise FormatError(name, f"byte {found.start()}", "the JPEG file has no pixels")
        if marker in _JPEG_FRAMES:
            size = struct.unpack_from(">HH", data, position + 3)
            progressive = marker in _JPEG_PROGRESSIVE
        elif marker == _JPEG_APP1 and not turn and data.startswith(_EXIF, position + 2):
            turn = _exif_orientation(data[position + 8 : position + struct.unpack_from(">H", data, position)[0]])
        if marker not in _JPEG_WITHOUT_LENGTH:
            position += struct.unpack_from(">H", data, position)[0]
    if not found or data.rfind(b"\xff\xd9", position) < 0:
        raise _cut_off("JPEG", data, name)
    if progressive and data.count(b"\xff\xda", position) > MAX_SCANS:
        raise FormatError(name, "", f"a progressive JPEG file with more than {MAX_SCANS} scans")
    return Header("JPEG", *size, turn or UPRIGHT, progressive)


def _png(data: bytes, name: object) -> Header:
    view, position, kind, turn, has_alpha = memoryview(data), 8, b"", UPRIGHT, data[25:26] in (b"\4", b"\6")
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        (checksum,) = struct.unpack_from(">I", data, end)
        needed = not kind[0] & 0x20  # a capital letter: without this chunk the image cannot be decoded
        if needed and zlib.crc32(view[position + 4 : end]) != checksum:
            raise FormatError(name, f"byte {position}", f"the {kind!r} part of the PNG file is damaged; copy it again")
        if kind == b"eXIf":
            turn = _exif_orientation(data[position + 8 : end])
        has_alpha |= kind == b"tRNS"
        position = end + 4
    if data[12:16] != b"IHDR":
        raise FormatError(name, "byte 12", "a PNG file without its IHDR part")
    width, height = struct.unpack_from(">II", data, 16)
    return Header("PNG", height, width, turn, has_alpha=has_alpha)


def _bmp(data: bytes, name: object) -> Header:
    is_old = data[14] == 12
    width, height = struct.unpack_from("<HH" if is_old else "<ii", data, 18)
    return Header("BMP", abs(height), width)  # a negative height only reverses the order of the rows


def _gif(data: bytes, name: object) -> Header:
    width, height = struct.unpack_from("<HH", data, 6)
    return Header("GIF", height, width)


def _webp(data: bytes, name: object) -> Header:
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header("WebP", height & 0x3FFF, width & 0x3FFF)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return Header("WebP", (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1, has_alpha=bool(bits >> 28 & 1))
    if kind == b"VP8X":
        flags, low_width, high_width, low_height, high_height = struct.unpack_from("<B3xHBHB", data, 20)
        turn = _webp_orientation(data) if flags & 8 else UPRIGHT
        height, width = (high_height << 16 | low_height) + 1, (high_width << 16 | low_width) + 1
        return Header("WebP", height, width, turn, has_alpha=bool(flags & 16))
    raise FormatError(name, "byte 12", f"a WebP file with an unknown first part {kind!r}")


def _webp_orientation(data: bytes) -> int:
    position = 12
    while position + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, position)
        if kind == b"EXIF":
            return _exif_orientation(data[position + 8 : position + 8 + length].removeprefix(_EXIF))
        position += 8 + length + length % 2
    return UPRIGHT


def _tiff(data: bytes, name: object) -> Header:
    wanted = (_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT)
    found = _tiff_numbers(data, (*wanted, _ORIENTATION, _BITS, _MEANING, _SAMPLES, _NUMBERS))
    if None in (found.get(tag, 0) for tag in wanted):  # which libtiff may read, taking it for a huge size
        raise FormatError(name, "", "a TIFF file whose size has an unusual type; save it again")
    width, height, tile_width, tile_height = (found.get(tag) or 0 for tag in wanted)
    if found.get(_NUMBERS) == _FLOATS or (found.get(_BITS) or 0) >= 32:
        what = "floating-point numbers" if found.get(_NUMBERS) == _FLOATS else "numbers of 32 bits"
        raise FormatError(name, "", f"a TIFF file of {what}, whose white level is unknown; save it with 8 or 16 bits")
    if tile_width * tile_height > MAX_TILE_PIXELS:
        raise FormatError(name, "", f"a TIFF file with tiles of more than {MAX_TILE_PIXELS} pixels")
    has_alpha = (found.get(_MEANING), found.get(_SAMPLES)) == (_RGB, 4)
    return Header("TIFF", height, width, _valid(found.get(_ORIENTATION)), has_alpha=has_alpha)


def _tiff_numbers(data: bytes, wanted: Container[int]) -> dict[int, int | None]:
    """The first numbers of the `wanted` tags in the first directory; None for one of an unusual type.

    Of a tag that stands there twice the first counts, as for libtiff.
    """
    order = "<" if data[:2] == b"II" else ">"
    (directory,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, directory)
    found: dict[int, int | None] = {}
    for entry in range(directory + 2, directory + 2 + 12 * count, 12):
        tag, number_type, many = struct.unpack_from(order + "HHI", data, entry)
        if tag in wanted and tag not in found:
            form, place = _TIFF_NUMBERS.get(number_type, ""), entry + 8
            if many * struct.calcsize(form) > 4:  # they are stored elsewhere
                (place,) = struct.unpack_from(order + "I", data, place)
            found[tag] = struct.unpack_from(order + form, data, place)[0] if form else None
    return found


def _exif_orientation(exif: bytes) -> int:
    """The orientation in EXIF data, which has the form of a TIFF file; upright if it is missing or damaged."""
    if exif[:4] not in (b"II*\0", b"MM\0*"):
        return UPRIGHT
    try:
        return _valid(_tiff_numbers(exif, (_ORIENTATION,)).get(_ORIENTATION))
    except struct.error:
        return UPRIGHT


def _valid(orientation: int | None) -> int:
    return orientation if orientation in range(1, 9) else UPRIGHT  # type: ignore[return-value]


def _pnm(data: bytes, name: object) -> Header:
    found = _PNM.match(data[:HEAD_BYTES])  # skipping comments
    if not found:
        raise FormatError(name, "byte 2", "the PNM file has no width and height")
    return Header("PNM", int(found[2]), int(found[1]))


def _jpeg_2000(data: bytes, name: object) -> Header:
    """The size given in the codestream, for which the decoder allocates memory."""
    start = 0
    if not data.startswith(_SIZ):
        start = next((begin for kind, begin, _ in _boxes(data, 0, len(data)) if kind == b"jp2c"), len(data))
    right, bottom, left, top = struct.unpack_from(">4I", data, start + 8)
    if not data.startswith(_SIZ, start):
        raise FormatError(name, f"byte {start}", "the JPEG 2000 file does not give its size; save it again")
    return Header("JPEG 2000", bottom - top, right - left)


def _boxes(data: bytes, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start and end of the content) of each box of an ISO base media file."""
    while position < end:
        length, kind = struct.unpack_from(">I4s", data, position)
        begin = position + 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, begin)
            begin += 8
        length = length or end - position  # 0: up to the end of the file
        if position + length > end or begin > position + length:
            raise struct.error
        yield kind, begin, position + length
        position += length


def _avif(data: bytes, name: object) -> Header:
    """Size and rotation of the primary item: the properties associated with it (ISO/IEC 23008-12)."""
    within = {kind: span for kind, *span in _boxes(data, 0, len(data))}
    meta = {kind: span for kind, *span in _boxes(data, within[b"meta"][0] + 4, within[b"meta"][1])}
    parts = {kind: span for kind, *span in _boxes(data, *meta[b"iprp"])}
    properties = [*_boxes(data, *parts[b"ipco"])]
    item = struct.unpack_from(">I" if data[meta[b"pitm"][0]] else ">H", data, meta[b"pitm"][0] + 4)[0]
    size, quarters, mirror = (0, 0), 0, None
    for number in filter(None, _associated(data, parts[b"ipma"][0], item)):
        kind, begin, _ = properties[number - 1]
        if kind == b"ispe":
            width, height = struct.unpack_from(">II", data, begin + 4)
            size = height, width
        elif kind == b"irot":
            quarters = data[begin] & 3
        elif kind == b"imir":
            mirror = data[begin] & 1
    return Header("AVIF", *size, _TURNED[quarters, mirror])


def _associated(data: bytes, position: int, item: int) -> list[int]:
    """The numbers of the properties, from 1, that the association table gives for `item`."""
    version, wide = data[position], data[position + 3] & 1
    (count,) = struct.unpack_from(">I", data, position + 4)
    position += 8
    for _ in range(count):
        (number,) = struct.unpack_from(">I" if version else ">H", data, position)
        position += 4 if version else 2
        (properties,) = struct.unpack_from(">B", data, position)
        found = struct.unpack_from(f">{properties}{'H' if wide else 'B'}", data, position + 1)
        if number == item:
            return [each & (0x7FFF if wide else 0x7F) for each in found]
        position += 1 + properties * (1 + wide)
    return []


def _heic(data: bytes, name: object) -> Header:
    from pillow_heif import open_heif

    try:
        width, height = open_heif(data).size  # already upright: the library rotates what it decodes
    except (ValueError, OSError, RuntimeError, EOFError, SyntaxError) as error:
        reason = " ".join(str(error).split())
        raise FormatError(name, "", f"the HEIC file is damaged ({reason}); copy it again") from None
    return Header("HEIC", height, width)


_READERS: dict[str, Callable[[bytes, object], Header]] = {
    "JPEG": _jpeg, "PNG": _png, "BMP": _bmp, "GIF": _gif, "WebP": _webp, "TIFF": _tiff, "PNM": _pnm, "AVIF": _avif,
    "JPEG 2000": _jpeg_2000, "HEIC": _heic,
}  # fmt: skip
