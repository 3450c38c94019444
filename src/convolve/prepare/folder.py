"""A user's own images as the files that CNTK's examples read; no image is copied.

train_map.txt, test_map.txt                 absolute path, TAB, class number
labels.txt                                  the name of class 0, 1, ...; one a line
prepared.json                               which images all this lists

and where the images of a part are all of one small size, as those of MNIST and CIFAR-10 are:

Train_cntk_text.txt, Test_cntk_text.txt     CTF, one line an image: planes of red, green and blue
mean.xml                                    mean of the training images: blue, green, red of each pixel
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from convolve.data.cifar10 import CTF_TEST, CTF_TRAIN, MAP_TEST, MAP_TRAIN
from convolve.data.download import Progress
from convolve.data.fitting import fitted, mean_image, resident
from convolve.data.labelled_images import OnDisk
from convolve.data.own import open_own
from convolve.data.table import Table
from convolve.errors import UsageError
from convolve.formats.archive import Location
from convolve.formats.base64_map import Base64Map
from convolve.formats.image_map import write_image_map
from convolve.formats.mean_xml import write_mean_xml
from convolve.prepare.output import Output, claimed
from convolve.transforms.preprocess import Preprocess

MEAN = "mean.xml"
FILES = (MAP_TRAIN, MAP_TEST, CTF_TRAIN, CTF_TEST, MEAN)


def prepare_folder(source: Path | None, out: Path, progress: Progress | None = None) -> Iterator[str]:
    """Write the lists of the images at `source`, which is what --data takes of a user's own, into `out`."""
    del progress
    if source is None:
        raise UsageError("say with --source where the images are: a folder with a subfolder for each class, or a list")
    own = open_own(source.expanduser()).sized((3, 0, 0))
    for part in (own.train, own.test):
        if isinstance(part.images, Base64Map):
            raise UsageError(f"{part.place(0)}: the image is in the list itself and has no path; train on it as it is")
    with claimed(out, {"dataset": "folder", "data_fingerprint": own.fingerprint()}, FILES) as output:
        yield output.labels(own.class_names)
        for part, map_name, ctf_name in ((own.train, MAP_TRAIN, CTF_TRAIN), (own.test, MAP_TEST, CTF_TEST)):
            yield _write_map(output, map_name, part)
            table = _table(part)
            if table is None:
                yield f"{output.folder / ctf_name}: not written, its images are large or of various sizes"
                continue
            yield output.ctf(ctf_name, table, len(own.class_names))
            if part is own.train:
                yield output.once(MEAN, partial(_write_mean, table=table))


def _write_map(output: Output, name: str, part: OnDisk) -> str:
    write_image_map(
        output.folder / name, ((_path(part, index), int(part.labels_N[index])) for index in range(len(part)))
    )
    return f"{output.folder / name}: {len(part):,} images"


def _path(part: OnDisk, index: int) -> str:
    assert not isinstance(part.images, Base64Map)  # refused above
    location = part.images.location(int(part.index_N[index]))
    return str(Location(os.path.abspath(location.file), location.member))  # noqa: PTH100  no links are followed


def _table(part: OnDisk) -> Table | None:
    """The images in memory, if they have one size and room there."""
    if part.size is None:
        return None
    want = Preprocess(3, *part.size, mean=0.0, scale=1.0, channel_order="rgb")
    samples = resident(fitted(part, want), want.shape_CHW)
    return samples if isinstance(samples, Table) else None


def _write_mean(path: Path, table: Table) -> None:
    write_mean_xml(path, mean_image(table)[::-1].transpose(1, 2, 0), "interleaved_bgr")  # as CNTK's reader takes it
