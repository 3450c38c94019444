"""LMDB's file: keys and the positions of their records. Source: OpenLDAP's lmdb.h and mdb.c, version 1 of the format.

A reader of our own rather than liblmdb, which trusts its file: of 400 files that were damaged near the start of a page,
5 ended the process (a failed assertion, a bus error). It also opens a file only once per process.
"""

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

from convolve.errors import FormatError

DATA_FILE = "data.mdb"

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_META_BYTES = 152  # with the header of its page
_HEADER_BYTES, _NODE_BYTES = 16, 8
_BRANCH, _LEAF, _FIXED_KEYS = 0x01, 0x02, 0x20  # kinds of pages
_BIG = 0x01  # a node whose record lies in pages of its own
_NOTHING = (1 << 64) - 1  # the root of an empty table

Record = tuple[bytes, int, int]  # key, and where the record begins and its length


def lmdb_records(data: mmap.mmap, path: Path) -> Iterator[Record]:
    """The records of the main table in the order of their keys. Raises `FormatError` for a damaged file."""
    page_bytes, page_count, root = _newest_meta(data, path)
    pages, left = [root] if root != _NOTHING else [], page_count
    while pages:
        page = pages.pop()
        left -= 1
        if page >= page_count or left < 0:  # or pages that form a cycle
            raise _damaged(path, min(page * page_bytes, len(data)))
        try:
            children, records = _read_page(data, page * page_bytes, page_bytes)
        except (struct.error, ValueError):
            raise _damaged(path, page * page_bytes) from None
        pages += reversed(children)
        yield from records


def _newest_meta(data: mmap.mmap, path: Path) -> tuple[int, int, int]:
    """(page size in bytes, number of pages, the root's page) from the newer of the first two pages."""
    page_bytes = struct.unpack_from("<I", data, 40)[0] if len(data) >= _META_BYTES else 0
    starts = [at for at in {0, page_bytes} if at + _META_BYTES <= len(data)]
    starts = [at for at in starts if struct.unpack_from("<II", data, at + 16) == (_MAGIC, _VERSION)]
    if len(starts) < 2 or page_bytes < 512:
        raise FormatError(
            path, "byte 16", "not an LMDB file of a machine like this one, or a damaged one; copy it again"
        )
    root, last_page, _ = max((struct.unpack_from("<QQQ", data, at + 128) for at in starts), key=lambda meta: meta[2])
    if (last_page + 1) * page_bytes > len(data):
        what = f"the LMDB file is cut off here, it should have {(last_page + 1) * page_bytes:,} bytes; copy it again"
        raise FormatError(path, f"byte {len(data)}", what)
    return page_bytes, last_page + 1, root


def _read_page(data: mmap.mmap, start: int, page_bytes: int) -> tuple[list[int], list[Record]]:
    """The child pages of this page, or its records. Raises ValueError and struct.error for a damaged page."""
    kind, lower = struct.unpack_from("<HH", data, start + 10)
    if not _HEADER_BYTES <= lower <= page_bytes or kind & _FIXED_KEYS or not kind & (_BRANCH | _LEAF):
        raise ValueError
    children, records = [], []
    for offset in struct.unpack_from(f"<{(lower - _HEADER_BYTES) // 2}H", data, start + _HEADER_BYTES):
        low, high, flags, key_bytes = struct.unpack_from("<4H", data, start + offset)
        at = start + offset + _NODE_BYTES
        if offset + _NODE_BYTES + key_bytes > page_bytes:
            raise ValueError
        if kind & _BRANCH:
            children.append(low | high << 16 | flags << 32)
            continue
        key, at, size = data[at : at + key_bytes], at + key_bytes, low | high << 16
        if flags & _BIG:
            at = struct.unpack_from("<Q", data, at)[0] * page_bytes + _HEADER_BYTES
        if flags & ~_BIG or at + size > len(data):  # several records with one key, or nested tables
            raise ValueError
        records.append((key, at, size))
    return children, records


def _damaged(path: Path, at: int) -> FormatError:
    what = "the LMDB file is damaged here, or of an unsupported kind"
    return FormatError(path, f"byte {at}", f"{what}; copy it again")
