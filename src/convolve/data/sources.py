"""The data sets that a recipe can name: one row each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch

from convolve.data import cifar10, ilsvrc2012, mnist
from convolve.data.download import Progress
from convolve.data.locate import SAMPLE
from convolve.data.own import OwnSet, find_parts, open_own
from convolve.data.table import DataSet, Table
from convolve.errors import DataError, MissingDataError, UsageError, unknown_name

# name -> function of where it lies (--data; None: the usual places, then a download) and of who hears of a download
DATASETS: dict[str, Callable[[str | None, Progress | None], DataSet | OwnSet]] = {
    "mnist": mnist.load_mnist,
    "cifar10": cifar10.load_cifar10,
    "ilsvrc2012": ilsvrc2012.open_ilsvrc2012,
}

_FAKE_BYTES = 1 << 29  # of noise for training: all of MNIST and CIFAR-10, 2,730 images of 256x256


@dataclass(frozen=True)
class Outline:
    """What is known of a data set without opening it."""

    shape_CHW: tuple[int, int, int]
    class_names: tuple[str, ...]
    train_samples: int
    test_samples: int


_OUTLINES = {
    "mnist": Outline((1, 28, 28), mnist.CLASS_NAMES, 60_000, 10_000),
    "cifar10": Outline((3, 32, 32), cifar10.CLASS_NAMES, 50_000, 10_000),
    "ilsvrc2012": Outline(
        ilsvrc2012.SHAPE_CHW, tuple(map(str, range(ilsvrc2012.CLASSES))), ilsvrc2012.TRAIN, ilsvrc2012.VAL
    ),
}


def open_data(name: str, where: str | None = None, progress: Progress | None = None) -> DataSet | OwnSet:
    """The data set `name`, or a user's own at `where`; `MissingDataError` with the way out where there is neither.

    `progress` hears of a download: name of the file, bytes that are there, bytes in all.
    """
    place = None if where in (None, SAMPLE) else Path(str(where)).expanduser()
    if not name:
        return _open_unnamed(place)
    load, known = DATASETS[_known(name)], _OUTLINES[name]
    if place is None:
        return load(where, progress)
    if find_parts(place) is None:
        try:
            return load(where, progress)
        except MissingDataError as error:
            hint = "images of your own lie in a subfolder for each class, or are listed in a map file or a CSV table"
            raise MissingDataError(f"{error}; {hint}") from None
    own = open_own(place)
    if _may_be(own, known):
        try:
            return load(where, progress)
        except MissingDataError:  # other files with the same classes
            pass
    return own.sized(known.shape_CHW)


def _open_unnamed(place: Path | None) -> OwnSet:
    """The images at `place`, for a recipe that names no data set."""
    if place is None:
        raise MissingDataError("this recipe names no data set; say where your images are, with --data DIR")
    return open_own(place).sized((3, 0, 0))


def _may_be(own: OwnSet, known: Outline) -> bool:
    """Whether the pictures can be those of the data set `known`: the same classes, and a test image of its size."""
    numbered = own.numbered and len(own.class_names) == len(known.class_names)
    if own.held_out or not (numbered or own.class_names == known.class_names):
        return False
    channels, *size = known.shape_CHW
    try:
        return list(own.test.picture(0, grey=channels == 1).shape[:2]) == size
    except DataError:  # perhaps the set is there in another form
        return True


def outline(name: str) -> Outline:
    """Shape, classes and sizes of the official data set `name`. Raises `UsageError` for any other name."""
    return _OUTLINES[_known(name)]


def is_official(name: str, dataset: DataSet | OwnSet) -> bool:
    """Whether `dataset` is the official data set `name`, by the numbers of its images and classes.

    A `name` that is no data set's, as a recipe for images of one's own may have it, is not official.
    """
    if name not in DATASETS:
        return False
    known = outline(name)
    counts = len(dataset.train), len(dataset.test), len(dataset.class_names)
    return counts == (known.train_samples, known.test_samples, len(known.class_names))


def fitting(shape_CHW: tuple[int, int, int], classes: int) -> str | None:
    """The data set whose images have as many numbers, and that has as many classes; None if there is none."""
    wanted = (prod(shape_CHW), classes)
    return next((name for name, o in _OUTLINES.items() if (prod(o.shape_CHW), len(o.class_names)) == wanted), None)


def fake_data(name: str) -> DataSet:
    """Noise of the same shape and size, or as much of it as memory holds, for measuring the loop without data."""
    known = outline(name)
    generator = torch.Generator().manual_seed(0)
    part = min(1.0, _FAKE_BYTES / (known.train_samples * prod(known.shape_CHW)))

    def table(samples: int) -> Table:
        shape_NCHW = (int(samples * part), *known.shape_CHW)
        images_NCHW = torch.randint(0, 256, shape_NCHW, dtype=torch.uint8, generator=generator)
        return Table(images_NCHW, torch.randint(0, len(known.class_names), shape_NCHW[:1], generator=generator))

    return DataSet(table(known.train_samples), table(known.test_samples), known.class_names, "noise (--fake-data)")


def _known(name: str) -> str:
    if not name:
        raise UsageError("data.name is empty, so that nothing says what the images are; set it, or data.image_size")
    if name not in DATASETS:
        raise UsageError(f"data.name: {unknown_name('data set', name, DATASETS)}")
    return name
