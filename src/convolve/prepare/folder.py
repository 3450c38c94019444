"""Your own images as the files that CNTK's examples read; no image is copied."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from convolve.data.build import mean_image
from convolve.data.caching import measured
from convolve.data.cifar10 import CTF_TEST, CTF_TRAIN, MAP_TEST, MAP_TRAIN
from convolve.data.dataset import Dataset
from convolve.data.download import Progress
from convolve.data.known import unpacked
from convolve.data.lists import open_lists
from convolve.data.options import AS_FOUND, DataOptions
from convolve.data.sources.files import Embedded, FileSource
from convolve.data.sources.source import ArraySource, Source
from convolve.data.team import ALONE, Team
from convolve.errors import UsageError
from convolve.formats.archive import Location, parse_location
from convolve.formats.decode import Decoding
from convolve.formats.mean_xml import write_mean_xml
from convolve.prepare.output import Output, Report, claimed

MEAN = "mean.xml"
MAP_VALIDATION = "val_map.txt"
FILES = (MAP_TRAIN, MAP_VALIDATION, MAP_TEST, CTF_TRAIN, CTF_TEST, MEAN)


def prepare_folder(
    source: Path | None,
    out: Path,
    progress: Progress | None = None,
    team: Team = ALONE,
    options: DataOptions = AS_FOUND,
) -> Iterator[Report]:
    """Write the lists of the images at `source`, a set of your own as --data takes it, into `out`."""
    del progress
    if source is None:
        raise UsageError("give --source, the place of the images: a folder with a subfolder for each class, or a list")
    splits = open_lists(unpacked(source.expanduser()), options=options)
    with claimed(out, {"dataset": "folder", "data_fingerprint": splits.fingerprint()}, FILES, team) as output:
        parts = [(_with_paths(splits.train), MAP_TRAIN, CTF_TRAIN), (_with_paths(splits.test), MAP_TEST, CTF_TEST)]
        yield output.labels(splits.class_names)
        if splits.validation:
            yield _write_map(output, MAP_VALIDATION, _with_paths(splits.validation))
        for part, map_name, ctf_name in parts:
            yield _write_map(output, map_name, part)
            images = measured(part, Decoding(orientation="cntk"))
            if not isinstance(images, ArraySource):
                yield Report(output.folder / ctf_name, "not written, since its images are large or of several sizes")
                continue
            yield output.ctf(ctf_name, images, len(splits.class_names))
            if map_name == MAP_TRAIN:
                yield output.once(MEAN, partial(_write_mean, images=images))


def _with_paths(source: Source) -> FileSource:
    if not isinstance(source, FileSource) or isinstance(source.listing, Embedded):
        raise UsageError(f"{source.location(0)}: the image is in the list itself and has no path; train on it as it is")
    return source


def _write_map(output: Output, name: str, part: FileSource) -> Report:
    images = ((_path(part, index), label) for index, label in enumerate(part.labels_N.tolist()))
    return output.image_map(name, images, len(part))


def _path(part: FileSource, index: int) -> str:
    assert not isinstance(part.listing, Embedded)  # see `_with_paths`
    location = part.listing.location(int(part.index_N[index]))
    if parse_location(location.file) != Location(location.file):
        raise UsageError(f"{location.file}: in a map file, `@` before a slash means an archive; rename the folder")
    return str(Location(os.path.abspath(location.file), location.member))  # noqa: PTH100  no links are followed


def _write_mean(path: Path, images: ArraySource) -> None:
    mean_HWC = mean_image(Dataset(images))[::-1].transpose(1, 2, 0)
    write_mean_xml(path, mean_HWC, "interleaved_bgr")  # as CNTK's reader takes it
