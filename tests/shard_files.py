"""Small shards as other tools write them, with Python's tarfile."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

CLASSES = ("cat", "dog", "owl")


def picture(number: int) -> bytes:
    """A PNG file of 40 x 30 pixels, of its own color."""
    pixels_HWC = np.full((30, 40, 3), (37 * number % 256, 11 * number % 256, number % 256), np.uint8)
    return cv2.imencode(".png", pixels_HWC)[1].tobytes()


def write_tar(path: Path, members: Sequence[tuple[str, bytes]], kind: int = tarfile.USTAR_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=kind) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1234567890.5
            tar.addfile(info, io.BytesIO(content))
    return path


def samples(numbers: Sequence[int], prefix: str = "") -> list[tuple[str, bytes]]:
    """The picture of each number, whose class is its remainder by three."""
    pairs = [((f"{prefix}{n:04}.png", picture(n)), (f"{prefix}{n:04}.cls", str(n % 3).encode())) for n in numbers]
    return [member for pair in pairs for member in pair]


def write_shards(folder: Path, count: int = 24, shards: int = 3) -> Path:
    """Pictures of three classes."""
    for number in range(shards):
        write_tar(folder / f"set-{number:03}.tar", samples(range(number, count, shards)))
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    return folder
