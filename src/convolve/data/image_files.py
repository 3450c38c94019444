"""Images as a user names them: files, folders, zips."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from convolve.errors import DataError, MissingDataError
from convolve.formats.decode import decode_image

# What OpenCV decodes and people keep. In a folder or zip, files with other endings are passed over.
ENDINGS = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


def read_images(paths: Sequence[str | Path], *, grey: bool) -> Iterator[tuple[str, np.ndarray]]:
    """(name, image_HWC uint8: grey, or BGR) of every image in `paths`, folders and zips in the order of their names."""
    for path in map(Path, paths):
        if path.is_dir():
            yield from _read_folder(path, grey)
        elif not path.exists():
            raise MissingDataError(f"{path} does not exist")
        elif zipfile.is_zipfile(path):
            yield from _read_zip(path, grey)
        else:
            yield str(path), decode_image(_read(path), str(path), grey=grey)


def _read_folder(folder: Path, grey: bool) -> Iterator[tuple[str, np.ndarray]]:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
    if not files:
        raise DataError(f"{folder} holds no images (files ending in {', '.join(sorted(ENDINGS))})")
    for path in files:
        yield str(path), decode_image(_read(path), str(path), grey=grey)


def _read_zip(path: Path, grey: bool) -> Iterator[tuple[str, np.ndarray]]:
    with zipfile.ZipFile(path) as archive:
        names = sorted(info.filename for info in archive.infolist() if Path(info.filename).suffix.lower() in ENDINGS)
        if not names:
            raise DataError(f"{path} holds no images (files ending in {', '.join(sorted(ENDINGS))})")
        for name in names:
            try:
                content = archive.read(name)
            except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
                raise DataError(f"{path}: cannot unpack {name}: {error}") from None
            yield f"{path}@/{name}", decode_image(content, f"{path}@/{name}", grey=grey)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
