"""Archives of images as --data: a zip or tar, or a folder of them, is unpacked into the cache once and is then a folder
like any other, whatever its layout. It is named by a hash of the archive's bytes, so that a changed archive is unpacked
again.
"""

import hashlib
import os
import shutil
import stat
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from convolve.atomic import cannot_write, keep_in_use, locked, put
from convolve.cache import cache_folder, mark_used, trim
from convolve.data.walk import images_in, is_hidden
from convolve.errors import DataError, FormatError
from convolve.formats.tar import ALWAYS_BYTES, DAMAGE, MOST_TIMES, first_names_in_tar, is_page, is_tar, read_members
from convolve.formats.zip_archive import ZIP_DAMAGE, Zip, is_zip
from convolve.names import portable

_ENDINGS = (".zip", ".tar", ".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz")
_OTHER_ENDINGS = (".7z", ".rar")  # of archives that are not read here
_MOST_FILES = 10_000_000
_FIRST = 20  # files of an archive that tell what it is
_UTF8_NAME = 0x800  # the flag of a zip's member whose name is UTF-8
_ENCRYPTED = 0x1
_NO_PRIVILEGE = 1314  # ERROR_PRIVILEGE_NOT_HELD


def unpacked(archive: Path) -> Path:
    """The cache folder with the content of `archive`.

    Raises `DataError` if it is damaged, or has a member outside of it or that is itself an archive.
    """
    return _unpacked([archive], archive.name)


def all_unpacked(archives: Sequence[Path]) -> Path:
    """The cache folder with one folder for each of `archives`, which are in one folder; see `unpacked`."""
    return _unpacked(archives, archives[0].absolute().parent.name)


def is_archive(path: Path) -> bool:
    """Whether it is a zip or tar, compressed or not, by its bytes."""
    try:
        return path.is_file() and (is_zip(path) or is_tar(path))
    except OSError:
        return False


def refuse_damaged(path: Path) -> None:
    """Raise `FormatError` for a file that has an archive's name and is none."""
    if path.is_file() and path.name.lower().endswith(_ENDINGS) and not is_archive(path):
        what = "a web page" if is_page(path) else "damaged, or not an archive"
        raise FormatError(path, "", f"{what}; get it again")


def archives_in(folder: Path) -> list[Path]:
    """The archives in `folder` itself, sorted, without those already unpacked beside them."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.name.lower().endswith(_ENDINGS))
    found = (folder / name for name in names if not is_hidden(name))
    return [path for path in found if not folder.joinpath(_stem(path)).exists() and is_archive(path)]


def first_names(archive: Path) -> list[str]:
    """The names of the first files in an archive; empty if it is damaged."""
    try:
        if not is_zip(archive):
            return first_names_in_tar(archive, _FIRST)
        with Zip(archive) as opened:
            return opened.namelist()[:_FIRST]
    except (*DAMAGE, *ZIP_DAMAGE):
        return []


def _stem(path: Path) -> str:
    """The name of an archive without its ending."""
    ending = max((each for each in _ENDINGS if path.name.lower().endswith(each)), key=len, default="")
    return path.name[: len(path.name) - len(ending)] or path.name


def _unpacked(archives: Sequence[Path], name: str) -> Path:
    """The folder `name` in the cache; for several archives it has one folder each."""
    key = hashlib.sha256()
    for path in archives:
        for member in first_names(path):  # an archive of archives may be large
            _checked(path, member)
        with path.open("rb") as file:
            key.update(hashlib.file_digest(file, "sha256").digest() + os.fsencode(path.name))
    folder = cache_folder("unpacked") / key.hexdigest()[:16]
    done, partial = folder / name, folder / ".partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        keep_in_use(folder)  # or another process may clear the cache now
        if not done.exists():
            with locked(folder.parent, wait=True), _removed(partial):  # a process that was killed may have left it
                _unpack_all(archives, partial, done)
            trim()
    except OSError as error:
        raise cannot_write(folder, error) from error
    mark_used(folder)
    return done


def _unpack_all(archives: Sequence[Path], partial: Path, done: Path) -> None:
    """Unpack into `partial` and rename it to `done`, unless another process was faster."""
    if done.exists():
        return
    for path in archives:
        with _naming_damage(path):
            _unpack_one(path, partial if len(archives) == 1 else partial / _stem(path))
    put(partial, done)


@contextmanager
def _removed(folder: Path) -> Iterator[None]:
    """Remove `folder` before and after the block."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _naming_damage(archive: Path) -> Iterator[None]:
    try:
        yield
    except OSError:  # of the disk
        raise
    except (*DAMAGE, *ZIP_DAMAGE) as error:
        raise FormatError(archive, "", f"the archive is damaged ({error}); get it again") from None


@dataclass(frozen=True)
class _Member:
    """A file in an archive or, with a `target`, a link; `content` must be read before the next member is requested."""

    name: str
    size: int
    content: IO[bytes] | None = None
    target: str = ""


def _unpack_one(archive: Path, folder: Path) -> None:
    """Write the members of `archive` into the new `folder`; if it holds one folder with its own name, the content of
    that."""
    folder.mkdir(parents=True)
    limit = max(ALWAYS_BYTES, MOST_TIMES * archive.stat().st_size)
    left, links, folders = limit, list[tuple[Path, _Member]](), dict[str, tuple[str, ...]]()
    for count, member in enumerate(_members(archive)):
        parts = _checked(archive, member.name)
        if not parts:
            continue
        left -= member.size
        if left < 0 or count >= _MOST_FILES:
            what = f"unpacks to more than {limit:,} bytes or {_MOST_FILES:,} files"
            raise DataError(f"{archive}: {what}; if you trust it, unpack it yourself and give the folder")
        _require_own_folders(archive, folder, parts[:-1], folders)
        path = folder.joinpath(*parts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            what = "a file and a folder have the same name"
            raise DataError(f"{archive}: {member.name}: {what}; rename one, and pack the archive again") from None
        if member.content:
            _write(archive, path, member)
        else:
            links.append((path, member))
    _link(archive, folder, links)
    _step_in(folder, _stem(archive))


def _require_own_folders(
    archive: Path, folder: Path, parts: tuple[str, ...], known: dict[str, tuple[str, ...]]
) -> None:
    """Raise `DataError` for two folders that are the same here: two classes would become one."""
    for count in range(1, len(parts) + 1):
        one, other = parts[:count], known.setdefault("/".join(parts[:count]).casefold(), parts[:count])
        if one != other and folder.joinpath(*one).exists() and folder.joinpath(*one).samefile(folder.joinpath(*other)):
            what = f"the folders {'/'.join(other)} and {'/'.join(one)} differ only in case: one folder here"
            raise DataError(f"{archive}: {what}; rename one, and pack the archive again")


def _step_in(folder: Path, name: str) -> None:
    """If everything is in one folder, as in most archives, its content takes its place, unless that folder
    is a class."""
    inside = list(folder.iterdir())
    if len(inside) == 1 and inside[0].is_dir() and (inside[0].name == name or not images_in(inside[0])):
        with _removed(folder.with_name(".inner")):
            inner = inside[0].rename(folder.with_name(".inner"))
            folder.rmdir()
            inner.rename(folder)


def _write(archive: Path, path: Path, member: _Member) -> None:
    assert member.content
    try:
        with path.open("xb") as file:
            shutil.copyfileobj(member.content, file, 1 << 20)
    except (FileExistsError, IsADirectoryError):
        what = "two members have this name, or names that differ only in case"
        raise DataError(f"{archive}: {member.name}: {what}; rename one, and pack the archive again") from None


def _link(archive: Path, folder: Path, links: Sequence[tuple[Path, _Member]]) -> None:
    """Make the links after all files are written, so that nothing is written through a link; none may lead outside."""
    for path, member in links:
        try:
            if not os.path.lexists(path):
                path.symlink_to(member.target)
        except OSError as error:
            if getattr(error, "winerror", 0) != _NO_PRIVILEGE:
                raise
            what = f"Windows does not let this user make links, and {member.name} is one"
            raise DataError(f"{archive}: {what}; enable its developer mode, or pack the archive without it") from None
    root = folder.resolve()
    for path, member in links:
        if not Path(os.path.realpath(path)).is_relative_to(root):  # `resolve` fails for links in a circle before 3.13
            raise DataError(
                f"{archive}: the link {member.name} leads out of the archive, to {member.target}; leave it out"
            )


def _checked(archive: Path, name: str) -> tuple[str, ...]:
    """The folders and the name of a member; empty for hidden ones.

    Raises `DataError` for paths outside, and for another archive.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or name[1:2] == ":":
        raise DataError(f"{archive}: the member {name} leads out of the archive; pack it with relative names")
    if any(map(is_hidden, path.parts)):
        return ()
    if sys.platform == "win32" and any(portable(part) != part for part in path.parts):
        raise DataError(f"{archive}: Windows cannot have a file called {name}; rename it, and pack the archive again")
    if name.lower().endswith((*_ENDINGS, *_OTHER_ENDINGS)):
        raise DataError(f"{archive}: holds another archive, {name}; unpack it, and give the folder")
    return path.parts


def _members(archive: Path) -> Iterator[_Member]:
    if is_zip(archive):
        yield from _members_of_zip(archive)
        return
    for tar_member, content in read_members(archive):
        name, target = tar_member.name, tar_member.linkname
        if content:
            yield _Member(name, tar_member.size, content)
        elif tar_member.islnk():  # to a member, where a symbolic link is relative to itself
            yield _Member(name, 0, target=os.path.relpath(target, PurePosixPath(name).parent))
        elif tar_member.issym():
            yield _Member(name, 0, target=target)


def _members_of_zip(path: Path) -> Iterator[_Member]:
    with Zip(path) as archive:
        for info in archive.infolist():
            name = _name_in_zip(info)
            if info.is_dir():
                continue
            if info.flag_bits & _ENCRYPTED:
                raise DataError(f"{path}: {name} is encrypted; unpack it yourself, and give the folder")
            with archive.open(info) as content:
                if stat.S_ISLNK(info.external_attr >> 16):
                    yield _Member(name, 0, target=os.fsdecode(content.read(4096)))
                else:
                    yield _Member(name, info.file_size, content)


def _name_in_zip(info: zipfile.ZipInfo) -> str:
    """Names are UTF-8 or IBM's code page 437; macOS and Linux write UTF-8 without marking it, Windows writes
    backslashes."""
    name = info.filename
    if not info.flag_bits & _UTF8_NAME:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/")
