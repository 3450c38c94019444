"""Images as a user names them: files, folders, zips."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePath

from convolve.errors import DataError, FormatError, MissingDataError
from convolve.formats.archive import Location

# What OpenCV decodes and people keep. In a folder or zip, files with other endings are passed over.
ENDINGS = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


def list_images(paths: Sequence[str | Path]) -> list[Location]:
    """Where every image in `paths` lies, folders and zips in the order of their names. No image is opened."""
    return [location for path in map(Path, paths) for location in _locations(path)]


def _locations(path: Path) -> list[Location]:
    """The images that `path` stands for, at least one."""
    if path.is_dir():
        locations = [Location(str(file)) for file in sorted(path.rglob("*")) if is_image_file(file)]
    elif not path.exists():
        raise MissingDataError(f"{path} does not exist; give images, folders of images or zips of images")
    elif zipfile.is_zipfile(path):
        locations = [Location(str(path), name) for name in sorted(_members(path)) if is_image_name(PurePath(name))]
    else:
        return [Location(str(path))]
    if not locations:
        raise DataError(f"{path} holds no images (files ending in {', '.join(sorted(ENDINGS))})")
    return locations


def is_image_name(path: PurePath) -> bool:
    hidden = path.name.startswith(".")  # macOS packs a "._digit.png" beside each digit.png
    return path.suffix.lower() in ENDINGS and not hidden


def is_image_file(path: Path) -> bool:
    return is_image_name(path) and path.is_file()


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError) as error:
        raise FormatError(path, "", f"a damaged zip archive ({error}); pack it again") from None
