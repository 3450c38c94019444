"""Images given by a user: files, folders, zips, shards."""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from convolve.data.archives import is_archive, unpacked
from convolve.data.shard_layout import ENDINGS_OF_SHARDS, find_shards, globbed, is_parquet, is_pattern, shard_files
from convolve.data.sources.shards import list_shards
from convolve.data.walk import PassedOver, holds_images, is_hidden, takes_for_image, walk
from convolve.errors import DataError, FormatError, MissingDataError
from convolve.formats.archive import Location
from convolve.formats.image_kind import HEAD_BYTES, decoded_kinds
from convolve.formats.parquet import open_parquet
from convolve.formats.zip_archive import ZIP_DAMAGE, Zip, is_zip


def find_images(paths: Sequence[str | Path], passed: PassedOver | None = None) -> Iterator[Location]:
    """Every image in `paths`, folders and zips in the order of their names; `passed` records what is skipped there.

    Raises `MissingDataError` for a path that does not exist, `DataError` for a folder or zip without an image.
    """
    passed = PassedOver() if passed is None else passed
    for path in _named(paths):
        here = PassedOver()
        found: Iterator[Location]
        if shards := _shards(path):
            found = (place for part in shards for place in _in_shards(part))
        elif path.is_dir():
            found = (Location(file) for file in walk(path, here))
        elif not path.exists():
            raise MissingDataError(f"{path} does not exist; give images, or folders, zips or shards of images")
        elif path.is_file() and is_zip(path):
            found = _members(path, here)
        elif is_archive(path):
            found = (Location(file) for file in walk(unpacked(path), here))
        else:
            found = iter([Location(str(path))])
        yield from _at_least_one(path, found, here)
        passed.add(here)


def _named(paths: Sequence[str | Path]) -> Iterator[Path]:
    """In place of a pattern the files that it names: Windows' shells leave that to programs. Shards have their own."""
    for path in map(Path, paths):
        found = globbed(str(path)) if is_pattern(path) else []
        are_files = found and not any(file.lower().endswith(ENDINGS_OF_SHARDS) for file in found)
        yield from map(Path, found) if are_files else [path]


def _shards(path: Path) -> list[Path]:
    """The parts of the shards at `path`, labeled or not; empty if it holds image files."""
    if layout := find_shards(path):
        return [part for _, part in layout.parts]
    is_bare = is_pattern(path) or (path.is_dir() and shard_files(path) and not holds_images(path))
    return [path] if is_bare else []


def _in_shards(part: Path) -> Iterator[Location]:
    files = shard_files(part)
    if is_parquet(files[0]):
        counts = ((file, len(open_parquet([file], has_labels=False))) for file in files)
        return (Location(str(file), f"row {row + 1}") for file, count in counts for row in range(count))
    listing = list_shards(part)
    return map(listing.location, range(len(listing.index.rows_N)))


def _at_least_one(path: Path, found: Iterator[Location], passed: PassedOver) -> Iterator[Location]:
    first = next(found, None)
    if first is None:
        raise DataError(f"{path} holds no images that can be read: {passed or f'no {decoded_kinds()}'}")
    yield first
    yield from found


def _members(path: Path, passed: PassedOver) -> Iterator[Location]:
    try:
        with Zip(path) as archive:
            for member in sorted(archive.infolist(), key=lambda member: member.filename):
                parts = PurePosixPath(member.filename).parts
                if member.is_dir() or not parts or any(map(is_hidden, parts)):
                    continue
                if takes_for_image(parts[-1], lambda: archive.open(member).read(HEAD_BYTES), passed):  # noqa: B023
                    yield Location(str(path), member.filename)
    except ZIP_DAMAGE as error:
        raise FormatError(path, "", f"a damaged zip archive ({error}); pack it again") from None
