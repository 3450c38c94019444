"""Damage to images: sizes in their headers, parts that lie about their length, parts that unpack to much more."""

from __future__ import annotations

import random
import struct
import zlib

from damage_bytes import any_bytes

PNG, MUCH = b"\x89PNG\r\n\x1a\n", 1 << 28  # bytes of zeros in a part of some 260 KB


def image_size(rng: random.Random, content: bytes) -> bytes:
    """A width and height in the header, with the checksum that PNG wants."""
    width, height = (rng.choice([0, 1, 8191, 8193, 30000, 65500, 65535]) for _ in range(2))
    for form in (">HH", "<HH", ">II", "<II"):
        for sides in ((48, 64), (64, 48)):
            content = content.replace(struct.pack(form, *sides), struct.pack(form, height, width), 1)
    content = content.replace(b"64 48", f"{width} {height}".encode(), 1)
    if content.startswith(b"\x89PNG"):
        content = content[:29] + struct.pack(">I", zlib.crc32(content[12:29])) + content[33:]
    return content


def tiff_tag(rng: random.Random, content: bytes) -> bytes:
    """An entry of the directory of a TIFF twice, of another type, count or value."""
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    if order is None or len(content) < 8:
        return any_bytes(rng, content)
    (start,) = struct.unpack_from(f"{order}I", content, 4)
    if start + 2 > len(content):
        return any_bytes(rng, content)
    (count,) = struct.unpack_from(f"{order}H", content, start)
    entries = [bytearray(content[at : at + 12]) for at in range(start + 2, start + 2 + 12 * count, 12)]
    entries = [entry for entry in entries if len(entry) == 12]
    if not entries:
        return any_bytes(rng, content)
    at = rng.randrange(len(entries))
    entry = bytearray(rng.choice(entries) if rng.random() < 0.3 else entries[at])
    match rng.randrange(4):
        case 0:
            struct.pack_into(f"{order}H", entry, 2, rng.randrange(20))
        case 1:
            struct.pack_into(f"{order}I", entry, 4, rng.choice([0, 2, 1 << 20, 2**32 - 1]))
        case _:
            struct.pack_into(f"{order}I", entry, 8, rng.choice([0, 1, 24000, 65535, 2**31, 2**32 - 1]))
    entries[at : at + rng.choice([0, 1])] = [entry]
    directory = struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)
    return content[:4] + struct.pack(f"{order}I", len(content)) + content[8:] + directory


def image_part(rng: random.Random, content: bytes) -> bytes:
    """A part of a PNG, a JPEG, a RIFF or an ISO file: one more, which may unpack to much, twice, gone, or of another
    length."""
    if content.startswith(PNG):
        return _png_part(rng, content)
    if content.startswith(b"\xff\xd8"):
        return _jpeg_part(rng, content)
    if content.startswith(b"RIFF"):
        return _riff_part(rng, content)
    if b"\xff\x4f\xff\x51" in content[:200]:
        return _j2k_size(rng, content)
    return _box(rng, content) if content[4:8] == b"ftyp" else any_bytes(rng, content)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png_part(rng: random.Random, content: bytes) -> bytes:
    chunks, at = list[bytes](), 8
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        chunks.append(content[at : at + 12 + length])
        at += 12 + length
    where, zeros = rng.randrange(len(chunks) + 1), zlib.compress(bytes(MUCH), 1)
    exif = b"MM\0*\0\0\0\x08" + rng.randbytes(60)
    made = [
        _chunk(b"iCCP", b"x\0\0" + zeros), _chunk(b"zTXt", b"x\0\0" + zeros), _chunk(b"iTXt", b"x\0\1\0\0\0" + zeros),
        _chunk(b"IDAT", zeros), _chunk(b"fdAT", bytes(4) + zeros), _chunk(b"XxXx", b"x"),
        _chunk(b"tRNS", rng.randbytes(rng.choice([0, 2, 6, 300]))),
        _chunk(b"acTL", rng.choice([bytes(8), b"\xff" * 8, b"\0\0\0\2\0\0\0\0"])),
        _chunk(b"fcTL", rng.choice([bytes(26), b"\xff" * 26, bytes(4) + b"\0\0\xff\xff" * 4 + bytes(6)])),
        _chunk(b"PLTE", rng.randbytes(900)),
        _chunk(b"IHDR", content[16:24] + bytes([rng.choice([0, 1, 16]), rng.randrange(8), 0, 0, rng.randrange(3)])),
        _chunk(b"eXIf", exif), _chunk(b"IEND", b""), _chunk(b"gAMA", bytes(4)),
        *(chunks[:1] if chunks else []),
    ]  # fmt: skip
    chunks[where : where + rng.choice([0, 0, 1])] = [rng.choice(made)] * rng.choice([1, 1, 2])
    return PNG + b"".join(chunks)


def _jpeg_part(rng: random.Random, content: bytes) -> bytes:
    """A segment after the beginning, or before the pixels; or a scan many times."""
    scan = content.find(b"\xff\xda")
    if rng.random() < 0.2 and scan > 0:
        return content[:-2] + content[scan:-2] * rng.choice([1, 90, 300]) + content[-2:]
    marker = rng.choice([0xC0, 0xC2, 0xC3, 0xC4, 0xC9, 0xCC, 0xDA, 0xDB, 0xDC, 0xDD, 0xE1, 0xE2, 0xEE, 0xFE])
    size = b"\x08" + struct.pack(">HH", rng.choice([0, 1, 48, 65500]), rng.choice([0, 1, 64, 65500]))
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12" + rng.choice([b"\0\3", b"\0\x09"]) + b"\0\0\0\1\0\6\0\0"
    body = rng.choice(
        [size + b"\3\1\x22\0\2\x11\1\3\x11\1", size + b"\1\1\x11\0", exif, rng.randbytes(40), b"", b"\xff" * 70]
    )
    length = rng.choice([len(body) + 2] * 4 + [0, 1, 65535])
    at = rng.choice([2, max(scan, 2)])
    return content[:at] + bytes([0xFF, marker]) + struct.pack(">H", length) + body + content[at:]


def _j2k_size(rng: random.Random, content: bytes) -> bytes:
    """What a codestream of JPEG 2000 says of its size, its tiles and its planes."""
    start = content.find(b"\xff\x4f\xff\x51")
    length, kinds, *sides = struct.unpack_from(">HH8I", content, start + 4)
    rest = start + 4 + length
    sides[rng.randrange(8)] = rng.choice([0, 1, 64, 65535, 2**31, 2**32 - 1])
    planes = rng.choice([3, 3, 1, 4, 1000, 16384])
    each = rng.choice([b"\7\1\1", b"\7\1\1", b"\x25\1\1", b"\7\0\0", b"\x87\xff\xff"])
    head = struct.pack(">HH8IH", 38 + 3 * planes, kinds, *sides, planes) + each * planes
    return content[: start + 4] + head + content[rest:]


def _riff_part(rng: random.Random, content: bytes) -> bytes:
    """Of WebP: its list of parts, with a right or a wrong length in all."""
    parts, at = list[bytes](), 12
    while at + 8 <= len(content):
        (length,) = struct.unpack_from("<I", content, at + 4)
        parts.append(content[at : at + 8 + length + length % 2])
        at += len(parts[-1])
    big = struct.pack("<B3xHBHB", rng.choice([0, 2, 8, 16, 0xFF]), 0x3FFF, 0, 0x3FFF, rng.choice([0, 255]))
    made = [
        b"VP8X" + struct.pack("<I", 10) + big, b"EXIF" + struct.pack("<I", 8) + b"II*\0\x08\0\0\0",
        b"ANIM" + struct.pack("<I", 6) + bytes(6), b"ANMF" + struct.pack("<I", 24) + rng.randbytes(24),
        b"ICCP" + struct.pack("<I", 2**32 - 1), b"VP8L" + struct.pack("<I", 5) + b"\x2f\xff\xff\xff\x0f", *parts,
    ]  # fmt: skip
    where = rng.randrange(len(parts) + 1)
    parts[where : where + rng.choice([0, 1])] = [rng.choice(made)]
    body = b"".join(parts)
    return b"RIFF" + struct.pack("<I", rng.choice([len(body) + 4] * 4 + [0, 2**32 - 1])) + b"WEBP" + body


ISO = [
    b"meta",
    b"iprp",
    b"ipco",
    b"ipma",
    b"ispe",
    b"pitm",
    b"iloc",
    b"iinf",
    b"irot",
    b"imir",
    b"mdat",
    b"av1C",
    b"hvcC",
]


def _box(rng: random.Random, content: bytes) -> bytes:
    """Of AVIF and HEIC: a box of another length or kind, or twice, wherever one lies."""
    found = [at for at in (content.find(kind) for kind in ISO) if at >= 4]
    if not found:
        return any_bytes(rng, content)
    at = rng.choice(found) - 4
    (length,) = struct.unpack_from(">I", content, at)
    match rng.randrange(4):
        case 0:
            return (
                content[:at]
                + struct.pack(">I", rng.choice([0, 1, 7, 8, length + 1, 2**31, 2**32 - 1]))
                + content[at + 4 :]
            )
        case 1:
            return content[: at + 4] + rng.choice(ISO) + content[at + 8 :]
        case 2:
            return content[: at + length] + content[at : at + length] + content[at + length :]
        case _:
            wide = struct.pack(">I4sQ", 1, content[at + 4 : at + 8], rng.choice([0, 8, 2**63, 2**64 - 1, length + 8]))
            return content[:at] + wide + content[at + 8 :]


TIFF_PACKINGS = [1, 2, 3, 4, 5, 7, 8, 32773, 32946, 34712, 50001]


def tiff_strip(rng: random.Random, content: bytes) -> bytes:
    """Pixels that unpack to much more, with a size and a way to pack that fit; a directory that leads to itself."""
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    if order is None:
        return any_bytes(rng, content)
    packed = rng.choice([zlib.compress(bytes(MUCH), 1), b"\x80\0\x20" * 9, b"\x81\0" * 50_000, b"\xff" * 99])
    width, height = rng.choice([(64, 48), (8192, 8192), (1, 1), (65535, 1), (30000, 30000)])
    tags = {
        256: width, 257: height, 258: rng.choice([1, 8, 16]), 259: rng.choice(TIFF_PACKINGS),
        262: rng.choice([0, 1, 2, 3, 5, 6]), 273: 8, 277: rng.choice([1, 3, 4, 0, 65535]),
        278: rng.choice([height, 1, 0]),
        279: rng.choice([len(packed), 2**32 - 1]), 317: rng.choice([1, 2, 3]), 330: 8,
    }  # fmt: skip
    for tag in rng.sample([*tags], rng.choice([0, 1, 2])):
        del tags[tag]
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items())
    start = 8 + len(packed)
    directory = struct.pack(f"{order}H", len(tags)) + entries + struct.pack(f"{order}I", rng.choice([0, start, 8]))
    return content[:4] + struct.pack(f"{order}I", start) + packed + directory
