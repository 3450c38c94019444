"""Damage to a case as a whole: files of another case, exchanged, gone, twice; links, pipes and folders in their place;
files of hostile names beside them; checksums that somebody wrote anew."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from damage_archives import HOSTILE

DEVICES = ["/dev/zero", "/dev/full", "/proc/self/status", "/", "none"]
SPARSE_BYTES = 3 << 29  # what a file says that it has, of which no disk holds anything


@dataclass(frozen=True)
class Place:
    """Where `chosen` lies, one of the `files` of a `case`; `outside` is a file of somebody else's, `others` are sound
    cases."""

    rng: random.Random
    case: Path
    chosen: Path
    files: list[Path]
    outside: Path
    others: list[Path]

    def damage(self) -> str:
        """What was done, in words."""
        kinds: list[Callable[[Place], str]] = [
            _swapped,
            _of_another,
            _linked,
            _linked,
            _no_file,
            _no_file,
            _gone,
            _resized,
            _beside,
        ]
        return self.rng.choice(kinds)(self)


def forged(case: Path, before: bytes, changed: Path) -> bool:
    """Write the checksums of what was `before` anew, wherever in the case they stand; whether any did."""
    after, found = changed.read_bytes(), False
    kinds: list[Callable[[bytes], bytes]] = [
        lambda data: hashlib.sha256(data).hexdigest().encode(), lambda data: b"%d" % zlib.crc32(data)
    ]  # fmt: skip
    for kind in kinds:
        old, new = kind(before), kind(after)
        for path in (path for path in case.rglob("*") if path.is_file() and path.stat().st_size < 1 << 22):
            content = path.read_bytes()
            if old in content and len(old) > 6:
                path.write_bytes(content.replace(old, new))
                found = True
    return found


def _swapped(at: Place) -> str:
    """Two at.files of the at.case, each in the place of the other; or one twice."""
    other = at.rng.choice(at.files)
    one, two = at.chosen.read_bytes(), other.read_bytes()
    at.chosen.write_bytes(two)
    if at.rng.random() < 0.7:
        other.write_bytes(one)
    return "files exchanged"


def _of_another(at: Place) -> str:
    """The file of this name, or any, of another case."""
    other = at.rng.choice(at.others)
    same = other / at.chosen.relative_to(at.case)
    found = [path for path in sorted(other.rglob("*")) if path.is_file()]
    shutil.copyfile(same if same.is_file() else at.rng.choice(found), at.chosen)
    return "a file of another case"


def _linked(at: Place) -> str:
    to: list[Path | str] = [at.outside, at.outside, at.chosen, at.case, *DEVICES]
    at.chosen.unlink()
    at.chosen.symlink_to(at.rng.choice(to))
    return "a link"


def _no_file(at: Place) -> str:
    at.chosen.unlink()
    at.rng.choice([os.mkfifo, os.mkdir])(at.chosen)
    return "a pipe or folder"


def _gone(at: Place) -> str:
    if len(at.files) > 1:
        at.chosen.unlink()
    return "a file missing"


def _resized(at: Place) -> str:
    size = at.chosen.stat().st_size
    os.truncate(
        at.chosen, SPARSE_BYTES if at.rng.random() < 0.05 else at.rng.choice([0, size + 512, size * 2, size // 2])
    )
    return "a file of another size"


def _beside(at: Place) -> str:
    """One more file or folder, of a name that is hostile, or nearly that of another."""
    names = [*HOSTILE, *(form.format(at.chosen.name) for form in (".{}", ".{}.123.tmp", "{}~", "x{}"))]
    name = at.rng.choice(names).replace("/", "_").replace("\0", "_")[:200]
    with suppress(OSError, ValueError):
        at.rng.choice([lambda path: shutil.copyfile(at.chosen, path), os.mkfifo, os.mkdir])(at.chosen.with_name(name))
    return "one more file"
