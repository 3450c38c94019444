"""Walks a folder for the image files that a person sees, in the order of their names.

Training, prediction, checks and preparation all list images with it. Files that tools leave behind are ignored; links
are followed; everything else that is passed over is counted, so that a caller can report it.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Self

from convolve.errors import DataError
from convolve.formats.image_kind import HEAD_BYTES, ImageKind, image_kind

# Files that end so are taken for images as they are listed; the decoder tells by their bytes what they are.
ENDINGS = frozenset(
    {".avif", ".bmp", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif"}
    | {".tiff", ".webp"}
)
# What lies beside images by the thousand and is never one: it is not opened. Of all else the first bytes tell.
_NO_IMAGES = frozenset(
    {".cache", ".csv", ".db", ".doc", ".docx", ".gz", ".htm", ".html", ".ini", ".js", ".json", ".jsonl", ".log", ".md"}
    | {".mat", ".mp4", ".npy", ".npz", ".parquet", ".pdf", ".pickle", ".pkl", ".pt", ".pth", ".py", ".rar", ".tar"}
    | {".tgz", ".tsv", ".txt", ".xls", ".xlsx", ".xml", ".xmp", ".yaml", ".yml", ".zip"}
)
# Left behind by Synology, macOS, QNAP and Windows; what begins with a dot is as hidden.
_UNSEEN = frozenset(
    {"@eadir", "#recycle", "@recycle", "__macosx", "icon\r", "thumbs.db", "ehthumbs.db", "desktop.ini"}
    | {"$recycle.bin", "system volume information", "lost+found"}
)

_OF_SYNSET = re.compile(r"n[0-9]{8}_")

_KINDS_NAMED = 6  # endings, or folders, that are named of many
_LONGEST_ENDING = 9  # with its dot; what is longer is part of a name


@dataclass
class PassedOver:
    """The visible files that a walk left out.

    `endings`: how many files of each ending. `kinds`: for an ending, the kind of its first file if that is an
    unreadable image. `dangling`: broken links. `loose`: how many images are beside the class folders. `folders`:
    folders beside them that hold no image.
    """

    endings: Counter[str] = field(default_factory=Counter)
    kinds: dict[str, ImageKind] = field(default_factory=dict)
    dangling: list[str] = field(default_factory=list)
    loose: int = 0
    folders: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.endings or self.dangling or self.loose or self.folders)

    def __str__(self) -> str:
        """One line: "60 files passed over: 35 .heic (HEIC), 25 .txt", and what would make them readable."""
        said = []
        if count := self.endings.total():
            most = sorted(self.endings.items(), key=lambda item: (-item[1], item[0]))[:_KINDS_NAMED]
            rest = count - sum(number for _, number in most)
            named = [f"{number:,} {self._in_words(ending)}" for ending, number in most]
            named += [f"{rest:,} others"] if rest else []
            said.append(f"{count:,} file{'s' if count > 1 else ''} passed over: {', '.join(named)}")
            said += sorted({f"for {kind.name}, {kind.remedy}" for kind in self.kinds.values() if kind.extra})
        if count := len(self.dangling):
            links = f"{count:,} links lead" if count > 1 else "1 link leads"
            said.append(f"{links} nowhere: {self.dangling[0]}{' and others' if count > 1 else ''}")
        if self.loose:
            images = f"{self.loose:,} images" if self.loose > 1 else "1 image"
            said.append(f"{images} beside the folders of the classes left out")
        if self.folders:
            more = ", ..." if len(self.folders) > _KINDS_NAMED else ""
            said.append(f"no image in {', '.join(self.folders[:_KINDS_NAMED])}{more}")
        return "; ".join(said)

    def _in_words(self, ending: str) -> str:
        kind = f" ({self.kinds[ending].name})" if ending in self.kinds else ""
        return f"{ending or 'without an ending'}{kind}"

    def add(self, other: Self) -> None:
        self.endings += other.endings
        self.kinds = other.kinds | self.kinds
        self.dangling += other.dangling
        self.loose += other.loose
        self.folders += other.folders


def walk(folder: str | Path, passed: PassedOver | None = None) -> Iterator[str]:
    """The paths of the image files below `folder`, sorted by path; `passed` records what is left out.

    Links to folders are followed, but not back to a folder that the way has led through already. Raises `DataError` for
    a folder that cannot be listed. Only files with an unknown ending are opened: a million images take seconds.
    """
    passed = PassedOver() if passed is None else passed
    above = {_identity(parent) for way in (_absolute(folder), _absolute(folder).resolve()) for parent in way.parents}
    levels = [(str(folder), _identity(folder), iter(_seen(folder)))]  # from `folder` down to where the walk is
    while levels:
        path, _, entries = levels[-1]
        entry = next(entries, None)
        if entry is None:
            levels.pop()
            continue
        name = entry.name if path == "." else os.path.join(path, entry.name)  # noqa: PTH118  a million of them
        if _is_folder(entry):
            identity = _identity(name)
            if identity not in above and all(identity != other for _, other, _ in levels):
                levels.append((name, identity, iter(_seen(name))))
        elif entry.is_symlink() and not os.path.exists(name):  # noqa: PTH110  as above
            passed.dangling.append(name)
        elif takes_for_image(entry.name, lambda: _head(name), passed):  # noqa: B023  called at once
            yield name


def subfolders(folder: Path, passed: PassedOver | None = None) -> list[Path]:
    """The visible folders in `folder`, and links to folders, sorted; `passed` records broken links."""
    seen = _seen(folder)
    if passed is not None:
        passed.dangling += [entry.path for entry in seen if entry.is_symlink() and not os.path.exists(entry.path)]  # noqa: PTH110
    return [folder / entry.name for entry in seen if _is_folder(entry)]


def holds_images(folder: Path) -> bool:
    """Whether an image lies at any depth in `folder`, quickly. False for what is no folder, or hidden."""
    if is_hidden(folder.name) or not folder.is_dir():
        return False
    direct = any(is_image_name(entry.name) and entry.is_file() for entry in _entries(folder))
    return direct or any(True for _ in walk(folder))


def images_in(folder: str | Path) -> list[str]:
    """The names of the images that lie in `folder` itself, told by their endings, sorted."""
    return [entry.name for entry in _seen(folder) if is_image_name(entry.name) and entry.is_file()]


def by_synset(folder: Path) -> dict[str, list[str]]:
    """Synset -> the images that lie in `folder` itself and are called after it, n01440764_tench.JPEG.

    Nothing unless all are, of several synsets: the folder of one class of ImageNet has such names, too.
    """
    found: dict[str, list[str]] = {}
    for name in images_in(folder):
        if not _OF_SYNSET.match(name):
            return {}
        found.setdefault(name.partition("_")[0], []).append(os.path.join(folder, name))  # noqa: PTH118  as above
    return found if len(found) > 1 else {}


def is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _UNSEEN


def is_image_name(path: str | PurePath) -> bool:
    """Whether this relative `path` ends as an image does, without hidden folders or files in it."""
    path = PurePath(path)
    return path.suffix.lower() in ENDINGS and not any(map(is_hidden, path.parts))


def takes_for_image(name: str, head: Callable[[], bytes], passed: PassedOver) -> bool:
    """Whether the file `name` is an image by its ending or, if that says nothing, by its first bytes, its `head`."""
    ending = os.path.splitext(name)[1].lower()  # noqa: PTH122  as above
    if ending in ENDINGS:
        return True
    kind = None if ending in _NO_IMAGES else image_kind(head())
    if kind and kind.is_readable:
        return True
    ending = ending if len(ending) <= _LONGEST_ENDING and ending.isprintable() else ""
    passed.endings[ending] += 1
    if kind:
        passed.kinds.setdefault(ending, kind)
    return False


def _head(path: str) -> bytes:
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb", buffering=0) as file:
            return file.read(HEAD_BYTES) or b""  # a pipe is not waited for
    except OSError:
        return b""


def _seen(folder: str | Path) -> list[os.DirEntry[str]]:
    return sorted(_entries(folder), key=lambda entry: entry.name)


def _entries(folder: str | Path) -> Iterator[os.DirEntry[str]]:
    """The visible entries of `folder`, in any order."""
    try:
        with os.scandir(folder) as entries:
            yield from (entry for entry in entries if not is_hidden(entry.name))
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be listed ({error.strerror}); permit it, or move the folder elsewhere"
        ) from None


def _identity(folder: str | Path) -> tuple[int, int]:
    """What a folder is on its disk, whatever it is called there; nothing for what is not there."""
    try:
        found = os.stat(folder)  # noqa: PTH116  as above
    except OSError:
        return (0, 0)
    return found.st_dev, found.st_ino


def _absolute(folder: str | Path) -> Path:
    return Path(os.path.abspath(folder))  # noqa: PTH100  no links are followed


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()  # noqa: PTH112  as above
