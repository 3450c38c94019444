"""Damage to archives: members altered with checksums that are right, hostile names, headers that lie, and bombs."""

from __future__ import annotations

import bz2
import copy
import gzip
import io
import lzma
import random
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from functools import cache

from damage_bytes import Mutation, any_bytes

HOSTILE = [
    "../x.png", "/x.png", "a\\b", " ", "x" * 5000, "con.png", "\x1b[2J.png", "a/../../x.png", "//x.png", "C:x.png",
    "./", ".", "..", "a//b.png", "x\0.png", "\u202egnp.exe", "\udcff.png", "-rf.png", "a" * 250 + ".png", "x.zip",
    "/".join("d" * 300), "\n.png", "aux/x.png", "é.png", "e\u0301.png", "x.png/", "x.png/y.png", "~/x.png",
]  # fmt: skip
ZEROS, PIECE = 1 << 31, 1 << 24  # bytes of what a bomb unpacks to, and of what is packed to make one
Damage = Callable[[random.Random, bytes, str], bytes]  # of a file of that name


def members_of(damaged: Damage) -> list[Mutation]:
    """Mutations of zips, of tars and of packed files, whose members `damaged` damages in turn."""

    def zip_member(rng: random.Random, content: bytes) -> bytes:
        """A member damaged, renamed or there twice, with checksums that are right."""
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                members = [(info.filename, archive.read(info)) for info in archive.infolist()]
                kind = archive.infolist()[0].compress_type
        except Exception:  # damaged before
            return any_bytes(rng, content)
        at = rng.randrange(len(members))
        members[at : at + rng.choice([0, 1, 1, 1])] = [_other_member(rng, *members[at], damaged)]
        buffer = io.BytesIO()
        with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(buffer, "w", kind) as archive:
            for name, member in members:
                archive.writestr(_zip_info(rng, name, kind), member)
        return buffer.getvalue()

    def tar_member(rng: random.Random, content: bytes) -> bytes:
        """A member damaged, renamed, of another type or there twice, with checksums that are right."""
        try:
            with tarfile.open(fileobj=io.BytesIO(content)) as tar:
                members = [(info, tar.extractfile(info).read() if info.isreg() else b"") for info in tar]  # type: ignore[union-attr]
        except Exception:  # damaged before
            return any_bytes(rng, content)
        if not members:
            return any_bytes(rng, content)
        at = rng.randrange(len(members))
        info, member = copy.copy(members[at][0]), members[at][1]
        info.name, member = _other_member(rng, info.name, member, damaged)
        info.type = rng.choice(
            [info.type] * 8 + [b"1", b"2", b"3", b"5", b"6", b"7", b"K", b"L", b"x", b"g", b"S", b"Z"]
        )
        info.linkname = rng.choice(["", "/etc/passwd", info.name, "../..", ".", members[0][0].name])
        members[at : at + rng.choice([0, 1, 1, 1])] = [(info, member)]
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", errors="surrogateescape") as tar:
            for info, member in members:
                info.size = len(member)
                try:
                    tar.addfile(info, io.BytesIO(member))
                except OverflowError:  # a time without end, from an earlier damage
                    return any_bytes(rng, content)
        return buffer.getvalue()

    def unpacked(rng: random.Random, content: bytes) -> bytes:
        """Of a packed file, what is in it; a tar, if it is one. Sometimes two streams, or something behind them."""
        pack = next((pack for magic, pack in PACKERS.items() if content.startswith(magic)), gzip)
        try:
            inside: bytes = pack.decompress(content)
        except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError):  # damaged before
            return any_bytes(rng, content)
        if not inside:
            return any_bytes(rng, content)
        kinds = [tar_member, tar_header, tar_records] if inside[257:262] == b"ustar" else [any_bytes]
        inside = rng.choice(kinds)(rng, inside)
        pack, half = rng.choice([pack, pack, pack, *PACKERS.values()]), len(inside) // 2
        parts = [inside] if rng.random() < 0.7 else [inside[:half], inside[half:]]
        return b"".join(pack.compress(part) for part in parts) + rng.choice([b"", b"", b"\0" * 600, b"rest"])

    return [zip_member, tar_member, unpacked]


PACKERS = {b"\x1f\x8b": gzip, b"BZh": bz2, b"\xfd7zXZ": lzma}


def _other_member(rng: random.Random, name: str, member: bytes, damaged: Damage) -> tuple[str, bytes]:
    if rng.random() < 0.2:
        return rng.choice([*HOSTILE, name.upper()]), member
    return name, damaged(rng, member, name) if member else b"x"


def _zip_info(rng: random.Random, name: str, kind: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name.encode("utf-8", "replace").decode())
    info.compress_type = kind if rng.random() < 0.95 else rng.choice([0, 8, 12, 14])
    if rng.random() < 0.05:
        info.external_attr = rng.choice([0o120777, 0o010666, 0o040777, 0o020666]) << 16
    return info


# -- zip ---------------------------------------------------------------------------------------------------------------

_CENTRAL = b"PK\1\2"


def zip_field(rng: random.Random, content: bytes) -> bytes:
    """A field of the directory of a zip, or of its end: sizes, methods, flags, offsets; the 64-bit ones as well."""
    data, entries = bytearray(content), [at for at in range(len(content)) if content.startswith(_CENTRAL, at)]
    end = content.rfind(b"PK\5\6")
    if not entries or end < 0:
        return any_bytes(rng, content)
    at = rng.choice(entries)
    match rng.randrange(4):
        case 0:
            form, field = rng.choice(
                [("<H", 8), ("<H", 10), ("<I", 16), ("<I", 20), ("<I", 24), ("<I", 38), ("<I", 42)]
            )
            methods = [0, 8, 9, 12, 14, 93, 95, 98, 99]
            value = rng.choice(methods if form == "<H" else [0, 1, 2**31, 2**32 - 2, 2**32 - 1])
            struct.pack_into(form, data, at + field, value)
        case 1:
            form, field = rng.choice([("<H", 8), ("<H", 10), ("<I", 12), ("<I", 16), ("<H", 20)])
            struct.pack_into(form, data, end + field, rng.choice([0, 1, 0xFFFE, 0xFFFF]))
        case 2:  # sizes and the offset by way of the extra field for 64 bits
            wide = struct.pack("<HHQQQ", 1, 24, *(rng.choice([0, 9, 2**31, 2**62, 2**63, 2**64 - 1]) for _ in range(3)))
            return _with_extra(data, at, end, wide)
        case _:
            return _with_extra(data, at, end, rng.choice([b"\1\0\xff\xff", b"\1\0\0\0", b"\1", b"up\x05\0\1\0\0\0\0"]))
    return bytes(data)


def _with_extra(data: bytearray, at: int, end: int, extra: bytes) -> bytes:
    name, more = struct.unpack_from("<HH", data, at + 28)
    struct.pack_into("<H", data, at + 30, more + len(extra))
    for field in (20, 24, 42):
        struct.pack_into("<I", data, at + field, 2**32 - 1)
    (size,) = struct.unpack_from("<I", data, end + 12)
    struct.pack_into("<I", data, end + 12, size + len(extra))
    place = at + 46 + name + more
    return bytes(data[:place] + extra + data[place:])


def zip_bomb(rng: random.Random, content: bytes) -> bytes:
    """A member of two gigabytes in place of one, which says so, or that it is small; or one packed in another way."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {info.filename: archive.read(info) for info in archive.infolist()}
    except Exception:  # damaged before
        return any_bytes(rng, content)
    if not members:
        return any_bytes(rng, content)
    chosen, buffer = rng.choice([*members]), io.BytesIO()
    kind = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        for name, member in members.items():
            bomb = _deflated() if kind == zipfile.ZIP_STORED else bytes(1 << 24)
            archive.writestr(name, member if name != chosen else bomb)
        at = archive.getinfo(chosen).header_offset
    made, said = bytearray(buffer.getvalue()), rng.choice([100, 1 << 20, ZEROS - 1])
    if kind == zipfile.ZIP_STORED:
        places = [at for at in range(len(made)) if made.startswith(_CENTRAL, at)]
        central = places[[*members].index(chosen)]
        for method, size in ((at + 8, at + 22), (central + 10, central + 24)):
            struct.pack_into("<H", made, method, rng.choice([8, 8, 8, 9]))  # 9: deflate64
            struct.pack_into("<I", made, size, said)
    return bytes(made)


@cache
def _deflated() -> bytes:
    """Zeros, so many."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    piece = packer.compress(bytes(PIECE)) + packer.flush(zlib.Z_FULL_FLUSH)
    return piece * (ZEROS // PIECE) + packer.flush()


# -- tar ---------------------------------------------------------------------------------------------------------------

RECORDS = {
    "size": ["-1", "-512", "-1024", "9" * 30, "x", "1e9", "", str(2**63), "1_0"],
    "path": ["\0", "../x", "x" * 70_000, "", "a\nb", "\x1b[2J"], "linkpath": ["/etc/passwd", "\0", "."],
    "mtime": ["nan", "inf", "1e400", "x"], "uid": ["x", "-1"], "hdrcharset": ["BINARY", "x"],
    "GNU.sparse.major": ["1", "x", "0"], "GNU.sparse.minor": ["0", "1", "x"], "GNU.sparse.size": ["x", "-1", "9" * 20],
    "GNU.sparse.map": ["0,1,2", "x", "1,9999999999", "-5,3"], "GNU.sparse.realsize": ["9" * 12, "x"],
    "GNU.sparse.name": ["../x", ""], "GNU.sparse.offset": ["1", "x"], "GNU.sparse.numbytes": ["1", "x"],
}  # fmt: skip


def tar_records(rng: random.Random, content: bytes) -> bytes:
    """Extended records, of POSIX and of GNU's sparse files, before a member."""
    keys = rng.sample([*RECORDS], rng.choice([1, 1, 2, 3]))
    lines = b"".join(_record(rng, key, rng.choice(RECORDS[key])) for key in keys)
    kind, name = rng.choice([(b"x", "x"), (b"x", "x"), (b"g", "g"), (b"L", "././@LongLink"), (b"K", "././@LongLink")])
    return _inserted(rng, content, _header(name, len(lines), kind) + lines + bytes(-len(lines) % 512))


def _record(rng: random.Random, key: str, value: str) -> bytes:
    text = f" {key}={value}\n".encode()
    length = len(text) + 1
    while len(str(length)) + len(text) != length:
        length += 1
    lie = rng.choice([length] * 8 + [0, 1, length * 2, 10**30])
    return str(lie).encode() + text


def tar_header(rng: random.Random, content: bytes) -> bytes:
    """A field of a header with its checksum right: sizes below zero, of 95 bits, beyond the end; types; a long name
    of two gigabytes."""
    if rng.random() < 0.3:
        kind = rng.choice([b"L", b"K", b"x", b"g"])
        return _inserted(rng, content, _header("././@LongLink", rng.choice([ZEROS, 2**33 - 1, 1 << 20]), kind))
    data, at = bytearray(content), _a_header(rng, content)
    if at < 0:
        return any_bytes(rng, content)
    sizes = [
        b"\xff" * 12,
        b"\xff" * 10 + b"\0\0",
        b"\x80" + b"\xff" * 11,
        b"77777777777\0",
        b"-0000001000\0",
        b"0" * 12,
    ]
    sizes += [b"\x80" + bytes(6) + b"\x01" + bytes(4), b" " * 12, b"0x10\0" + bytes(7), b"00000001_0\0\0"]
    match rng.randrange(3):
        case 0:
            data[at + 124 : at + 136] = rng.choice(sizes)
        case 1:
            data[at + 156] = rng.choice(b"01234567KLSVgxNDM\0Z")
        case _:
            field, width = rng.choice([(100, 8), (108, 8), (136, 12), (257, 8), (329, 8), (345, 155)])
            data[at + field : at + field + width] = rng.choice(
                [b"\xff" * width, b"9" * width, bytes(width), b" " * width]
            )
    data[at + 148 : at + 156] = b" " * 8
    data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    return bytes(data)


def _a_header(rng: random.Random, content: bytes) -> int:
    found = [at for at in range(0, len(content) - 511, 512) if content[at + 257 : at + 262] == b"ustar"]
    return rng.choice(found) if found else -1


def _inserted(rng: random.Random, content: bytes, block: bytes) -> bytes:
    at = max(_a_header(rng, content), 0)
    return content[:at] + block + content[at:]


def _header(name: str, size: int, kind: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def stream_bomb(rng: random.Random, content: bytes) -> bytes:
    """Two gigabytes more than what was packed, in each of the ways to pack, as streams behind each other."""
    pack = rng.choice([*PACKERS])
    kind, name = rng.choice([(b"L", "x"), (b"x", "x"), (b"0", "cifar-10-batches-py/data_batch_1"), (b"0", "a/x.png")])
    begins = content if content.startswith(pack) and rng.random() < 0.5 else _packed(pack, _header(name, ZEROS, kind))
    return begins + _packed(pack, bytes(PIECE)) * (ZEROS // PIECE)


@cache
def _packed(magic: bytes, content: bytes) -> bytes:
    packed: bytes = PACKERS[magic].compress(content)
    return packed
