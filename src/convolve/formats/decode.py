"""Encoded image -> its pixels, its planes.

The pixels are 8 bits, blue-green-red or gray, as OpenCV, and therefore CNTK's reader, decodes them. Transparency is
dropped, 16 bits become 8, and an animation becomes its first picture. docs/reference/data.md has the rules for each
kind.
"""

import functools
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from convolve.errors import DataError, FormatError
from convolve.formats.archive import Location
from convolve.formats.image_header import ON_ITS_SIDE, UPRIGHT, Header, read_header

Pixels = NDArray[np.uint8] | NDArray[np.float32]
# exif: rotated as EXIF says, as every viewer does. stored: as the pixels are stored in the file. cntk: as CNTK's image
# reader, which rotates images in files of their own, but not those in zip archives and in base64.
Orientation = Literal["exif", "stored", "cntk"]

MAX_PIXELS = 1 << 26  # 8192 x 8192: 201 MB decoded
MOST_PIXELS = 1 << 30  # OpenCV decodes no larger images, in whatever size
# A progressive JPEG file is held whole while it is decoded, at two bytes a sample: so many times `max_pixels`.
_PROGRESSIVE_FACTOR = 2
# For the full size, a half, a quarter, an eighth: OpenCV's flags for color and for gray.
_FLAGS = {
    1: (cv2.IMREAD_COLOR, cv2.IMREAD_GRAYSCALE),
    2: (cv2.IMREAD_REDUCED_COLOR_2, cv2.IMREAD_REDUCED_GRAYSCALE_2),
    4: (cv2.IMREAD_REDUCED_COLOR_4, cv2.IMREAD_REDUCED_GRAYSCALE_4),
    8: (cv2.IMREAD_REDUCED_COLOR_8, cv2.IMREAD_REDUCED_GRAYSCALE_8),
}
# EXIF's orientations as OpenCV's flips (1: left-right, 0: top-bottom, -1: both), from 5 on applied to the transpose.
_FLIPS = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}


@dataclass(frozen=True, slots=True)
class Decoding:
    """How encoded images become pixels.

    `gray`, otherwise blue, green and red. A JPEG image of more than `max_pixels` is decoded at a half, a quarter or an
    eighth of its size; other kinds are refused. A JPEG image is also decoded at a smaller size if that is at least
    `min_size` (height, width), which takes a fraction of the time.
    """

    gray: bool = False
    orientation: Orientation = "exif"
    max_pixels: int = MAX_PIXELS
    min_size: tuple[int, int] | None = None

    def of(self, location: object) -> Self:
        """The decoding for an image at this location: CNTK rotates only images in files of their own."""
        if self.orientation != "cntk" or (isinstance(location, Location) and not location.member):
            return self
        return replace(self, orientation="stored")


DECODING = Decoding()


def pixel_limit(megapixels: int | None) -> int:
    """The limit that a user set, or the default."""
    return MAX_PIXELS if megapixels is None else 1_000_000 * megapixels


def decoded_size(encoded: bytes, name: object, decoding: Decoding) -> tuple[int, int]:
    """(height, width) of what `decode_image` gives, unless it decodes a smaller version."""
    header = read_header(encoded, name)
    return header.turned_size if _turns(header, decoding) else header.size


def decode_image(encoded: bytes, name: object, decoding: Decoding = DECODING) -> NDArray[np.uint8]:
    """The pixels, uint8 (H, W, C): blue, green and red, or one channel.

    Raises `FormatError` for anything but an image, or for a damaged one, and `DataError` for one that is too large,
    before memory is allocated; `name` is the file's name in both. Damage inside the pixel data of a JPEG file is not
    detected if the decoder can continue: some pixels are wrong then.
    """
    header = read_header(encoded, name)
    turns = _turns(header, decoding)
    part = _part(header, header.turned_size if turns else header.size, decoding, name)
    try:
        pixels = _heic(encoded, decoding.gray) if header.kind == "HEIC" else _opencv(encoded, part, decoding.gray)
    except (cv2.error, ValueError, OSError, RuntimeError, EOFError):
        pixels = None
    if pixels is None:
        raise FormatError(name, "", "the image is damaged, or of a variant that cannot be decoded; save it again")
    if sorted(pixels.shape[:2]) > sorted(-(-side // part) for side in header.size):
        what = f"{pixels.shape[1]} x {pixels.shape[0]} pixels, but its header says {header.width} x {header.height}"
        raise FormatError(name, "", f"the image has {what}; save it again")
    if turns and header.orientation != UPRIGHT and header.kind != "TIFF":  # OpenCV rotates these itself
        pixels = _upright(pixels, header.orientation)
    return pixels.reshape(*pixels.shape[:2], 1 if decoding.gray else 3).astype(np.uint8, copy=False)


def _turns(header: Header, decoding: Decoding) -> bool:
    """Whether the image is rotated: TIFF, AVIF and HEIC always, since there the orientation is part of the image."""
    return decoding.orientation != "stored" or header.kind in ("TIFF", "AVIF", "HEIC")


def _part(header: Header, size: tuple[int, int], decoding: Decoding, name: object) -> int:
    """The divisor of the size to decode at: 1, 2, 4 or 8. Raises `DataError` if the image is too large at all."""
    height, width = size
    limit, pixels, least = decoding.max_pixels, height * width, decoding.min_size
    is_jpeg = header.kind == "JPEG"
    too_large = [part for part in _FLAGS if -(-height // part) * -(-width // part) > limit]
    holds_all = MOST_PIXELS if not header.progressive else min(MOST_PIXELS, _PROGRESSIVE_FACTOR * limit)
    if too_large and (not is_jpeg or len(too_large) == len(_FLAGS) or pixels > holds_all):
        what = f"{header.width} x {header.height} pixels, more than the limit of {limit:,}"
        needed = -(-pixels // 1_000_000)
        more = f", or raise the limit with --max-megapixels {needed}" if pixels < MOST_PIXELS else ""
        raise DataError(f"{name}: {what}; make it smaller{more}")
    fits = [part for part in _FLAGS if part not in too_large]
    if least is None or not is_jpeg:
        return fits[0]
    return max(part for part in fits if part == fits[0] or (height // part >= least[0] and width // part >= least[1]))


def _opencv(encoded: bytes, part: int, gray: bool) -> NDArray[Any] | None:
    _silence_opencv()
    return cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_IGNORE_ORIENTATION | _FLAGS[part][gray])


def _heic(encoded: bytes, gray: bool) -> NDArray[Any]:
    from pillow_heif import open_heif

    pixels: Any = np.asarray(open_heif(encoded, convert_hdr_to_8bit=True))
    rgb_HWC = np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels[:, :, :3]
    decoded: NDArray[Any] = cv2.cvtColor(rgb_HWC, cv2.COLOR_RGB2GRAY if gray else cv2.COLOR_RGB2BGR)
    return decoded


def _upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """The image rotated from its stored to its upright orientation, by EXIF's number: 2 to 8."""
    if orientation >= ON_ITS_SIDE:
        pixels = cv2.transpose(pixels)
    return cv2.flip(pixels, _FLIPS[orientation]) if orientation in _FLIPS else pixels


@functools.cache
def _silence_opencv() -> None:
    """OpenCV logs every damaged file to stderr without its name; our own error names it."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def without_color(image_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One channel if all are equal: an image without color, however it is stored."""
    first_HW = image_HWC[:, :, 0]  # compare plane by plane: pixel by pixel takes longer than decoding
    is_gray = all(np.array_equal(first_HW, image_HWC[:, :, c]) for c in range(1, image_HWC.shape[2]))
    return image_HWC[:, :, :1] if is_gray else image_HWC


def to_planes(image_HWC: Pixels, channels: int) -> Pixels:
    """An image, gray or BGR, as one gray plane or three of red, green and blue: (C, H, W).

    In memory, red, green and blue of a pixel stay adjacent, as networks need them: batches keep that layout.
    """
    is_gray = image_HWC.shape[2] == 1
    if channels == 1:
        gray: Any = image_HWC if is_gray else cv2.cvtColor(image_HWC, cv2.COLOR_BGR2GRAY)
        plane: Pixels = np.ascontiguousarray(gray.reshape(1, *image_HWC.shape[:2]))
        return plane
    rgb_HWC: Any = np.repeat(image_HWC, 3, axis=2) if is_gray else cv2.cvtColor(image_HWC, cv2.COLOR_BGR2RGB)
    rgb_CHW: Pixels = rgb_HWC.transpose(2, 0, 1)
    return rgb_CHW
