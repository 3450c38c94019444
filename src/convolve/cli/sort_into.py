"""`predict --sort-into`: copy each image into a folder named after its class."""

import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from convolve.atomic import cannot_write, refuse_link, replacing, sweep, temporary_beside
from convolve.errors import DataError, UsageError
from convolve.formats.archive import ByteReader, Location
from convolve.names import folded, portable

_LONGEST_NAME = 60  # characters of a class name; each may take four of the 255 bytes that a file name has


class Sorter:
    """Copies images into FOLDER/CLASS without overwriting anything; a file that already holds the image counts as its
    copy.

    If another file has the name, eight characters derived from the image's location are added to it.
    """

    def __init__(self, folder: Path, class_names: Sequence[str], paths: Sequence[Path]) -> None:
        if inside := [path for path in paths if path.is_dir() and folder.resolve().is_relative_to(path.resolve())]:
            raise UsageError(
                f"--sort-into {folder} is inside {inside[0]}, which is read for images; choose another folder"
            )
        self._reader, self._folders = ByteReader(), _folders(folder, class_names)
        for each in self._folders.values():
            refuse_link(each)
            sweep(each)

    def take(self, location: Location, class_name: str) -> None:
        """Copy the image at `location`."""
        folder, content = self._folders[class_name], self._reader.read(location)
        name = portable(Path((location.member or location.file).replace("\\", "/")).name)
        stem, ending = os.path.splitext(name)  # noqa: PTH122  a name of any bytes
        longer = f"{stem}-{sha256(os.fsencode(str(location))).hexdigest()[:8]}{ending}"
        if not (_is_copied(content, folder / name) or _is_copied(content, folder / longer)):
            raise DataError(f"{folder / longer} holds another image; choose an empty folder for --sort-into")


def _folders(folder: Path, class_names: Sequence[str]) -> dict[str, Path]:
    """The folder of each class. Characters that some system forbids become `_`; equal names get a number."""
    folders: dict[str, Path] = {}
    taken: set[str] = set()
    for number, class_name in enumerate(class_names):
        name = portable(class_name[:_LONGEST_NAME].strip(". "))
        while folded(name) in taken:
            name = f"{name} ({number})"
        taken.add(folded(name))
        folders[class_name] = folder / name
    return folders


def _is_copied(content: bytes, target: Path) -> bool:
    """Whether `target` now holds `content`: either it already did, or it did not exist and was written."""
    try:
        if os.path.lexists(target):
            return target.is_file() and target.stat().st_size == len(content) and target.read_bytes() == content
        with replacing(target, by=temporary_beside(target)) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise cannot_write(target, error) from error
    return True
