"""Where an ONNX model is: in a file, in a folder that a tool wrote, or in a downloaded archive.

Lobe and Azure Custom Vision put model.onnx into a folder with their description of it; Custom Vision zips it.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

from convolve.atomic import read_ordinary
from convolve.errors import FormatError, MissingDataError
from convolve.formats.zip_archive import ZIP_DAMAGE, Zip
from convolve.importers.loader import read_bytes
from convolve.importers.onnx.model import HEAD_BYTES, is_onnx

MODEL = "model.onnx"
_MARKS = ("signature.json", "labels.txt", "cvexport.manifest", "config.json")
_MOST_BYTES = 2**31 - 1
_MOST_BESIDE = 2**24  # of a file beside the model: labels of a million classes


@dataclass(frozen=True)
class Files:
    """`path` is what the user gave; a file, a folder or an archive."""

    path: Path

    @property
    def folder(self) -> Path | None:
        """The folder that external weights are in; None for an archive."""
        return self.path if self.path.is_dir() else None if zipfile.is_zipfile(self.path) else self.path.parent

    @property
    def file(self) -> Path | None:
        """The model as a file on disk; None for one inside an archive."""
        return self.path / MODEL if self.path.is_dir() else self.path if self.folder else None

    def place(self, name: str) -> Path:
        """A file that belongs to the model; repositories for transformers.js have models in a subfolder onnx."""
        folder = self.folder or self.path
        above = folder.parent / name
        return above if folder.name == "onnx" and not (folder / name).exists() and above.exists() else folder / name

    def model(self) -> bytes:
        if self.file is None:
            content = self._member(MODEL, _MOST_BYTES)
        else:
            content = read_bytes(self.file) if self.file.stat().st_size <= _MOST_BYTES else None
        if content is None:
            raise FormatError(self.path, "", f"the model is larger than {_MOST_BYTES:,} bytes, the limit of ONNX files")
        return content

    def beside(self, name: str) -> bytes | None:
        """The content of the file `name` beside the model; None if there is none, or only a far larger one."""
        if self.folder is None:
            return self._member(name, _MOST_BESIDE)
        try:
            path = self.place(name)
            return read_ordinary(path, _MOST_BESIDE)
        except OSError:
            return None

    def _member(self, name: str, most: int) -> bytes | None:
        """The content of one file of the archive."""
        try:
            with Zip(self.path) as archive:
                found = [item for item in archive.infolist() if item.filename == name]
                if not found or found[0].file_size > most:
                    return None
                return archive.read(found[0])
        except ZIP_DAMAGE as error:
            raise FormatError(self.path, "", f"a damaged archive ({error}); download it again") from None


def recognizes(path: Path) -> bool:
    """Whether `path` is an ONNX model, or a folder or archive of a tool with a model.onnx in it."""
    if path.is_dir():
        return (path / MODEL).is_file() and any((path / name).is_file() for name in _MARKS)
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            head = file.read(max(HEAD_BYTES, 4))
    except OSError as error:
        raise MissingDataError(f"cannot read {path}: {error.strerror}; give a model file") from None
    return is_onnx(head) or (head[:2] == b"PK" and _holds_model(path))


def _holds_model(path: Path) -> bool:
    try:
        with Zip(path) as archive:
            return MODEL in archive.namelist()
    except ZIP_DAMAGE:
        return False
