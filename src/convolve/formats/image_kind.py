"""The kind of an image file, determined by its first bytes, never by its name.

Some kinds, such as cameras' raw files, cannot be decoded and are known only so that messages can name what was passed
over.
"""

import re
import struct
from dataclasses import dataclass
from importlib.util import find_spec

from convolve.errors import install_hint

HEAD_BYTES = 4096  # bytes that determine the kind: of a TIFF file the first directory, which mostly lies there

_DNG_VERSION, _PART_OF_FILE, _MORE_IMAGES = 50706, 254, 330  # tags of TIFF


@dataclass(frozen=True, slots=True)
class ImageKind:
    """A kind by the `signature` that its files begin with. Named only: `is_decoded` is false.

    `extra` is what has to be installed for it, with the module `module`.
    """

    name: str
    signature: re.Pattern[bytes]
    is_decoded: bool = True
    extra: str = ""
    module: str = ""

    @property
    def is_readable(self) -> bool:
        """Whether `decode_image` accepts it with the packages installed here."""
        return self.is_decoded and (not self.module or find_spec(self.module) is not None)

    @property
    def remedy(self) -> str:
        """What to do with files of this kind if they are not readable."""
        return f"install its decoder: {install_hint(self.extra)}" if self.extra else "convert to JPEG or PNG"


def image_kind(head: bytes) -> ImageKind | None:
    """The kind of image, document or video that begins with `head`, up to `HEAD_BYTES` of it; None: no known kind."""
    for kind in KINDS:
        if kind.signature.match(head):
            return CAMERA_RAW if kind.name == "TIFF" and _is_camera_raw(head) else kind
    return None


def decoded_kinds() -> str:
    """The names of the kinds that can be decoded."""
    *names, last = (kind.name for kind in KINDS if kind.is_decoded)
    return f"{', '.join(names)} or {last}"


def _kind(name: str, signature: bytes, extra: str = "", module: str = "") -> ImageKind:
    return ImageKind(name, re.compile(signature, re.DOTALL), extra=extra, module=module)


def _named(name: str, signature: bytes) -> ImageKind:
    return ImageKind(name, re.compile(signature, re.DOTALL), is_decoded=False)


def _is_camera_raw(head: bytes) -> bool:
    """Whether a TIFF file is a camera's raw file (DNG, NEF, ARW): OpenCV would decode only its thumbnail."""
    order = "<" if head[:2] == b"II" else ">"
    found: dict[int, int] = {}
    try:
        (directory,) = struct.unpack_from(order + "I", head, 4)
        (count,) = struct.unpack_from(order + "H", head, directory)
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            (tag,) = struct.unpack_from(order + "H", head, entry)
            (found[tag],) = struct.unpack_from(order + "I", head, entry + 8)
    except struct.error:  # the directory continues beyond the head
        pass
    return _DNG_VERSION in found or (bool(found.get(_PART_OF_FILE, 0) & 1) and _MORE_IMAGES in found)


CAMERA_RAW = _named("camera raw", b"")
# In this order: a HEIC file may also name AVIF's brands later on, and several kinds begin like a TIFF file.
KINDS = (
    _kind("JPEG", rb"\xff\xd8\xff"),
    _kind("PNG", rb"\x89PNG\r\n\x1a\n"),
    _kind("BMP", rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0"),  # the sizes that its second header can have
    _kind("GIF", rb"GIF8[79]a"),
    _kind("WebP", rb"RIFF....WEBP"),
    _named("camera raw", rb"II\*\0....CR|IIU\0|IIR[OS]|MMOR|FUJIFILMCCD-RAW|FOVb|....ftypcrx "),
    _kind("TIFF", rb"II\*\0|MM\0\*"),
    _kind("PNM", rb"P[1-6][\s#]"),
    _kind("AVIF", rb"....ftyp(?:avi[fs]|mi[fa][1f]....(?:....){0,12}?avi[fs])"),
    _kind("JPEG 2000", rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"),
    _kind("HEIC", rb"....ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1)", extra="heic", module="pillow_heif"),
    _named("video", rb"....ftyp|RIFF....AVI |\x1a\x45\xdf\xa3|\0\0\x01[\xb3\xba]|....(?:moov|mdat|wide)"),
    _named("JPEG XL", rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
    _named("BigTIFF", rb"II\+\0|MM\0\+"),
    _named("OpenEXR", rb"v/1\x01"),
    _named("Radiance HDR", rb"#\?RADIANCE|#\?RGBE"),
    _named("icon", rb"\0\0\x01\0[\x01-\x40]\0"),
    _named("DICOM", rb".{128}DICM"),
    _named("Photoshop", rb"8BPS"),
    _named("PDF", rb"%PDF-"),
    _named("PostScript", rb"%!PS"),
    _named("SVG", rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)?(?:<!DOCTYPE svg[^>]*>\s*)?<svg[\s>]"),
    _named("HTML", rb"(?i:\s*<!DOCTYPE html|\s*<html)"),
)
