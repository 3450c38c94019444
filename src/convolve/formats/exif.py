"""When and with which camera a photograph was taken, from its EXIF block."""

import struct
from datetime import datetime

_START = b"Exif\0\0"
_SEARCHED = 1 << 16  # a JPEG segment cannot be longer, and EXIF's is the first or second one
_MAKE, _MODEL, _EXIF_IFD, _TAKEN, _SERIAL = 0x010F, 0x0110, 0x8769, 0x9003, 0xA431
_TEXT, _OFFSET = 2, 4  # types of a value
_LONGEST = 256  # bytes of a text


def capture(encoded: bytes) -> tuple[str, float] | None:
    """(the camera, the second of its clock) of a photograph; None if its file lacks either."""
    start = encoded.find(_START, 0, _SEARCHED)
    if start < 0:
        return None
    block = encoded[start + len(_START) : start + _SEARCHED]
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    try:
        (first,) = struct.unpack_from(f"{order or '<'}I", block, 4)
        values = _texts(block, order, first) if order else {}
        taken = datetime.strptime(values.get(_TAKEN, ""), "%Y:%m:%d %H:%M:%S")
    except (struct.error, ValueError):
        return None
    camera = " ".join(values.get(tag, "") for tag in (_MAKE, _MODEL, _SERIAL)).strip()
    return (camera, (taken - datetime.min).total_seconds()) if camera else None


def _texts(block: bytes, order: str, at: int, depth: int = 0) -> dict[int, str]:
    """The texts of the directory at byte `at`, and of EXIF's own directory, to which it points."""
    found: dict[int, str] = {}
    (count,) = struct.unpack_from(f"{order}H", block, at)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, length, value = struct.unpack_from(f"{order}HHII", block, entry)
        if tag in (_MAKE, _MODEL, _TAKEN, _SERIAL) and kind == _TEXT and length <= _LONGEST:
            place = value if length > 4 else entry + 8
            found[tag] = block[place : place + length].split(b"\0")[0].decode("latin-1").strip()
        elif tag == _EXIF_IFD and kind == _OFFSET and not depth:
            found |= _texts(block, order, value, depth + 1)
    return found
