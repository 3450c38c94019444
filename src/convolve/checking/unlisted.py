"""Images beside listed ones that no list names."""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

import numpy as np

from convolve.checking.finding import Findings
from convolve.checking.part import Part
from convolve.data.sources.files import Embedded, FileSource, PathListing
from convolve.data.sources.shard_index import ShardListing
from convolve.data.sources.source import UNLABELED
from convolve.data.walk import images_in, is_image_name
from convolve.errors import DataError
from convolve.formats.archive import Location
from convolve.formats.zip_archive import ZIP_DAMAGE, Zip
from convolve.names import folded

_NAMED = 3  # files that are named; the others are counted


def check_unlisted(parts: Sequence[Part], findings: Findings) -> None:
    """Images beside listed ones that no part lists. Memory: 8 bytes per image."""
    sources = [part.source for part in parts if isinstance(part.source, FileSource)]
    for folder in [source.listing.folder for source in sources if isinstance(source.listing, PathListing)]:
        _add_unlisted(findings, folder, images_in(folder))
    listed: list[int] = []
    places: set[Location] = set()
    for source in sources:
        for index, location in _locations(source):
            listed.append(_key(location))
            if (source.all_labels_N[index] != UNLABELED).all():  # otherwise anything may stand in the place of a path
                places.add(_container(location))
    listed_N = np.sort(np.array(listed, np.int64))
    for place in sorted(places, key=str):
        inside = sorted(_images_in(place), key=str)
        hashes = np.array([_key(location) for location in inside], np.int64)
        unknown = np.flatnonzero(~np.isin(hashes, listed_N))
        _add_unlisted(findings, place.file, [PurePath(inside[n].member or inside[n].file).name for n in unknown])


def _locations(source: FileSource) -> Iterator[tuple[int, Location]]:
    """(number, location) of the images of a map file or table; equal locations are spelled the same."""
    if isinstance(source.listing, PathListing | Embedded | ShardListing):
        return  # missing or damaged files become findings when they are read
    for index in source.index_N.tolist():
        location = source.listing.location(index)
        if location.file:  # some bad lines have no path
            yield index, Location(os.path.abspath(location.file), location.member)  # noqa: PTH100  a million of them


def _key(location: Location) -> int:
    """A list may write a name in other capitals than the disk, where these are one."""
    return hash(folded(str(location)) if sys.platform in ("win32", "darwin") else location)


def _container(location: Location) -> Location:
    """The folder of an image; for a member of an archive, the archive."""
    return Location(location.file, "/") if location.member else Location(os.path.dirname(location.file))  # noqa: PTH120


def _images_in(place: Location) -> Iterator[Location]:
    try:
        if place.member:
            with Zip(place.file) as archive:
                yield from (Location(place.file, name) for name in archive.namelist() if is_image_name(name))
        else:
            yield from (Location(os.path.join(place.file, name)) for name in images_in(place.file))  # noqa: PTH118
    except (DataError, *ZIP_DAMAGE):
        return


def _add_unlisted(findings: Findings, place: object, names: list[str]) -> None:
    if names:
        rest = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        count = f"{len(names):,} images have" if len(names) > 1 else "1 image has"
        what = f"{count} no label: {', '.join(names[:_NAMED])}{rest}"
        mend = "list them, or move them elsewhere; if the test part lists them, name it with --test"
        findings.add("unlabeled", _shown(Path(str(place))), what, mend)


def _shown(path: Path) -> str:
    """Relative to the working folder, if it is below that."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
